-- Extends leases, settling ones too, and tells what became of them meanwhile.
--
-- KEYS  every key of the queue, see `Keys::queue_scripts`
-- ARGV  lease_ms, then per lease: id, token
-- Returns {ids whose lease is lost, ids whose cancel was asked for}
local tok, leased = KEYS[4], KEYS[5]

local time = redis.call('TIME')
local expiry = time[1] * 1000 + math.floor(time[2] / 1000) + tonumber(ARGV[1])
local ids = {}
for at = 2, #ARGV, 2 do
  ids[#ids + 1] = ARGV[at]
end
local lost, cancels, extended = {}, {}, {}
local leases = redis.call('HMGET', tok, unpack(ids))
for i, id in ipairs(ids) do
  local token = ARGV[2 * i + 1]
  if leases[i] and string.sub(leases[i], 4, 4 + #token) == token .. ':' then
    extended[#extended + 1] = expiry
    extended[#extended + 1] = id
    if string.sub(leases[i], 2, 2) == 'c' then
      cancels[#cancels + 1] = id
    end
  else
    lost[#lost + 1] = id
  end
end
if #extended > 0 then
  redis.call('ZADD', leased, unpack(extended))
end
return { lost, cancels }
