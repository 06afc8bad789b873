-- Writes how far running attempts say they are into their leases, with which that vanishes.
--
-- KEYS  every key of the queue, see `Keys::queue_scripts`
-- ARGV  job-events channel, then per job: id, token, progress = <percent>:<message>
-- Returns the number written; a token that does not hold the lease writes nothing.
-- Announces that of followed jobs: <id> progress <attempt> <ms> <percent>:<message>
-- Who tells progress has begun: where its start is not noted yet, it is noted, and announced, before.
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
    local lease, is_start = string.match(leases[i], '^..:%d+:%x+:[^:]*:%d+'), string.sub(leases[i], 1, 1) == 'l'
    written[#written + 1] = id
    written[#written + 1] = (is_start and 'S' .. string.sub(lease, 2) or lease) .. ':' .. progress
    if scores and scores[i] then
      local attempt = string.match(token, '^%d+')
      if is_start then
        redis.call('PUBLISH', ARGV[1], id .. ' started ' .. attempt .. ' ' .. now)
      end
      redis.call('PUBLISH', ARGV[1], id .. ' progress ' .. attempt .. ' ' .. now .. ' ' .. progress)
    end
  end
end
if #written > 0 then
  redis.call('HSET', tok, unpack(written))
end
return #written / 2
