-- Counts what must not happen too often. KEYS: the count, which expires with its
-- window. ARGV: what to do; to take, the most that may be counted and the length of
-- the window in milliseconds.
local count = tonumber(redis.call('GET', KEYS[1]) or '0')

-- Takes one count back. The next one after the last begins a window of its own.
if ARGV[1] == 'return' then
  if count > 1 then
    redis.call('DECR', KEYS[1])
  elseif count == 1 then
    redis.call('DEL', KEYS[1])
  end
  return 0
end

-- Counts once more and returns 0, or returns how long the window still lasts. What
-- would last longer than a window was given its time before the clock went back.
local most, window = tonumber(ARGV[2]), tonumber(ARGV[3])
if count == 0 then
  redis.call('SET', KEYS[1], 1, 'PX', window)
  return 0
end
local left = redis.call('PTTL', KEYS[1])
if left < 0 or left > window then
  redis.call('PEXPIRE', KEYS[1], window)
  left = window
end
if count >= most then
  return math.max(left, 1)
end
redis.call('INCR', KEYS[1])
return 0
