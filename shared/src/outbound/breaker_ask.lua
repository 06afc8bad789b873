-- Whether a request may be made.
--
-- KEYS  the breaker's hash: streak (failures in a row), window (the last outcomes, 1 a failure), until (open until, in milliseconds;
--       there while it is open or half open), n_opens (since it was closed), probe_until (nobody else probes before)
-- ARGV  how long a probe may take, in milliseconds
-- Returns {'yes' | 'probe' | 'wait', milliseconds to wait}
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local noted = redis.call('HMGET', KEYS[1], 'until', 'probe_until')
if not noted[1] then
  return { 'yes', 0 }
end
if now < tonumber(noted[1]) then
  return { 'wait', tonumber(noted[1]) - now }
end
if noted[2] and now < tonumber(noted[2]) then
  return { 'wait', tonumber(noted[2]) - now }
end
redis.call('HSET', KEYS[1], 'probe_until', string.format('%d', now + tonumber(ARGV[1])))
return { 'probe', 0 }
