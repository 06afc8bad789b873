-- ARGV  4 most clients to return
-- Returns how many clients are present, and unless they are more than that, the infos of all.
local n = redis.call('HLEN', KEYS[1])
local infos = {}
if n <= tonumber(ARGV[4]) then
  for _, entry in ipairs(redis.call('HVALS', KEYS[1])) do
    local _, info = parts(entry)
    infos[#infos + 1] = info
  end
end
return { n, infos }
