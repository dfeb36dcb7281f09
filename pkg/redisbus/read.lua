-- Reads what a topic keeps after a place.
--
-- KEYS: the stream, its head, the epoch. ARGV: the id of the place, '' for the
-- beginning; how many messages at most.
-- Answers with the epoch, the head, 1 if the place is in the stream, else 0, and
-- the messages. If the place is not in the stream and the oldest message there
-- does not follow it either, only what is newer than the place comes.
local epoch = redis.call('GET', KEYS[3]) or ''
local head = redis.call('GET', KEYS[2]) or ''
local after, count = ARGV[1], tonumber(ARGV[2])
if after ~= '' then
	local found = redis.call('XRANGE', KEYS[1], after, '+', 'COUNT', count + 1)
	if found[1] and found[1][1] == after then
		table.remove(found, 1)
		return {epoch, head, 1, found}
	end
	local oldest = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1]
	if oldest and oldest[2][2] ~= after then
		if #found > count then
			table.remove(found)
		end
		return {epoch, head, 0, found}
	end
end
return {epoch, head, 0, redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', count)}
