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

-- Members of `parked` that are looked at together once one is of no use, and how many of those (cancelled, purged) one call drops
-- before it leaves the rest to the next sweep.
local LOOK, STALE_MAX = 100, 500
local n_stale = 0

-- Up to `count` jobs of `key` that are parked and ready still, taken out of `parked`, in order; and whether there may be more.
local function take_parked(key, count)
  local ready, n = {}, count
  while true do
    local members = redis.call('ZRANGE', PARKED, '[' .. key .. '\0', '(' .. key .. '\1', 'BYLEX', 'LIMIT', 0, n)
    if #members == 0 then
      return ready, false
    end
    local ids, seen = {}, {}
    for i, member in ipairs(members) do
      ids[i] = string.sub(member, #key + 2)
    end
    local copies = redis.call('HMGET', KEYS[3], unpack(ids))
    for i, copy in ipairs(copies) do
      if #ready == count then
        break
      end
      seen[i] = members[i]
      if copy and string.sub(copy, 1, 1) == 'r' then
        ready[#ready + 1] = { ids[i], string.sub(copy, 2) }
      else
        n_stale = n_stale + 1
      end
    end
    redis.call('ZREM', PARKED, unpack(seen))
    if #ready == count or n_stale >= STALE_MAX then
      return ready, true
    end
    n = LOOK
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
  local ready, has_more = take_parked(key, n_free)
  if #ready == 0 and not has_more then
    redis.call('ZREM', BLOCKED, key)
    return false
  end
  -- Looked at again in a while: what goes now may be gone when its turn comes. At once where the call was cut short.
  redis.call('ZADD', BLOCKED, has_more and #ready < n_free and now or now + 1000, key)
  for i = #ready, 1, -1 do
    redis.call('LPUSH', KEYS[list_of(ready[i][2])], ready[i][1])
  end
  return #ready > 0
end
