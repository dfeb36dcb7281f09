-- Tells which history this Redis holds, and begins a new one when messages may
-- have been lost: when it is empty, or when another server process holds it than
-- before.
--
-- KEYS: the epoch, which holds "epoch run replication". ARGV: the server's run id,
-- its replication id, the one that it had as a replica, an epoch for a new
-- history, '1' if messages count only once replicas have them: then the history
-- goes on with a promoted replica.
-- Answers with the epoch.
local epoch, run, replication = string.match(redis.call('GET', KEYS[1]) or '', '^(%d+) (%S*) (%S*)$')
if epoch and run == ARGV[1] and replication == ARGV[2] then
	return epoch
end
if not (epoch and (run == ARGV[1] or ARGV[5] == '1' and replication ~= '' and replication == ARGV[3])) then
	epoch = ARGV[4]
end
redis.call('SET', KEYS[1], epoch .. ' ' .. ARGV[1] .. ' ' .. ARGV[2])
return epoch
