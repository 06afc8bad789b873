-- A channel's position, and publications around an offset.
--
-- KEYS  1 meta  2 history, see `Keys`
-- ARGV  1 an epoch for a channel without one  2 seconds the position is kept  3 the same where nothing is published yet
--       4 most publications to return  5 bytes with which they end  6 XRANGE or XREVRANGE  7 first id  8 last id
--       9 their epoch: in another there are none; '' is any
--       10 the offset from which all up to the last are wanted, or none; '' for any part
--       11 most entries that are read at a time  12 '1' for none where they come to more than these bytes
-- Returns offset, epoch, the stream's entries, `m` of the position, see `Keys`, and 1 where they come to more than these bytes.
local offset, epoch = position_of(KEYS[1], KEYS[2], ARGV[1])
redis.call('EXPIRE', KEYS[1], offset > 0 and ARGV[2] or ARGV[3])
local limit, since = tonumber(ARGV[4]), tonumber(ARGV[10])
local is_wanted = ARGV[9] == '' or ARGV[9] == epoch
if since then
  is_wanted = is_wanted and since < offset and offset - since <= limit
end
local entries, is_cut = {}, false
if is_wanted then
  entries, is_cut = entries_within(ARGV[6], KEYS[2], ARGV[7], ARGV[8], limit, tonumber(ARGV[5]), tonumber(ARGV[11]), 2)
end
if is_cut and ARGV[12] == '1' then
  entries = {}
end
return { offset, epoch, entries, redis.call('HGET', KEYS[1], 'm'), is_cut and 1 or 0 }
