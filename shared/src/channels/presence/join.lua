-- Notes that clients are present, and tells it of those who were not.
--
-- ARGV  4… per client: id, <length of the user's id>:<user><info>
for at = 4, #ARGV, 2 do
  local client, entry = ARGV[at], ARGV[at + 1]
  local user, info = parts(entry)
  local before = redis.call('HGET', KEYS[1], client)
  if before and parts(before) ~= user then
    take_out(client, before)
    before = false
  end
  redis.call('HSET', KEYS[1], client, entry)
  redis.call('ZADD', KEYS[2], now + ARGV[3], client)
  if not before then
    redis.call('HINCRBY', KEYS[3], user, 1)
    tell('j', info)
  end
end
keep()
return redis.status_reply('OK')
