-- Moves due jobs from `delayed` to their ready list (suspects to `quarantine`), and reads (does not touch) the leases that have expired.
--
-- KEYS  every key of the queue, see `Keys::queue_scripts`
-- ARGV  limit, doorbell channel, queue name
-- Returns {known, n_promoted, expired × (id, lease, standing, when), rebuilding, at_rest}
--       known = 1 when this Redis is the one that the queue was loaded into; both lists are cut at `limit`
--       rebuilding = 1 while what it holds is not complete yet
--       at_rest = 1 while nothing is leased, delayed or waiting for a slot: until the doorbell rings, time changes nothing here
local cfg, att, tok, leased, delayed, watched = KEYS[1], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7]
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
local limit = tonumber(ARGV[1])

local run_id = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
local noted = redis.call('HMGET', cfg, 'run_id', 'rebuilding', 'keyed', 'limits')
local known, rebuilding = noted[1] == run_id and 1 or 0, noted[2] and 1 or 0

local due = redis.call('ZRANGE', delayed, '-inf', now, 'BYSCORE', 'LIMIT', 0, limit)
if #due > 0 then
  local copies = redis.call('HMGET', att, unpack(due))
  local standings, pushes = {}, {}
  for i, id in ipairs(due) do
    if copies[i] and string.sub(copies[i], 1, 1) == 'd' then
      local standing = string.sub(copies[i], 2)
      local list = list_of(standing)
      standings[#standings + 1] = id
      standings[#standings + 1] = 'r' .. standing
      pushes[list] = pushes[list] or {}
      table.insert(pushes[list], id)
    end
  end
  redis.call('ZREM', delayed, unpack(due))
  if #standings > 0 then
    redis.call('HSET', att, unpack(standings))
    for list, pushed in pairs(pushes) do
      redis.call('RPUSH', KEYS[list], unpack(pushed))
    end
    redis.call('PUBLISH', ARGV[2], ARGV[3])
  end
end

if noted[3] then
  -- Keys whose slots were freed unseen: a lease expired, or their number was raised.
  local rings = false
  for _, key in ipairs(redis.call('ZRANGE', BLOCKED, '-inf', now, 'BYSCORE', 'LIMIT', 0, limit)) do
    rings = unpark(key, now, noted[4], list_of) or rings
  end
  if rings then
    redis.call('PUBLISH', ARGV[2], ARGV[3])
  end
end

local expired = {}
local late, since = {}, {}
for i, value in ipairs(redis.call('ZRANGE', leased, '-inf', now, 'BYSCORE', 'LIMIT', 0, limit, 'WITHSCORES')) do
  local list = i % 2 == 1 and late or since
  list[#list + 1] = value
end
if #late > 0 then
  local leases = redis.call('HMGET', tok, unpack(late))
  local copies = redis.call('HMGET', att, unpack(late))
  for i, id in ipairs(late) do
    if leases[i] and copies[i] then
      expired[#expired + 1] = id
      expired[#expired + 1] = leases[i]
      expired[#expired + 1] = string.sub(copies[i], 2)
      expired[#expired + 1] = since[i]
    else
      redis.call('ZREM', leased, id)
    end
  end
end
redis.call('ZREMRANGEBYSCORE', watched, '-inf', now)
redis.call('ZREMRANGEBYSCORE', KEYS[19], '-inf', now)
local at_rest = redis.call('EXISTS', leased, delayed, BLOCKED) == 0 and 1 or 0
return { known, #due, expired, rebuilding, at_rest }
