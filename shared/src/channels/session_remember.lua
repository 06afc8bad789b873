-- Remembers a subscription of a user.
--
-- KEYS  1 the user's subscriptions
-- ARGV  1 channel  2 what is told of it  3 channels that there may be  4 seconds they are remembered
-- Returns 1, or 0 when there are as many already.
if redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[3]) and redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then
  return 0
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('EXPIRE', KEYS[1], ARGV[4])
return 1
