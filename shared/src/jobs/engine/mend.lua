-- Mends leases of which a part is missing. No script leaves one behind; but a Redis that loads a file cut off inside a script's
-- writes, and is then started once more, holds the half of them.
--
-- KEYS  every key of the queue, see `Keys::queue_scripts`
-- ARGV  ids of copies that were seen leased, or of leases
-- Returns the number mended.
local env, att, tok, leased = KEYS[2], KEYS[3], KEYS[4], KEYS[5]

local copies = redis.call('HMGET', att, unpack(ARGV))
local leases = redis.call('HMGET', tok, unpack(ARGV))
local expiries = redis.call('ZMSCORE', leased, unpack(ARGV))
local mended = 0
for i, id in ipairs(ARGV) do
  local is_leased = copies[i] and string.sub(copies[i], 1, 1) == 'l'
  if is_leased and leases[i] and not expiries[i] then
    -- Nobody would ever miss it: from now on it is late, and its row decides.
    redis.call('ZADD', leased, 0, id)
    mended = mended + 1
  elseif is_leased and not leases[i] then
    -- Nobody can settle it. If its row is pending, the reconciler puts it in again.
    redis.call('ZREM', leased, id)
    redis.call('HDEL', env, id)
    redis.call('HDEL', att, id)
    redis.call('HDEL', KEYS[20], id)
    mended = mended + 1
  elseif leases[i] and not is_leased then
    redis.call('HDEL', tok, id)
    redis.call('ZREM', leased, id)
    mended = mended + 1
  end
end
return mended
