-- A channel's position, and publications around an offset.
--
-- KEYS  1 meta  2 history, see `Keys`
-- ARGV  1 an epoch for a channel without one  2 seconds the position is kept  3 most publications to return
--       4 XRANGE or XREVRANGE  5 first id  6 last id
-- Returns offset, epoch, the stream's entries, and `m` of the position, see `Keys`.
local offset, epoch = position_of(KEYS[1], KEYS[2], ARGV[1])
redis.call('EXPIRE', KEYS[1], ARGV[2])
local entries = {}
if tonumber(ARGV[3]) > 0 then
  entries = redis.call(ARGV[4], KEYS[2], ARGV[5], ARGV[6], 'COUNT', ARGV[3])
end
return { offset, epoch, entries, redis.call('HGET', KEYS[1], 'm') }
