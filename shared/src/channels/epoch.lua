-- Put before each script that counts in a channel's offsets.
--
-- Offset and epoch of a channel. A channel that is new, or whose position was written by another server (this one was
-- restarted, or took over from one that may have had later publications), begins the epoch `fresh` at 0: offsets that were
-- given out already must not be given out again for other publications.
local function position_of(meta, history, fresh)
  local known = redis.call('HMGET', meta, 's', 'e', 'r')
  local server = redis.call('INFO', 'server')
  if known[1] and known[2] and known[3] and string.find(server, known[3], 1, true) then
    return tonumber(known[1]), known[2]
  end
  redis.call('DEL', history)
  redis.call('HDEL', meta, 'm')
  redis.call('HSET', meta, 's', '0', 'e', fresh, 'r', string.match(server, 'run_id:(%x+)'))
  return 0, fresh
end

