-- Puts copies of rows into a queue. A copy replaces an older one and never a newer one, so a replay is harmless.
--
-- KEYS  every key of the queue, see `Keys::queue_scripts`
-- ARGV  doorbell channel, queue name, as_of_ms, places, then per job: id, standing, run_at_ms, envelope,
--       concurrency key ('': none)
--       as_of_ms is Redis' time from before the rows were read, refused when more than 5 s old; 0 = just committed
--       places 'kept', or 'lost' while the queue is rebuilt: whatever is not leased by a whole lease is placed again
-- Returns the number of copies written, or -1 when as_of_ms is too old.
local env, att, tok, leased, delayed = KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local READY, QUARANTINE = 8, 18

-- Whether a standing, or a copy with its place before it, is a suspect's: its process crashed while it ran, and it runs alone
-- from now on. A standing of five numbers, as the release before wrote them, has no crashes.
local function is_suspect(standing)
  return string.sub(standing, -2) ~= ':0' and string.match(standing, '^%a?%d:%d+:%d+:%d+:%d+:[1-9]') ~= nil
end

-- The list that a ready job waits in.
local function list_of(standing)
  return is_suspect(standing) and QUARANTINE or READY + tonumber(string.sub(standing, 1, 1))
end

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local as_of, places_lost = tonumber(ARGV[3]), ARGV[4] == 'lost'
if as_of > 0 and now - as_of > 5000 then
  return -1
end

local ids = {}
for at = 5, #ARGV, 5 do
  ids[#ids + 1] = ARGV[at]
end
if #ids == 0 then
  return 0
end
local copies = redis.call('HMGET', att, unpack(ids))
local leases, expiries
if places_lost then
  leases, expiries = redis.call('HMGET', tok, unpack(ids)), redis.call('ZMSCORE', leased, unpack(ids))
end

local envelopes, standings, pushes, delays, stolen = {}, {}, {}, {}, {}
local undelayed, written, rings, keys = {}, 0, false, {}
for i, id in ipairs(ids) do
  local at = 5 * i
  local standing, run_at, envelope = ARGV[at + 1], tonumber(ARGV[at + 2]), ARGV[at + 3]
  local attempt = tonumber(string.match(standing, '^%d:(%d+)'))
  local place, copied
  if copies[i] then
    place, copied = string.match(copies[i], '^(%a)%d:(%d+)')
    copied = tonumber(copied)
  end
  local is_older = place and attempt < copied
  if is_older and places_lost and not (place == 'l' and leases[i] and expiries[i]) then
    -- Its deliveries since the row was written stay counted.
    standing, is_older = string.sub(copies[i], 2), false
  end
  -- A lease above the row's attempt is being worked on; a waiting copy above it has been delivered and come back.
  if not is_older then
    written = written + 1
    if place == 'l' then
      stolen[#stolen + 1] = id
    end
    envelopes[#envelopes + 1] = id
    envelopes[#envelopes + 1] = envelope
    if ARGV[at + 4] ~= '' then
      keys[#keys + 1] = id
      keys[#keys + 1] = ARGV[at + 4]
    end
    standings[#standings + 1] = id
    if run_at <= now then
      standings[#standings + 1] = 'r' .. standing
      if place == 'd' then
        undelayed[#undelayed + 1] = id
      end
      -- A ready copy keeps its turn; one that became a suspect meanwhile is sorted out when its turn comes.
      if place ~= 'r' or places_lost then
        local list = list_of(standing)
        pushes[list] = pushes[list] or {}
        table.insert(pushes[list], id)
        rings = true
      end
    else
      standings[#standings + 1] = 'd' .. standing
      delays[#delays + 1] = run_at
      delays[#delays + 1] = id
    end
  end
end

if written > 0 then
  -- What the reconciler copies was counted when it came.
  if as_of == 0 then
    redis.call('HINCRBY', KEYS[1], 'n_in', written)
  end
  -- In this order: of a script that a Redis loads by half, nothing is left that the reconciler cannot see.
  if #keys > 0 then
    redis.call('HSET', KEYS[1], 'keyed', '1')
    redis.call('HSET', KEYS[20], unpack(keys))
  end
  redis.call('HSET', att, unpack(standings))
  redis.call('HSET', env, unpack(envelopes))
end
if #stolen > 0 then
  redis.call('HDEL', tok, unpack(stolen))
  redis.call('ZREM', leased, unpack(stolen))
end
if #undelayed > 0 then
  redis.call('ZREM', delayed, unpack(undelayed))
end
if #delays > 0 then
  -- The leader looks at a queue at rest more rarely.
  rings = rings or redis.call('EXISTS', delayed) == 0
  redis.call('ZADD', delayed, unpack(delays))
end
for list, pushed in pairs(pushes) do
  redis.call('RPUSH', KEYS[list], unpack(pushed))
end
if rings then
  redis.call('PUBLISH', ARGV[1], ARGV[2])
end
return written
