-- Keeps a publication and sends it, once for each idempotency key.
--
-- KEYS  1 meta  2 history  3 idempotency  4 unsaved, see `Keys`
-- ARGV  1 pub/sub channel  2 PUBLISH or SPUBLISH  3 body  4 time in ms
--       5 publications kept; 0 keeps none and gives no offset  6 seconds they are kept  7 seconds the position is kept
--       8 an epoch for a channel without one  9 seconds the idempotency key is kept; 0 without a key
--       10 publications that may wait to be saved; 0 saves none
-- Returns offset, epoch, and `sent`, `repeated` (nothing was sent), or `full` (too many wait to be saved: nothing was done).
-- Sends p<offset>:<epoch>:<time>:<body>
local size, key_ttl, unsaved_max = tonumber(ARGV[5]), tonumber(ARGV[9]), tonumber(ARGV[10])

if key_ttl > 0 then
  local before = redis.call('GET', KEYS[3])
  if before then
    local offset, epoch = string.match(before, '^(%d+):(.*)$')
    return { tonumber(offset), epoch, 'repeated' }
  end
end

local offset, epoch = 0, ''
if size > 0 then
  if unsaved_max > 0 and redis.call('XLEN', KEYS[4]) >= unsaved_max then
    return { 0, '', 'full' }
  end
  offset, epoch = position_of(KEYS[1], KEYS[2], ARGV[8])
  offset = redis.call('HINCRBY', KEYS[1], 's', 1)
  redis.call('EXPIRE', KEYS[1], ARGV[7])
  redis.call('XADD', KEYS[2], 'MAXLEN', '=', size, offset .. '-0', 'b', ARGV[3], 't', ARGV[4])
  redis.call('EXPIRE', KEYS[2], ARGV[6])
  if unsaved_max > 0 then
    redis.call('HSETNX', KEYS[1], 'm', ARGV[4])
    local id = redis.call('HGET', KEYS[1], 'm') .. '-' .. offset
    local fields = { 'o', offset, 'e', epoch, 'b', ARGV[3], 't', ARGV[4] }
    -- After a clock went back the id of a new epoch may be below that of an old one: then any will do.
    if redis.pcall('XADD', KEYS[4], id, unpack(fields)).err then
      redis.call('XADD', KEYS[4], '*', unpack(fields))
    end
  end
end
if key_ttl > 0 then
  redis.call('SET', KEYS[3], offset .. ':' .. epoch, 'EX', key_ttl)
end
redis.call(ARGV[2], ARGV[1], 'p' .. offset .. ':' .. epoch .. ':' .. ARGV[4] .. ':' .. ARGV[3])
return { offset, epoch, 'sent' }
