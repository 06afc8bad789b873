-- Marks jobs as followed: what happens to them is announced until their marks end. The server's own clock counts, as it does for
-- the sweep that takes ended marks away.
--
-- KEYS  every key of the queue, see `Keys::queue_scripts`
-- ARGV  how long the marks last in ms, then ids
local time = redis.call('TIME')
local expiry = string.format('%d', time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[1])
local marks = {}
for i = 2, #ARGV do
  marks[#marks + 1] = expiry
  marks[#marks + 1] = ARGV[i]
end
redis.call('ZADD', KEYS[19], unpack(marks))
