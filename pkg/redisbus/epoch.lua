-- Replaces the name of the history that this Redis holds, unless somebody else has
-- done so meanwhile.
--
-- KEYS: the epoch. ARGV: what was found there, '' for nothing; what is to be there.
-- Answers with what is there now.
local found = redis.call('GET', KEYS[1]) or ''
if found ~= ARGV[1] then
	return found
end
redis.call('SET', KEYS[1], ARGV[2])
return ARGV[2]
