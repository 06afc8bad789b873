-- Takes clients out, and tells it.
--
-- ARGV  4… ids of clients
for at = 4, #ARGV do
  local entry = redis.call('HGET', KEYS[1], ARGV[at])
  if entry then
    take_out(ARGV[at], entry)
  end
end
return redis.status_reply('OK')
