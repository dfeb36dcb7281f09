-- Appends messages that belong together to their topic's stream, from which nothing
-- expires, and publishes them: all of them in one step, or none.
--
-- KEYS: the stream; the head, which names the topic's last message; the note of the
-- last break, which is the epoch of the last append and the first message that was
-- appended in it. All share a slot.
-- ARGV: channel, most messages that the stream may hold before, the epoch as the node
-- knows it, and the envelopes.
-- Answers with the id of the last message, '' when the stream holds too many. To the
-- envelopes that subscribers get, id and that of the message before are added, as
-- fields 5 and 6.
local call, stream = redis.call, KEYS[1]
-- What can be refused comes before the first write. XADD is the first, since Redis
-- refuses for want of memory only before a script has written.
local held = call('XLEN', stream)
local before = call('GET', KEYS[2]) or ''
local noted = string.match(call('GET', KEYS[3]) or '', '^%d+')
if held > tonumber(ARGV[2]) then
	return ''
end
local ids = {[3] = before}
for i = 4, #ARGV do
	ids[i] = call('XADD', stream, '*', 'prev', ids[i - 1], 'envelope', ARGV[i])
end
call('SET', KEYS[2], ids[#ARGV])
if noted ~= ARGV[3] then
	call('SET', KEYS[3], ARGV[3] .. ' ' .. ids[4])
end
for i = 4, #ARGV do
	local id, prev = ids[i], ids[i - 1]
	call('PUBLISH', ARGV[1], ARGV[i] .. '\42' .. string.char(#id) .. id .. '\50' .. string.char(#prev) .. prev)
end
return ids[#ARGV]
