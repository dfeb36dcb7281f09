-- Appends a message to its topic's stream and publishes it, in one step.
--
-- KEYS: the stream; the head, which names the topic's last message for longer
-- than the stream keeps it. Both share a slot.
-- ARGV: channel, envelope, most messages of the stream, ms that the stream lives
-- after its last message (a second less when others came in the same second), ms
-- that the head lives.
-- Answers with the message's id. To the envelope that subscribers get, its id and
-- that of the message before are added, as fields 5 and 6.
local call, stream, envelope = redis.call, KEYS[1], ARGV[2]
local prev = call('GET', KEYS[2]) or ''
local id = call('XADD', stream, 'NOMKSTREAM', 'MAXLEN', ARGV[3], '*', 'prev', prev, 'envelope', envelope)
if not id then
	id = call('XADD', stream, '*', 'prev', prev, 'envelope', envelope)
	call('PEXPIRE', stream, ARGV[4])
elseif string.sub(id, 1, 10) ~= string.sub(prev, 1, 10) then -- another second than before
	call('PEXPIRE', stream, ARGV[4])
end
call('SET', KEYS[2], id, 'PX', ARGV[5])
call('PUBLISH', ARGV[1], envelope .. '\42' .. string.char(#id) .. id .. '\50' .. string.char(#prev) .. prev)
return id
