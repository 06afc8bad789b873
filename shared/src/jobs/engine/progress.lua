-- Writes how far running attempts say they are into their leases, with which that vanishes.
--
-- KEYS  every key of the queue, see `Keys::queue_scripts`
-- ARGV  job-events channel, then per job: id, token, progress = <percent>:<message>
-- Returns the number written; a token that does not hold the lease writes nothing.
-- Announces that of followed jobs: <id> progress <attempt> <ms> <percent>:<message>
local tok, followed = KEYS[4], KEYS[19]

local ids = {}
for at = 2, #ARGV, 3 do
  ids[#ids + 1] = ARGV[at]
end
local leases = redis.call('HMGET', tok, unpack(ids))
local written = {}
local scores = redis.call('EXISTS', followed) == 1 and redis.call('ZMSCORE', followed, unpack(ids))
local time = redis.call('TIME')
local now = string.format('%d', time[1] * 1000 + math.floor(time[2] / 1000))
for i, id in ipairs(ids) do
  local token, progress = ARGV[3 * i], ARGV[3 * i + 1]
  if leases[i] and string.sub(leases[i], 4, 4 + #token) == token .. ':' then
    written[#written + 1] = id
    written[#written + 1] = string.match(leases[i], '^..:%d+:%x+:[^:]*:%d+') .. ':' .. progress
    if scores and scores[i] then
      redis.call('PUBLISH', ARGV[1], id .. ' progress ' .. string.match(token, '^%d+') .. ' ' .. now .. ' ' .. progress)
    end
  end
end
if #written > 0 then
  redis.call('HSET', tok, unpack(written))
end
return #written / 2
