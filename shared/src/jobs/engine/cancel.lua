-- Takes one waiting copy out of the race, by leasing it to the caller; a running one is told that its cancel was asked for.
--
-- KEYS  every key of the queue, see `Keys::queue_scripts`
-- ARGV  id, nonce, holder, lease_ms, flag, doorbell channel, queue name
--       flag 's' (settling: a cancel is about to be written) or 'l' (goes back unspent if the caller dies);
--       an empty doorbell channel asks nothing of a running job
-- Returns {'taken', standing} | {'running'} | {'settling'} | {'absent'}
local att, tok, leased, delayed = KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local id = ARGV[1]

local copy = redis.call('HGET', att, id)
if not copy then
  return { 'absent' }
end
local place, priority, attempt, rest = string.match(copy, '^(%a)(%d):(%d+)(.*)$')
if place == 'l' then
  local lease = redis.call('HGET', tok, id)
  if lease and string.sub(lease, 1, 1) == 's' then
    return { 'settling' }
  end
  if lease and ARGV[6] ~= '' then
    redis.call('HSET', tok, id, string.sub(lease, 1, 1) .. 'c' .. string.sub(lease, 3))
    redis.call('PUBLISH', ARGV[6], ARGV[7] .. ' ' .. id)
  end
  return { 'running' }
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
attempt = attempt + 1
local standing = priority .. ':' .. attempt .. rest
redis.call('HSET', att, id, 'l' .. standing)
redis.call('HSET', tok, id, ARGV[5] .. '-:' .. attempt .. ':' .. ARGV[2] .. ':' .. ARGV[3] .. ':' .. now)
redis.call('ZADD', leased, now + tonumber(ARGV[4]), id)
redis.call('ZREM', delayed, id)
return { 'taken', standing }
