-- Takes the turn of one delivery.
--
-- KEYS  the endpoint's hash: next (when the turn after those taken is, in milliseconds), line (when the last of those who were put
--       off comes back)
-- ARGV  milliseconds between turns, turns that may be taken at once, longest wait in milliseconds
-- Returns the milliseconds to wait; 0 where the turn is taken
local every, burst, wait_max = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local time = redis.call('TIME')
local now = time[1] * 1000 + time[2] / 1000
local noted = redis.call('HMGET', KEYS[1], 'next', 'line')
local next_at = math.max(tonumber(noted[1] or 0), now - (burst - 1) * every)
local wait = 0
if next_at <= now then
  redis.call('HSET', KEYS[1], 'next', string.format('%.3f', next_at + every))
else
  local line = math.max(tonumber(noted[2] or 0) + every, next_at)
  if line - now > wait_max then
    line = now + wait_max
  end
  redis.call('HSET', KEYS[1], 'line', string.format('%.3f', line))
  wait = math.ceil(line - now)
end
redis.call('PEXPIRE', KEYS[1], math.ceil(math.max(wait_max, every) * 2))
return wait
