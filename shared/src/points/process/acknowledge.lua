-- Removes entries that are stored: exactly these, since what others have pending stands among them.
--
-- KEYS  1 stream  2 depth, see `Keys`
-- ARGV  1 consumer group, then pairs of an entry's id and the number of its points
-- Returns how many entries were there.
local n_points, n_entries = 0, 0
for at = 2, #ARGV, 2 do
  redis.call('XACK', KEYS[1], ARGV[1], ARGV[at])
  if redis.call('XDEL', KEYS[1], ARGV[at]) == 1 then
    n_points, n_entries = n_points + ARGV[at + 1], n_entries + 1
  end
end
-- What a crash between counting and appending left behind goes when nothing is left.
if redis.call('XLEN', KEYS[1]) == 0 or redis.call('DECRBY', KEYS[2], n_points) < 0 then
  redis.call('SET', KEYS[2], 0)
end
return n_entries
