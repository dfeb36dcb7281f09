-- Reads one end of a topic's journal, in one step.
--
-- KEYS: the stream; for 'newest' also the head, the note of the last break (see
-- append.lua) and the epoch. ARGV: which end, how many messages at most.
-- Answers with the oldest messages and how many there are in all; or with the newest
-- ones, newest first, the head, the note, the epoch, and the time in milliseconds.
local call = redis.call
if ARGV[1] == 'oldest' then
	return {call('XRANGE', KEYS[1], '-', '+', 'COUNT', ARGV[2]), call('XLEN', KEYS[1])}
end
local now = call('TIME')
return {
	call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', ARGV[2]),
	call('GET', KEYS[2]) or '',
	call('GET', KEYS[3]) or '',
	call('GET', KEYS[4]) or '',
	now[1] .. string.format('%03d', math.floor(tonumber(now[2]) / 1000)),
}
