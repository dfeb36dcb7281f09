-- Reaping a dead node's lease. KEYS: the hash of all names, the hash of the lease's
-- claims, the set of leases that stand, the set of those that are reaped, the lease,
-- the one that reaps it. ARGV: what to do, the lease's id, the reaper, how long it
-- has in milliseconds; then for 'take' whether the lease may still last, for 'drop'
-- names, each followed by its holder.
local names, claims, leases, dead, lease, reaper = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local what, id, me, life = ARGV[1], ARGV[2], ARGV[3], ARGV[4]

-- Takes the reaping and returns 1 and the claims; 0 when there is nothing to reap,
-- or another one does. From then on the lease does not stand: its node can neither
-- renew it nor claim under it.
if what == 'take' then
  if redis.call('SISMEMBER', leases, id) == 1 then
    if ARGV[5] == '1' then
      redis.call('DEL', lease)
    elseif redis.call('EXISTS', lease) == 1 then
      return {0}
    end
  elseif redis.call('SISMEMBER', dead, id) == 0 then
    return {0}
  end
  if not redis.call('SET', reaper, me, 'NX', 'PX', life) then
    return {0}
  end
  redis.call('SMOVE', leases, dead, id)
  local all, its = redis.call('HGETALL', claims), {}
  for i = 1, #all, 2 do
    if redis.call('HGET', names, all[i]) == id .. ' ' .. all[i + 1] then
      its[#its + 1] = all[i]
      its[#its + 1] = all[i + 1]
    else
      redis.call('HDEL', claims, all[i]) -- others have the name, since Redis had lost it
    end
  end
  return {1, its}
end

if redis.call('GET', reaper) ~= me then
  return {0} -- another one reaps it by now
end

-- Deletes claims that are still the lease's, and lets the reaper have more time.
if what == 'drop' then
  redis.call('PEXPIRE', reaper, life)
  for i = 5, #ARGV, 2 do
    if redis.call('HGET', names, ARGV[i]) == id .. ' ' .. ARGV[i + 1] then
      redis.call('HDEL', names, ARGV[i])
    end
    redis.call('HDEL', claims, ARGV[i])
  end
  return {1}
end

-- Ends the reaping: when no claim is left, for good.
redis.call('DEL', reaper)
if redis.call('HLEN', claims) > 0 then
  return {0}
end
redis.call('SREM', dead, id)
return {1}
