-- What happens in one room.

-- What is known of a client: its secret, and the call that has seated it.
local function about(client)
	return string.match(call('HGET', known, client) or '', '^(%-?%d+) (.+)$')
end

-- The next host when those leave: to whom it was granted, or else the one with the
-- lowest id; -1 when nobody is left.
local function heir(room, leaving)
	if call('HGET', connected, room.target) and not leaving[room.target] then
		return room.target
	end
	local lowest = -1
	for _, field in ipairs(call('HKEYS', connected)) do
		local client = tonumber(field)
		if not leaving[client] and (lowest < 0 or client < lowest) then
			lowest = client
		end
	end
	return lowest
end

-- Takes the clients' seats; they can come back. With the host, or with who was host and
-- has granted it, there is another one.
local function unseat(room, gone)
	local leaving, successor = {}, nil
	for _, client in ipairs(gone) do
		leaving[client] = call('HGET', connected, client)
	end
	if leaving[room.host] or leaving[room.granter] then
		successor = room.clients > #gone and heir(room, leaving) or -1
	end
	for _, client in ipairs(gone) do
		local node, seat = string.match(leaving[client], '^([^ ]+) (.+)$')
		call('HDEL', connected, client)
		call('ZREM', seats, table.concat({node, id, seat, client}, ' '))
		call('LPUSH', left, client)
	end
	for _ = math.max(memory, room.max) + 1, call('LLEN', left) do
		local client = call('RPOP', left)
		local _, seating = about(client)
		call('HDEL', known, client, seating or client)
	end
	room.clients = room.clients - #gone
	if successor then
		appoint(room, successor)
	end
	if room.clients == 0 then
		call('ZADD', empty, text(now + life), id)
	end
	save(room)
end

-- The seats that a node has in the room, as "node room seat client"; with a name only
-- the seat of that name, if there is one.
local function held(node, seat)
	local path = node .. ' ' .. id .. (seat and ' ' .. seat or '')
	return call('ZRANGEBYLEX', seats, '[' .. path .. ' ', '(' .. path .. '!') -- '!' comes right behind the space
end

-- Gives up the seats that a node has in the room, all or those of some names, and
-- returns how many. What is in no room goes, too.
if what == 'leave' or what == 'reap' then
	local room, its, gone = find(), {}, {}
	if what == 'reap' then
		its = held(ARGV[args + 1])
	end
	for i = args + 2, #ARGV do
		its[#its + 1] = held(ARGV[args + 1], ARGV[i])[1]
	end
	for _, seat in ipairs(its) do
		local node, name, client = string.match(seat, '^([^ ]+) %d+ ([^ ]+) (%d+)$')
		if room and call('HGET', connected, client) == node .. ' ' .. name then
			gone[#gone + 1] = tonumber(client)
		end
	end
	table.sort(gone)
	if #gone > 0 then
		unseat(room, gone)
		tell('l', room, -1, '-', gone)
	end
	if #gone < #its then
		for _, seat in ipairs(its) do
			call('ZREM', seats, seat)
		end
	end
	return {'ok', text(#gone)}
end

-- Removes the room if its time is over.
if what == 'expire' then
	local room, ends = parse(call('HGET', rooms, id)), call('ZSCORE', empty, id)
	if not ends or tonumber(ends) > now then
		return {'no room'}
	end
	if not room or room.clients > 0 then -- which cannot be
		call('ZREM', empty, id)
		return {'no room'}
	end
	remove(room)
	if room.next > 0 then -- else nobody was ever in it
		tell('c', room, -1, '-', {})
	end
	return {'ok'}
end

local room = find()
if not room then
	return {'no room'}
end

if what == 'close' then
	remove(room)
	if room.next > 0 then
		tell('c', room, -1, '-', {})
	end
	return {'ok'}
end

if what == 'tell' then
	tell('t', room, -1, '-', {}, true)
	return {'ok'}
end

if what == 'connected' then
	local found = {'ok', text(room.host)}
	for _, client in ipairs(call('HKEYS', connected)) do
		found[#found + 1] = client
	end
	return found
end

-- The node and name of the seat: that which is asked for, or of who asks.
local node, name = ARGV[args + 1], ARGV[args + 2]

-- Seats a client and returns its id.
local function sit(client, secret, seating)
	local _, before = about(client)
	call('HSET', known, client, secret .. ' ' .. seating, seating, client)
	if before then
		call('HDEL', known, before)
		call('LREM', left, 1, client)
	end
	call('HSET', connected, client, node .. ' ' .. name)
	call('ZADD', seats, 0, table.concat({node, id, name, client}, ' '))
	call('ZREM', empty, id)
	room.clients = room.clients + 1
	if room.clients == 1 then
		appoint(room, client)
	end
	save(room)
	tell('j', room, client, name, {}, ARGV[args + 5] == '1')
	return {'ok', text(client)}
end

-- Secrets are compared as numbers: it takes the same time whatever they are. A call
-- whose answer was lost is made again, and gets the client that it got before, also
-- when the seat was taken away meanwhile. Who comes back while another seat, that it
-- names, has not been given up, has it given up.
if what == 'join' or what == 'rejoin' then
	local secret, own, seating, client = tonumber(ARGV[args + 3]), ARGV[args + 4], ARGV[args + 6], tonumber(ARGV[args + 7])
	if secret ~= room.secret then
		return {'no room'}
	end
	local seated = call('HGET', known, seating)
	if seated then
		return {'ok', seated}
	end
	if held(node, name)[1] then
		return {'in use'}
	end
	local former
	if what == 'rejoin' then
		local secret = about(client)
		if not secret or tonumber(secret) ~= tonumber(own) then
			return {'no client'}
		end
		former = call('HGET', connected, client)
		if former and former ~= ARGV[args + 8] then
			return {'connected', former}
		end
	end
	if not former and room.clients >= room.max or what == 'join' and room.next > 2147483647 - leap then
		return {'full'}
	end
	if what == 'join' then
		client = newClient(room)
	end
	if former then
		unseat(room, {client})
		tell('l', room, -1, '-', {client})
	end
	return sit(client, own, seating)
end

-- What is left is to be done by who is host, or was.
local host = tonumber(ARGV[args + 3])
if call('HGET', connected, host) ~= node .. ' ' .. name then
	return {'no seat'}
end

-- Ends the move of the host, if it has granted one; with a fence, only the one that began
-- with it.
if what == 'assign' then
	local fence = tonumber(ARGV[args + 4])
	if room.granter == host and (not fence or fence == room.fence) then
		appoint(room, heir(room, {}))
		save(room)
		tell('g', room, host, '-', {})
	end
	return {'ok'}
end
local target = tonumber(ARGV[args + 4])
if room.host ~= host then
	return {'not host'}
end
if target == host or not call('HGET', connected, target) then
	return {'no client'}
end
if what == 'kick' then
	unseat(room, {target})
	tell('k', room, target, '-', {})
	return {'ok'}
end

-- Begins a move, and returns its fence.
if what == 'grant' then
	appoint(room, -1)
	room.granter, room.target = host, target
	save(room)
	tell('m', room, host, '-', {})
	return {'ok', text(room.fence)}
end
