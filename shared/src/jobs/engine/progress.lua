-- Writes how far running attempts say they are into their leases, with which that vanishes.
--
-- KEYS  every key of the queue, see `Keys::queue_scripts`
-- ARGV  per job: id, token, progress = <percent>:<message>
-- Returns the number written; a token that does not hold the lease writes nothing.
local tok = KEYS[4]

local ids = {}
for at = 1, #ARGV, 3 do
  ids[#ids + 1] = ARGV[at]
end
local leases = redis.call('HMGET', tok, unpack(ids))
local written = {}
for i, id in ipairs(ids) do
  local token, progress = ARGV[3 * i - 1], ARGV[3 * i]
  if leases[i] and string.sub(leases[i], 4, 4 + #token) == token .. ':' then
    written[#written + 1] = id
    written[#written + 1] = string.match(leases[i], '^..:%d+:%x+:[^:]*:%d+') .. ':' .. progress
  end
end
if #written > 0 then
  redis.call('HSET', tok, unpack(written))
end
return #written / 2
