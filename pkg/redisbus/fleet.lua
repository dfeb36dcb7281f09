-- A look at the fleet. KEYS: the set of leases that stand, the set of those that are
-- reaped. ARGV: what to do, and how the keys of leases and of reapers begin.

-- What the nodes tell of themselves.
if ARGV[1] == 'nodes' then
  local about = {}
  for _, id in ipairs(redis.call('SMEMBERS', KEYS[1])) do
    local text = redis.call('GET', ARGV[2] .. id)
    if text then
      about[#about + 1] = text
    end
  end
  return about
end

-- The leases that have expired, and those whose reaper has.
local expired, orphaned = {}, {}
for _, id in ipairs(redis.call('SMEMBERS', KEYS[1])) do
  if redis.call('EXISTS', ARGV[2] .. id) == 0 then
    expired[#expired + 1] = id
  end
end
for _, id in ipairs(redis.call('SMEMBERS', KEYS[2])) do
  if redis.call('EXISTS', ARGV[3] .. id) == 0 then
    orphaned[#orphaned + 1] = id
  end
end
return {expired, orphaned}
