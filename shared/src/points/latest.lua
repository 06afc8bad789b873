-- Remembers the latest point of tracks, unless a later one is known.
--
-- KEYS  1 latest, see `Keys`
-- ARGV  pairs of a track and its point: when it was recorded in microseconds, in eighteen digits, then JSON
for at = 1, #ARGV, 2 do
  local known = redis.call('HGET', KEYS[1], ARGV[at])
  if not known or string.sub(known, 1, 18) <= string.sub(ARGV[at + 1], 1, 18) then
    redis.call('HSET', KEYS[1], ARGV[at], ARGV[at + 1])
  end
end
return 1
