-- Relay rooms. Each script about them begins with this, and does then what ARGV[1]
-- says. A script first reads and refuses, then writes: it happens wholly or not at all.
--
-- KEYS, of which a script gets as many of the first ones as it needs:
-- 1 the rooms, a hash: of each room its record (see below), and under 'committed' what
--   they are committed to, summed up;
-- 2 the rooms in which nobody is, a sorted set, by the ms at which they expire, or by 0
--   once they have, and are not part of that sum any more;
-- 3 all seats, a sorted set by name alone: "node room seat client";
-- then, of one room:
-- 4 who is connected, a hash: of each client "node seat";
-- 5 who is connected or may come back, a hash: of each client "secret call", which is
--   the call that has seated it, and of that call the client;
-- 6 those who may come back, a list, who left last first;
-- 7, 8 the stream and the head of its topic (see publish.lua).
local call = redis.call
local rooms, empty, seats, connected, known, left, stream, head =
	KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7], KEYS[8]
-- The room, the channel of its topic, what an envelope begins with; most messages of
-- the stream, ms that the stream lives after its last one, ms that the head lives; ms
-- that a room lives with nobody in it; how many who left may come back.
local what, id, channel, stamp = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local length, age, headLife, life, memory = ARGV[5], ARGV[6], ARGV[7], tonumber(ARGV[8]), tonumber(ARGV[9])
local args = 9 -- the script's own follow

local time = call('TIME')
local micros = tonumber(time[1]) * 1000000 + tonumber(time[2])
local now = math.floor(micros / 1000)

local function text(number)
	return string.format('%.0f', number)
end

-- As relay.Committed.
local function committed(max)
	return math.floor((max + 4) / 5) * 5
end

-- A room's record is, in this order: its secret; how many it is for; the id of the next
-- new client; who is host, and the number of that hosting; how many are connected; and,
-- while the host is on the move, the granter, who was host before, and the target, who
-- is to be. Host is -1 then, else granter and target are; all three are when nobody is
-- connected. The granter always is, since the move ends with its seat at the latest. Last
-- comes in which history of Redis's the next id was given.
local function parse(record)
	local secret, max, next, host, fence, clients, granter, target, history = string.match(record or '',
		'^(%d+) (%d+) (%d+) (%-?%d+) (%d+) (%d+) (%-?%d+) (%-?%d+) ([%w-]+)$')
	return secret and {secret = tonumber(secret), max = tonumber(max), next = tonumber(next),
		host = tonumber(host), fence = tonumber(fence), clients = tonumber(clients),
		granter = tonumber(granter), target = tonumber(target), history = history}
end

-- Names the history of writes that this Redis has. Another one, after a failover or a
-- restart, may lack the last of what the one before it had. The embedded one does not
-- tell, and has but one.
local function history()
	local info = redis.pcall('INFO', 'replication')
	return type(info) == 'string' and string.match(info, 'master_replid:(%w+)') or '-'
end

-- The id of a new client. In another history it leaps: the last ones may have been given
-- already, and not be known here, and must not come again.
local leap = 1000
local function newClient(room)
	local here = history()
	if room.history ~= here then
		room.next, room.history = room.next + leap, here
	end
	local client = room.next
	room.next = client + 1
	return client
end

-- The room; nil when there is none, or its time is over.
local function find()
	local record = call('HGET', rooms, id)
	local ends = record and call('ZSCORE', empty, id)
	if record and not (ends and tonumber(ends) <= now) then
		return parse(record)
	end
end

local function save(room)
	call('HSET', rooms, id, table.concat({room.secret, room.max, room.next, room.host, text(room.fence), room.clients,
		room.granter, room.target, room.history}, ' '))
end

-- Makes a client host, or nobody (-1). The number of a hosting is a time, so that it does
-- not come again when Redis has lost the last ones.
local function appoint(room, client)
	if client ~= room.host then
		room.fence = math.max(room.fence + 1, micros)
	end
	room.host, room.granter, room.target = client, -1, -1
end

local function varint(n)
	local bytes = ''
	while n >= 128 do
		bytes = bytes .. string.char(n % 128 + 128)
		n = math.floor(n / 128)
	end
	return bytes .. string.char(n)
end

-- Publishes an event of the room (see relay.RoomEvent), as publish.lua does a message.
local function tell(kind, room, client, seat, gone, all)
	local fields = {'!' .. kind, room.host, text(room.fence), client, seat, #gone}
	for _, one in ipairs(gone) do
		fields[#fields + 1] = one
	end
	if all then
		local has, ids = {}, {}
		local found = call('HGETALL', connected)
		for i = 1, #found, 2 do
			local one = tonumber(found[i])
			ids[#ids + 1] = one
			has[one] = string.match(found[i + 1], '[^ ]+$')
		end
		table.sort(ids)
		fields[#fields + 1] = #ids
		for _, one in ipairs(ids) do
			fields[#fields + 1] = one
			fields[#fields + 1] = has[one]
		end
	end
	local body = table.concat(fields, ' ')
	local envelope = stamp .. '\34' .. varint(#body) .. body
	local prev = call('GET', head) or ''
	local place = call('XADD', stream, 'MAXLEN', length, '*', 'prev', prev, 'envelope', envelope)
	call('PEXPIRE', stream, age)
	call('SET', head, place, 'PX', kind == 'c' and age or headLife) -- nothing follows the end
	call('PUBLISH', channel, envelope .. '\42' .. string.char(#place) .. place .. '\50' .. string.char(#prev) .. prev)
end

-- Takes a room that is gone off the sum, and from those in which nobody is.
local function forget(room)
	if tonumber(call('ZSCORE', empty, id) or -1) ~= 0 then
		call('HINCRBY', rooms, 'committed', text(-committed(room.max)))
	end
	call('ZREM', empty, id)
end

-- Removes the room with all that is in it. What comes first needs no memory, so that
-- a Redis that has none left does it.
local function remove(room)
	local has = call('HGETALL', connected)
	call('HDEL', rooms, id)
	forget(room)
	for i = 1, #has, 2 do
		local node, seat = string.match(has[i + 1], '^([^ ]+) (.+)$')
		call('ZREM', seats, table.concat({node, id, seat, has[i]}, ' '))
	end
	call('DEL', connected, known, left)
	appoint(room, -1)
end
