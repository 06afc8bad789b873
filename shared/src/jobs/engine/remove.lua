-- Removes copies whose row is over or gone, if they still are as they were seen before the rows were read.
--
-- KEYS  every key of the queue, see `Keys::queue_scripts`
-- ARGV  per job: id, copy as it was seen (place and standing)
-- Returns the number removed. Leased copies are left to the expiry of their lease.
local env, att, delayed = KEYS[2], KEYS[3], KEYS[6]

local ids = {}
for at = 1, #ARGV, 2 do
  ids[#ids + 1] = ARGV[at]
end
local copies = redis.call('HMGET', att, unpack(ids))
local removed = {}
for i, id in ipairs(ids) do
  if copies[i] == ARGV[2 * i] and string.sub(copies[i], 1, 1) ~= 'l' then
    removed[#removed + 1] = id
  end
end
if #removed > 0 then
  redis.call('HDEL', env, unpack(removed))
  redis.call('HDEL', att, unpack(removed))
  redis.call('HDEL', KEYS[20], unpack(removed))
  redis.call('ZREM', delayed, unpack(removed))
end
return #removed
