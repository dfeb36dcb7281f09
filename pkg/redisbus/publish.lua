-- Appends a message to its topic's stream and publishes it, in one step.
--
-- KEYS: the stream; the head, which names the topic's last message for longer
-- than the stream keeps it. Both share a slot.
-- ARGV: channel, envelope, most messages of the stream, ms that the stream lives
-- after its last message, ms that the head lives.
-- Answers with the message's id. To the envelope that subscribers get, its id and
-- that of the message before are added, as fields 5 and 6.
local prev = redis.call('GET', KEYS[2]) or ''
local id = redis.call('XADD', KEYS[1], 'MAXLEN', ARGV[3], '*', 'prev', prev, 'envelope', ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
redis.call('SET', KEYS[2], id, 'PX', ARGV[5])
redis.call('PUBLISH', ARGV[1], ARGV[2] .. '\42' .. string.char(#id) .. id .. '\50' .. string.char(#prev) .. prev)
return id
