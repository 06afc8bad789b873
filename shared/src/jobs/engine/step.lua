-- One beat of a lease holder on one queue: finishes what is settled in PostgreSQL, marks outcomes as settling, notes
-- started attempts, leases more. Everything that carries a token is refused unless that token holds the lease.
--
-- KEYS  every key of the queue, see `Keys::queue_scripts`
-- ARGV  nonce, worker, lease_ms, want, fair_every, job-ends channel, n_finish, n_mark, n_started, lease_from, job-events
--       channel, doorbell channel, queue name, then
--       n_finish × (id, token, action, detail, standing):
--         'end'      the row is over; detail = its state, '' when nobody needs to hear it
--         'requeue'  the row is pending; detail = run_at_ms
--         'release'  handed back unstarted, to the front of its list
--         'return'   an expired, unstarted lease goes back, unless its holder has been heard of since
--       n_mark × (id, token), n_started × (id, token)
--       token = <attempt>:<nonce>; standing = <priority>:<attempt>:<failures>:<snoozes>:<returns>:<crashes>
--       lease_from = 'ready', or 'quarantine' for a child that runs suspects, one at a time
-- Returns {status, refused marks, requeued although a cancel was asked for, leased × (id, standing, envelope), more, again_ms}
--       status 'ok', 'paused', or 'unknown' (this Redis is not the one that the queue was loaded into: nothing leased)
--       more = 0 where a limit of the queue leaves no room: the doorbell rings when a lease ends, and in again_ms (0: no
--       such time) the rate lets the next job go
-- Announces starts, requeues and ends of followed jobs: <id> <started, requeued, or the state it ended in> <attempt> <ms>; after a
--       requeue of what had begun also when it was leased
local cfg, env, att, tok, leased, delayed, watched = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7]
local READY, QUARANTINE, followed = 8, 18, KEYS[19]

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local nonce, worker = ARGV[1], ARGV[2]
local lease_ms, want, fair_every = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local n_finish, n_mark, n_started = tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9])
local lease_from = ARGV[10]
local at = 14

-- Whether a standing, or a copy with its place before it, is a suspect's: its process crashed while it ran, and it runs alone
-- from now on. A standing of five numbers, as the release before wrote them, has no crashes.
local function is_suspect(standing)
  return string.sub(standing, -2) ~= ':0' and string.match(standing, '^%a?%d:%d+:%d+:%d+:%d+:[1-9]') ~= nil
end

-- The list that a ready job waits in.
local function list_of(standing)
  return is_suspect(standing) and QUARANTINE or READY + tonumber(string.sub(standing, 1, 1))
end

