-- Claims of one lease. KEYS: the hash of all names, the hash of the lease's claims,
-- the set of leases that stand. ARGV: what to do, the lease's id, then names, each
-- followed by its holder. A name's value is the lease's id, a space, the holder.
local names, claims, leases = KEYS[1], KEYS[2], KEYS[3]
local what, id = ARGV[1], ARGV[2]

-- Returns 1 for each name that is the holder's now, 0 for one that is another
-- lease's; nothing when the lease does not stand. Who of the lease's node has a name
-- is for the node to know.
if what == 'claim' then
  local taken = {}
  if redis.call('SISMEMBER', leases, id) == 0 then
    return taken
  end
  for i = 3, #ARGV, 2 do
    local has = redis.call('HGET', names, ARGV[i])
    if not has or string.sub(has, 1, #id + 1) == id .. ' ' then
      redis.call('HSET', names, ARGV[i], id .. ' ' .. ARGV[i + 1])
      redis.call('HSET', claims, ARGV[i], ARGV[i + 1])
      taken[#taken + 1] = 1
    else
      taken[#taken + 1] = 0
    end
  end
  return taken
end

-- Gives back the names that their holders have, and returns how many that were. What
-- is being reaped is the reaper's.
if what == 'release' then
  local released = 0
  if redis.call('SISMEMBER', leases, id) == 0 then
    return released
  end
  for i = 3, #ARGV, 2 do
    if redis.call('HGET', names, ARGV[i]) == id .. ' ' .. ARGV[i + 1] then
      redis.call('HDEL', names, ARGV[i])
      released = released + 1
    end
    if redis.call('HGET', claims, ARGV[i]) == ARGV[i + 1] then
      redis.call('HDEL', claims, ARGV[i])
    end
  end
  return released
end

-- Who has a name.
if what == 'holder' then
  return redis.call('HGET', names, ARGV[3]) or ''
end

-- All claims of the lease.
return redis.call('HGETALL', claims)
