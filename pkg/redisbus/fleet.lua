-- A look at the fleet. KEYS: the set of leases that stand, the set of those that are
-- reaped. ARGV: what to do, how the keys of leases and of reapers begin, and
-- how long these last in milliseconds.

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

-- The leases that have expired, and those whose reaper has. What would last longer
-- than it was given was given it before the clock went back.
local function lasts(key, life)
  local left = redis.call('PTTL', key)
  if left > tonumber(life) then
    redis.call('PEXPIRE', key, life)
  end
  return left ~= -2
end
local expired, orphaned = {}, {}
for _, id in ipairs(redis.call('SMEMBERS', KEYS[1])) do
  if not lasts(ARGV[2] .. id, ARGV[4]) then
    expired[#expired + 1] = id
  end
end
for _, id in ipairs(redis.call('SMEMBERS', KEYS[2])) do
  if not lasts(ARGV[3] .. id, ARGV[5]) then
    orphaned[#orphaned + 1] = id
  end
end
return {expired, orphaned}
