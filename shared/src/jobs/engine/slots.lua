-- Slots of concurrency keys, put before the scripts that lease, settle and sweep. A job with a key is leased only while its key has a
-- free slot; those that found none wait in `parked`, ready by their `att`, until one is free. Nothing here is called in a queue that
-- never had a key (`cfg` says `keyed`).
local CKEY, SLOTS, PARKED, BLOCKED = KEYS[20], KEYS[21], KEYS[22], KEYS[23]
-- How many slots a key has where the queue does not say.
local PER_KEY = 1

-- The queue's limits are kept as <concurrency>:<rate>:<per_ms>:<per key>, each may be empty.
local function slots_per_key(limits)
  return tonumber(limits and string.match(limits, ':(%d+)$')) or PER_KEY
end

-- The jobs that hold a slot of `key`: a slot is held as long as the lease, so that a dead worker frees it.
local function holders_of(key, now)
  local text = redis.call('HGET', SLOTS, key)
  local live, ids = {}, {}
  for id in string.gmatch(text or '', '[^,]+') do
    ids[#ids + 1] = id
  end
  if #ids > 0 then
    local expiries = redis.call('ZMSCORE', KEYS[5], unpack(ids))
    for i, id in ipairs(ids) do
      if expiries[i] and tonumber(expiries[i]) > now then
        live[#live + 1] = id
      end
    end
  end
  return live
end

local function keep_holders(key, ids)
  if #ids > 0 then
    redis.call('HSET', SLOTS, key, table.concat(ids, ','))
  else
    redis.call('HDEL', SLOTS, key)
  end
end

-- Lets as many parked jobs of `key` as it has free slots go to the front of their lists, `list_of` their standing; returns whether any.
local function unpark(key, now, limits, list_of)
  local live = holders_of(key, now)
  keep_holders(key, live)
  local n_free = slots_per_key(limits) - #live
  if n_free <= 0 then
    redis.call('ZADD', BLOCKED, now + 1000, key)
    return false
  end
  local members = redis.call('ZRANGE', PARKED, '[' .. key .. '\0', '(' .. key .. '\1', 'BYLEX', 'LIMIT', 0, n_free)
  if #members == 0 then
    redis.call('ZREM', BLOCKED, key)
    return false
  end
  redis.call('ZREM', PARKED, unpack(members))
  -- Looked at again in a while: what goes now may be gone when its turn comes.
  redis.call('ZADD', BLOCKED, now + 1000, key)
  local has_any = false
  for i = #members, 1, -1 do
    local id = string.sub(members[i], #key + 2)
    local copy = redis.call('HGET', KEYS[3], id)
    if copy and string.sub(copy, 1, 1) == 'r' then
      redis.call('LPUSH', KEYS[list_of(string.sub(copy, 2))], id)
      has_any = true
    end
  end
  return has_any
end

