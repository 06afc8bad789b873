-- Keeps clients present.
--
-- ARGV  4… ids of clients
-- Returns those that are not known: they have to join again.
local unknown = {}
for at = 4, #ARGV do
  if redis.call('HEXISTS', KEYS[1], ARGV[at]) == 1 then
    redis.call('ZADD', KEYS[2], now + ARGV[3], ARGV[at])
  else
    unknown[#unknown + 1] = ARGV[at]
  end
end
keep()
return unknown
