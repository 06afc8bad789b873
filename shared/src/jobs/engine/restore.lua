-- Makes this Redis known to a queue: from now on its jobs are leased. That it is not rebuilt yet is noted with it, so that a
-- leader which finds the note carries on where one was lost in the middle.
--
-- KEYS  every key of the queue, see `Keys::queue_scripts`
-- ARGV  paused ('1' or '0'), doorbell channel, queue name, limits ('': none), keyed_wait_ms: how long jobs with a concurrency key
--       wait, because others of their key may still run that this Redis knows nothing of
local run_id = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
redis.call('HSET', KEYS[1], 'run_id', run_id, 'paused', ARGV[1], 'rebuilding', '1')
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('HSET', KEYS[1], 'keyed_from', string.format('%d', now + tonumber(ARGV[5])))
if ARGV[4] == '' then
  redis.call('HDEL', KEYS[1], 'limits')
else
  redis.call('HSET', KEYS[1], 'limits', ARGV[4])
end
redis.call('PUBLISH', ARGV[2], ARGV[3])
return redis.status_reply('OK')
