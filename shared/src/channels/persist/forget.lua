-- Takes a channel out of the index of those with publications to be saved, unless it was registered again.
--
-- KEYS  1 the index
-- ARGV  1 channel  2 when it was registered, as was seen  3 until when registrations are old
local at = redis.call('ZSCORE', KEYS[1], ARGV[1])
if at and tonumber(at) == tonumber(ARGV[2]) and tonumber(at) < tonumber(ARGV[3]) then
  redis.call('ZREM', KEYS[1], ARGV[1])
end
return redis.status_reply('OK')
