-- A node's lease. KEYS: the set of leases that stand, the lease, the birth of the
-- data. ARGV: what to do, the lease's id, what the node tells of itself, how long
-- the lease lasts in milliseconds, and a birth.
local leases, lease, birth = KEYS[1], KEYS[2], KEYS[3]
local what, id, about, life, born = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]

-- Takes a new lease and returns the birth, which is the given one when there was none.
if what == 'take' then
  redis.call('SET', birth, born, 'NX')
  redis.call('SADD', leases, id)
  redis.call('SET', lease, about, 'PX', life)
  return redis.call('GET', birth)
end

-- Renews one. What has expired stands as long as nobody has begun to reap it.
if redis.call('GET', birth) ~= born then
  return 'forgotten' -- Redis holds other data than when the lease was taken
end
if redis.call('SISMEMBER', leases, id) == 0 then
  return 'reaped'
end
local stood = redis.call('EXISTS', lease)
redis.call('SET', lease, about, 'PX', life)
if stood == 1 then
  return 'stood'
end
return 'expired'
