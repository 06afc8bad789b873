-- Takes up to `wanted` tokens from one bucket.
-- KEYS[1]  the bucket: microseconds at which it is full
-- ARGV[1]  microseconds one token takes to refill
-- ARGV[2]  capacity in tokens
-- ARGV[3]  tokens wanted
-- returns  { granted, remaining, microseconds until full, microseconds until one token (0 if granted) }
local interval, limit, wanted = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local full_at = math.max(tonumber(redis.call('GET', KEYS[1]) or '0'), now)
local free = math.max(now + interval * limit - full_at, 0)
local available = math.min(math.floor(free / interval), limit)
local granted = math.min(available, wanted)
local retry = 0
if granted > 0 then
  full_at = full_at + granted * interval
  redis.call('SET', KEYS[1], string.format('%.0f', full_at), 'PX', math.ceil((full_at - now) / 1000))
else
  retry = interval - free % interval
end
return { granted, available - granted, full_at - now, retry }
