-- Makes this Redis known to a queue: from now on its jobs are leased. That it is not rebuilt yet is noted with it, so that a
-- leader which finds the note carries on where one was lost in the middle.
--
-- KEYS  every key of the queue, see `Keys::queue_scripts`
-- ARGV  paused ('1' or '0'), doorbell channel, queue name
local run_id = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
redis.call('HSET', KEYS[1], 'run_id', run_id, 'paused', ARGV[1], 'rebuilding', '1')
redis.call('PUBLISH', ARGV[2], ARGV[3])
return redis.status_reply('OK')
