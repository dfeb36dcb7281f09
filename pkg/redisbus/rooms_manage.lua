-- Rooms as those see them who manage them: without their clients.

-- Rooms whose time is over are there until they are swept, and count no more.

-- What all rooms are committed to, and rooms whose time is over that were still in the
-- sum, but are not in the result: as many as bring it down to enough, and no more than
-- most of them.
local function total(enough, most)
	local sum, over = tonumber(call('HGET', rooms, 'committed') or '0'), {}
	if sum <= enough then
		return sum, over
	end
	for _, one in ipairs(call('ZRANGEBYSCORE', empty, '(0', now, 'LIMIT', 0, most)) do
		local room = parse(call('HGET', rooms, one))
		sum = sum - (room and committed(room.max) or 0)
		over[#over + 1] = one
		if sum <= enough then
			break
		end
	end
	return sum, over
end

-- Makes a room under the first of some ids that is free. Who asks again, with the same
-- ids and secret, since the answer was lost, gets the room that there is.
if what == 'create' then
	local max, most, secret, free = tonumber(ARGV[args + 1]), tonumber(ARGV[args + 2]), ARGV[args + 3], nil
	for i = args + 4, #ARGV do
		id = ARGV[i]
		local record = call('HGET', rooms, id)
		local room = parse(record)
		if room and room.secret == tonumber(secret) and room.max == max and find() then
			return {'ok', id, record}
		end
		if not record then
			free = free or id
		end
	end
	-- Each room counts for 5 or more: so many make room enough.
	local sum, over = total(most - committed(max), committed(max) / 5)
	if sum + committed(max) > most then
		return {'rooms full'}
	end
	if not free then
		return {'taken'}
	end
	id = free
	save({secret = tonumber(secret), max = max, next = 0, host = -1, fence = 0, clients = 0, granter = -1, target = -1, history = history()})
	call('HSET', rooms, 'committed', text(sum + committed(max)))
	for _, one in ipairs(over) do
		call('ZADD', empty, 0, one)
	end
	call('ZADD', empty, text(now + life), id)
	return {'ok', id, call('HGET', rooms, id)}
end

-- Removes the room that was made under one of some ids, with a secret that nobody was
-- told, if there is one and nobody was ever in it. It returns how many.
if what == 'unmake' then
	local secret, gone = tonumber(ARGV[args + 1]), 0
	for i = args + 2, #ARGV do
		id = ARGV[i]
		local room = parse(call('HGET', rooms, id))
		if room and room.secret == secret and room.next == 0 then
			call('HDEL', rooms, id)
			forget(room)
			gone = gone + 1
		end
	end
	return {'ok', text(gone)}
end

if what == 'room' then
	if find() then
		return {'ok', call('HGET', rooms, id)}
	end
	return {'no room'}
end

-- All rooms, each with its record.
if what == 'list' then
	local gone = {committed = true}
	for _, one in ipairs(call('ZRANGEBYSCORE', empty, '-inf', now)) do
		gone[one] = true
	end
	local all, found = call('HGETALL', rooms), {'ok'}
	for i = 1, #all, 2 do
		if not gone[all[i]] then
			found[#found + 1] = all[i]
			found[#found + 1] = all[i + 1]
		end
	end
	return found
end

-- Sums over all rooms; at most so many whose time is over are looked at.
if what == 'totals' then
	local count = call('HLEN', rooms) - call('HEXISTS', rooms, 'committed') - call('ZCOUNT', empty, '-inf', now)
	local sum = total(0, ARGV[args + 1])
	return {'ok', text(count), text(call('ZCARD', seats)), text(sum)}
end

-- The first rooms whose time is over.
if what == 'over' then
	local found = call('ZRANGEBYSCORE', empty, '-inf', now, 'LIMIT', 0, ARGV[args + 1])
	table.insert(found, 1, 'ok')
	return found
end

-- The nodes that have seats.
local nodes, from = {'ok'}, '-'
while true do
	local seat = call('ZRANGEBYLEX', seats, from, '+', 'LIMIT', 0, 1)[1]
	local node = string.match(seat or '', '^([^ ]+) ')
	if not node then
		return nodes
	end
	nodes[#nodes + 1] = node
	from = '(' .. node .. '!' -- which comes right behind the space
end
