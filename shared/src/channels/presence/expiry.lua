-- Put before each script of presence.
--
-- KEYS  1 clients  2 expiries  3 users, see `Keys::channel_presence`
-- ARGV  1 pub/sub channel on which joins and leaves are told, '' where they are not  2 PUBLISH or SPUBLISH
--       3 milliseconds that a client counts as present
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

-- <length of the user's id>:<user><info>
local function parts(entry)
  local length, rest = string.match(entry, '^(%d+):(.*)$')
  return string.sub(rest, 1, length), string.sub(rest, length + 1)
end

local function tell(kind, info)
  if ARGV[1] ~= '' then
    redis.call(ARGV[2], ARGV[1], kind .. info)
  end
end

local function take_out(client, entry)
  local user, info = parts(entry)
  redis.call('HDEL', KEYS[1], client)
  redis.call('ZREM', KEYS[2], client)
  if redis.call('HINCRBY', KEYS[3], user, -1) <= 0 then
    redis.call('HDEL', KEYS[3], user)
  end
  tell('l', info)
end

local function keep()
  for _, key in ipairs(KEYS) do
    redis.call('PEXPIRE', key, 2 * ARGV[3])
  end
end

-- Those whose process died without taking them out. At most so many at once: the next call goes on.
for _, client in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now, 'LIMIT', 0, 500)) do
  local entry = redis.call('HGET', KEYS[1], client)
  if entry then
    take_out(client, entry)
  else
    redis.call('ZREM', KEYS[2], client)
  end
end

