-- Who is present at a topic.
--
-- KEYS: the hash that says of each member how many nodes have it; the hash of the last
-- change's number, of the epoch that it belongs to, and of the names of the nodes' sets
-- of members; but for 'members' the set of one node; but for 'check' the epoch. All
-- share a slot.
-- ARGV: what to do, how long the keys live in milliseconds; then the channel, what an
-- envelope begins with, and what there is to do.
local call = redis.call
local members, numbers, own = KEYS[1], KEYS[2], KEYS[3]
local what, life, channel, stamp = ARGV[1], ARGV[2], ARGV[3], ARGV[4]

-- Everybody who is present, and the number of the last change.
if what == 'members' then
	return {call('HKEYS', members), call('HGET', numbers, 'last') or '0'}
end

-- Has the keys live on, and returns how many members the node has.
local function live()
	local has = call('SCARD', own)
	if has > 0 then
		call('HSETNX', numbers, own, '')
	else
		call('HDEL', numbers, own)
	end
	for i = 1, 3 do
		if call('PTTL', KEYS[i]) < tonumber(life) / 2 then
			call('PEXPIRE', KEYS[i], life)
		end
	end
	return has
end

if what == 'check' then
	return live()
end

-- In an epoch of its own the numbers leap: Redis may have lost the last ones, and
-- numbers must not come again.
local named = false
local function number()
	local epoch = string.match(call('GET', KEYS[4]) or '', '^%d+') or ''
	if not named and call('HGET', numbers, 'epoch') ~= epoch then
		local time = call('TIME')
		local now = time[1] .. string.format('%06d', tonumber(time[2]))
		if tonumber(call('HGET', numbers, 'last') or '0') < tonumber(now) then
			call('HSET', numbers, 'last', now)
		else -- the clock went back
			call('HINCRBY', numbers, 'last', 1)
		end
		call('HSET', numbers, 'epoch', epoch)
	end
	named = true
	return string.format('%.0f', call('HINCRBY', numbers, 'last', 1))
end

local function tell(sign, member)
	local size = #member < 128 and string.char(#member)
		or string.char(#member % 128 + 128, math.floor(#member / 128))
	local body = sign .. number()
	call('PUBLISH', channel, stamp .. '\18' .. size .. member .. '\34' .. string.char(#body) .. body)
end

local function gone(member)
	if call('HINCRBY', members, member, -1) <= 0 then
		call('HDEL', members, member)
		tell('-', member)
	end
end

-- Members that the node has from now on, each after a '+', or has not, after a '-'.
if what == 'change' then
	for i = 5, #ARGV do
		local sign, member = string.sub(ARGV[i], 1, 1), string.sub(ARGV[i], 2)
		if sign == '-' then
			if call('SREM', own, member) == 1 then
				gone(member)
			end
		elseif call('SADD', own, member) == 1 and call('HINCRBY', members, member, 1) == 1 then
			tell('+', member)
		end
	end
	return live()
end

-- Takes back some members of a node that is no more, and returns how many are left.
for _, member in ipairs(call('SPOP', own, ARGV[5])) do
	gone(member)
end
return live()
