-- Extends leases, settling ones too, and tells what became of them meanwhile.
--
-- KEYS  every key of the queue, see `Keys::queue_scripts`
-- ARGV  lease_ms, then per lease: id, token, the milliseconds that it may last in all ('' for as long as it is extended)
-- Returns {ids whose lease is lost, ids whose cancel was asked for}; a lease that has lasted as long as it may is lost, and left to the
--       sweep, which knows it by when it expired
local tok, leased = KEYS[4], KEYS[5]

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local expiry = now + tonumber(ARGV[1])
local ids = {}
for at = 2, #ARGV, 3 do
  ids[#ids + 1] = ARGV[at]
end
local lost, cancels, extended = {}, {}, {}
local leases = redis.call('HMGET', tok, unpack(ids))
for i, id in ipairs(ids) do
  local token, limit = ARGV[3 * i], ARGV[3 * i + 1]
  local holds = leases[i] and string.sub(leases[i], 4, 4 + #token) == token .. ':'
  local ends = expiry
  if holds and limit ~= '' then
    ends = math.min(expiry, string.match(leases[i], '^..:%d+:%x+:[^:]*:(%d+)') + limit)
  end
  if holds and ends > now then
    extended[#extended + 1] = ends
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