-- A lease is kept as <flag><cancel>:<token>:<worker>:<since_ms>[:<progress>]; flag 'l' leased, 'S' started, 's' settling; cancel 'c' or '-'.
local function holds(lease, token)
  return lease and string.sub(lease, 4, 4 + #token) == token .. ':'
end

local function column(count, width)
  local values = {}
  for i = 0, count - 1 do
    values[i + 1] = ARGV[at + i * width]
  end
  return values
end

-- One question for both, so that what nobody wants to hear costs next to nothing.
local is_anyone_listening = n_finish + n_started > 0 and redis.call('EXISTS', watched, followed) > 0

-- Events of followed jobs; '' is none. A token begins with its attempt. `details`, where there are any, end the lines.
local function tell_followers(ids, events, tokens, details)
  local scores = redis.call('ZMSCORE', followed, unpack(ids))
  for i, id in ipairs(ids) do
    if scores[i] and events[i] ~= '' then
      local attempt = string.match(tokens[i], '^%d+')
      redis.call('PUBLISH', ARGV[11], id .. ' ' .. events[i] .. ' ' .. attempt .. ' ' .. string.format('%d', now) .. (details and details[i] or ''))
    end
  end
end

local function announce(ended, states)
  local scores = redis.call('ZMSCORE', watched, unpack(ended))
  for i, id in ipairs(ended) do
    if scores[i] and states[i] ~= '' then
      redis.call('PUBLISH', ARGV[6], id .. ' ' .. states[i])
      redis.call('ZREM', watched, id)
    end
  end
end

local cancelled = {}

-- run_id, paused, n_leased; then what only queues with limits or concurrency keys have.
local known = {}
if n_finish > 0 or want > 0 then
  known = redis.call('HMGET', cfg, 'run_id', 'paused', 'n_leased', 'limits', 'blocked', 'keyed', 'keyed_from', 'rate_tat')
end
local limits, is_blocked, is_keyed = known[4], known[5], known[6]

-- Gives the slots of leases that ended to those who wait for them; returns whether anybody can be leased for it.
local function free_room(freed)
  local rings = is_blocked
  if is_keyed then
    local seen = {}
    for _, key in ipairs(redis.call('HMGET', CKEY, unpack(freed))) do
      if key and not seen[key] then
        seen[key] = true
        rings = unpark(key, now, limits, list_of) or rings
      end
    end
  end
  if is_blocked then
    redis.call('HDEL', cfg, 'blocked')
  end
  return rings
end

local function finish()
  local ids = column(n_finish, 5)
  local leases = redis.call('HMGET', tok, unpack(ids))
  local freed, ended, states, standings, delays = {}, {}, {}, {}, {}
  local events, tokens, details = {}, {}, {}
  local n_out, rings = 0, false
  for i, id in ipairs(ids) do
    local entry = at + (i - 1) * 5
    local token, action, detail, standing = ARGV[entry + 1], ARGV[entry + 2], ARGV[entry + 3], ARGV[entry + 4]
    local applies = holds(leases[i], token)
    if applies and action == 'return' then
      local expiry = tonumber(redis.call('ZSCORE', leased, id) or 0)
      applies = string.sub(leases[i], 1, 1) == 'l' and expiry <= now
    end
    if applies then
      freed[#freed + 1] = id
      if is_anyone_listening then
        events[#events + 1] = action == 'end' and detail or action == 'requeue' and 'requeued' or ''
        tokens[#tokens + 1] = token
        local has_begun = action == 'requeue' and string.sub(leases[i], 1, 1) ~= 'l'
        details[#details + 1] = has_begun and ' ' .. string.match(leases[i], '^..:%d+:%x+:[^:]*:(%d+)') or ''
      end
      if action == 'end' then
        ended[#ended + 1] = id
        states[#states + 1] = detail
        if detail ~= '' then
          n_out = n_out + 1
        end
      else
        if string.sub(leases[i], 2, 2) == 'c' then
          cancelled[#cancelled + 1] = id
        end
        standings[#standings + 1] = id
        if action == 'requeue' and tonumber(detail) > now then
          standings[#standings + 1] = 'd' .. standing
          delays[#delays + 1] = detail
          delays[#delays + 1] = id
        else
          standings[#standings + 1] = 'r' .. standing
          redis.call(action == 'requeue' and 'RPUSH' or 'LPUSH', KEYS[list_of(standing)], id)
          -- Who leases in this very call takes it; else others hear of it.
          rings = want == 0
        end
      end
    end
  end
  if #freed > 0 then
    redis.call('HDEL', tok, unpack(freed))
    redis.call('ZREM', leased, unpack(freed))
  end
  if #ended > 0 then
    redis.call('HDEL', env, unpack(ended))
    redis.call('HDEL', att, unpack(ended))
    if is_anyone_listening then
      announce(ended, states)
    end
  end
  if #events > 0 then
    tell_followers(freed, events, tokens, details)
  end
  if n_out > 0 then
    redis.call('HINCRBY', cfg, 'n_out', n_out)
  end
  if #standings > 0 then
    redis.call('HSET', att, unpack(standings))
  end
  if #delays > 0 then
    redis.call('ZADD', delayed, unpack(delays))
  end
  if #freed > 0 and (is_blocked or is_keyed) then
    rings = free_room(freed) or rings
    if is_keyed and #ended > 0 then
      redis.call('HDEL', CKEY, unpack(ended))
    end
  end
  if rings then
    redis.call('PUBLISH', ARGV[12], ARGV[13])
  end
  at = at + n_finish * 5
end

-- Sets the flag of the leases whose token holds; returns the ids of the others. News of a start may come late: a lease that is
-- settling stays so.
local function flag(count, letter)
  local refused, leases_flagged = {}, {}
  local begun, events, tokens = {}, {}, {}
  local ids = column(count, 2)
  local leases = redis.call('HMGET', tok, unpack(ids))
  for i, id in ipairs(ids) do
    if holds(leases[i], ARGV[at + (i - 1) * 2 + 1]) then
      if letter == 's' or string.sub(leases[i], 1, 1) == 'l' then
        leases_flagged[#leases_flagged + 1] = id
        leases_flagged[#leases_flagged + 1] = letter .. string.sub(leases[i], 2)
        if letter == 'S' and is_anyone_listening then
          begun[#begun + 1], events[#events + 1], tokens[#tokens + 1] = id, 'started', ARGV[at + (i - 1) * 2 + 1]
        end
      end
    else
      refused[#refused + 1] = id
    end
  end
  if #leases_flagged > 0 then
    redis.call('HSET', tok, unpack(leases_flagged))
  end
  if #begun > 0 then
    tell_followers(begun, events, tokens)
  end
  at = at + count * 2
  return refused
end

-- Pops up to `count` ids: `n_oldest` of them the oldest over all bands (ids sort by creation), the rest by priority.
local function pop(count, n_oldest)
  if lease_from == 'quarantine' then
    return redis.call('LPOP', KEYS[QUARANTINE], count) or {}
  end
  local popped = {}
  local n_lists = redis.call('EXISTS', unpack(KEYS, READY, READY + 9))
  -- Where all wait in one list, its first is the oldest anyway.
  if n_oldest > 0 and n_lists > 1 then
    local heads = {}
    for band = READY, READY + 9 do
      heads[band] = redis.call('LINDEX', KEYS[band], 0) or nil
    end
    for _ = 1, n_oldest do
      local oldest
      for band, head in pairs(heads) do
        if not oldest or head < heads[oldest] then
          oldest = band
        end
      end
      if not oldest then
        break
      end
      popped[#popped + 1] = redis.call('LPOP', KEYS[oldest])
      heads[oldest] = redis.call('LINDEX', KEYS[oldest], 0) or nil
    end
  end
  for band = READY + 9, READY, -1 do
    if #popped >= count or n_lists == 0 then
      break
    end
    local ids = redis.call('LPOP', KEYS[band], count - #popped)
    if ids then
      n_lists = n_lists - 1
      for _, id in ipairs(ids) do
        popped[#popped + 1] = id
      end
    end
  end
  return popped
end

-- The next attempt by the last one: writing a number as text is the dearest thing that a lease would do in Lua.
local nexts = { ['0'] = '1', ['1'] = '2', ['2'] = '3', ['3'] = '4' }

-- The slots of keys that were looked at in this call.
local held = {}

-- Takes a slot for a job with a key, or parks it.
local function has_slot(id, key, copy)
  local wait_until = tonumber(known[7] or 0)
  if now < wait_until then
    -- After this Redis lost what it had, nobody knows who still runs: one lease length later nobody does.
    redis.call('HSET', att, id, 'd' .. string.sub(copy, 2))
    redis.call('ZADD', delayed, wait_until, id)
    return false
  end
  held[key] = held[key] or holders_of(key, now)
  local ids = held[key]
  if #ids < slots_per_key(limits) then
    ids[#ids + 1] = id
    return true
  end
  redis.call('ZADD', PARKED, 0, key .. '\0' .. id)
  redis.call('ZADD', BLOCKED, 'NX', now + 1000, key)
  return false
end

-- How many jobs the queue's limits let go now, and in how many milliseconds they let the next one go.
local again_ms, rate_every, will_block = 0, nil, false
local function room()
  local concurrency, rate, per_ms = string.match(limits, '^(%d*):(%d*):(%d*):')
  local left = want
  if concurrency ~= '' then
    left = math.min(left, concurrency - redis.call('ZCOUNT', leased, '(' .. string.format('%d', now), '+inf'))
  end
  will_block = left < want
  if rate ~= '' and left > 0 then
    -- A bucket of `rate`, kept as the time at which it would be full again.
    rate_every = per_ms / rate
    local full_at = math.min(math.max(tonumber(known[8] or 0), now), now + per_ms)
    local n = math.floor((now + per_ms - full_at) / rate_every + 1e-6)
    if n < left then
      left, again_ms = n, math.max(1, math.ceil(full_at + (n + 1) * rate_every - per_ms - now))
    end
    known[8] = full_at
  end
  return math.max(left, 0)
end

local function lease(n_leased_before)
  local taken, more = {}, 0
  local expiry = string.format('%d', now + lease_ms)
  local holder = ':' .. nonce .. ':' .. worker .. ':' .. string.format('%d', now)
  for round = 1, 8 do
    local missing = want - #taken / 3
    local n_oldest = 0
    if round == 1 then
      n_oldest = math.floor((n_leased_before + missing) / fair_every) - math.floor(n_leased_before / fair_every)
    end
    local ids = pop(missing, n_oldest)
    more = #ids >= missing and 1 or 0
    if #ids == 0 then
      break
    end
    local copies = redis.call('HMGET', att, unpack(ids))
    local keys = is_keyed and redis.call('HMGET', CKEY, unpack(ids)) or {}
    local standings, leases, expiries, live, suspects = {}, {}, {}, {}, {}
    for i, id in ipairs(ids) do
      -- An entry whose copy is elsewhere or gone is a leftover: lists are never searched, so it is dropped here.
      local priority, attempt, rest
      if copies[i] then
        priority, attempt, rest = string.match(copies[i], '^r(%d):(%d+)(.*)$')
      end
      if priority and lease_from == 'ready' and is_suspect(copies[i]) then
        suspects[#suspects + 1] = id
      -- The same id twice in one pop is one job.
      elseif priority and not live[id] and (not keys[i] or has_slot(id, keys[i], copies[i])) then
        attempt = nexts[attempt] or string.format('%d', attempt + 1)
        local standing = priority .. ':' .. attempt .. rest
        live[id] = true
        live[#live + 1] = id
        standings[#standings + 1] = id
        standings[#standings + 1] = 'l' .. standing
        leases[#leases + 1] = id
        leases[#leases + 1] = 'l-:' .. attempt .. holder
        expiries[#expiries + 1] = expiry
        expiries[#expiries + 1] = id
      end
    end
    if #suspects > 0 then
      redis.call('RPUSH', KEYS[QUARANTINE], unpack(suspects))
    end
    if #live > 0 then
      redis.call('HSET', att, unpack(standings))
      redis.call('HSET', tok, unpack(leases))
      redis.call('ZADD', leased, unpack(expiries))
      local envelopes = redis.call('HMGET', env, unpack(live))
      for i, id in ipairs(live) do
        taken[#taken + 1] = id
        taken[#taken + 1] = string.sub(standings[2 * i], 2)
        taken[#taken + 1] = envelopes[i]
      end
    end
    if #taken / 3 >= want then
      break
    end
  end
  if #taken > 0 then
    redis.call('HSET', cfg, 'n_leased', (n_leased_before + #taken / 3) % 1000000007)
    if rate_every then
      redis.call('HSET', cfg, 'rate_tat', string.format('%.3f', known[8] + #taken / 3 * rate_every))
    end
  end
  for key, ids in pairs(held) do
    keep_holders(key, ids)
  end
  return taken, more
end

if n_finish > 0 then
  finish()
end
local refused = {}
if n_mark > 0 then
  refused = flag(n_mark, 's')
end
if n_started > 0 then
  flag(n_started, 'S')
end
if want == 0 then
  return { 'ok', refused, cancelled, {}, 0, 0 }
end
if known[1] ~= string.match(redis.call('INFO', 'server'), 'run_id:(%x+)') then
  return { 'unknown', refused, cancelled, {}, 0, 0 }
end
if known[2] == '1' then
  return { 'paused', refused, cancelled, {}, 0, 0 }
end
local taken, more = {}, 0
local wanted = want
if limits then
  want = room()
end
if want > 0 then
  taken, more = lease(tonumber(known[3] or 0))
end
if want < wanted then
  if #taken / 3 < want then
    -- The limits leave room: whether it has more to give is as the lease found, and nobody has to come back for it later.
    again_ms, will_block = 0, false
  else
    more = 0
  end
end
if will_block then
  redis.call('HSET', cfg, 'blocked', '1')
end
return { 'ok', refused, cancelled, taken, more, again_ms }
