-- Notes what a request came to.
--
-- KEYS  the breaker's hash, see breaker_ask.lua
-- ARGV  1 when it went well, open_ms, open_max_ms, failures in a row that open it, outcomes remembered, forget_ms
-- Returns 1 when it is open now
local is_well = ARGV[1] == '1'
local open_ms, open_max_ms = tonumber(ARGV[2]), tonumber(ARGV[3])
local streak_max, window_max = tonumber(ARGV[4]), tonumber(ARGV[5])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local noted = redis.call('HMGET', KEYS[1], 'streak', 'window', 'until', 'n_opens')

local function open(n_opens)
  local open_for = math.min(open_ms * 2 ^ n_opens, open_max_ms)
  redis.call('HSET', KEYS[1], 'until', string.format('%d', now + open_for), 'n_opens', math.min(n_opens + 1, 30))
  redis.call('HDEL', KEYS[1], 'probe_until', 'window')
  redis.call('PEXPIRE', KEYS[1], ARGV[6])
  return 1
end

if noted[3] then
  if now < tonumber(noted[3]) then
    -- A request from before it opened.
    return 1
  end
  if is_well then
    redis.call('DEL', KEYS[1])
    return 0
  end
  redis.call('HINCRBY', KEYS[1], 'streak', 1)
  return open(tonumber(noted[4] or 0))
end

local streak = is_well and 0 or tonumber(noted[1] or 0) + 1
local window = string.sub((noted[2] or '') .. (is_well and '0' or '1'), -window_max)
local _, n_failed = string.gsub(window, '1', '1')
redis.call('HSET', KEYS[1], 'streak', streak, 'window', window)
if not is_well and (streak >= streak_max or (#window == window_max and n_failed * 2 >= window_max)) then
  return open(0)
end
redis.call('PEXPIRE', KEYS[1], ARGV[6])
return 0
