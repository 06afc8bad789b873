-- ARGV  4 most clients to return  5 most bytes of their ids and infos
-- Returns 1 and the infos of all, or 0 where they are more than that: then no more are read than it takes to know.
local infos, bytes = {}, 0
if redis.call('HLEN', KEYS[1]) > tonumber(ARGV[4]) then
  return { 0, {} }
end
local clients = redis.call('HKEYS', KEYS[1])
for first = 1, #clients, 32 do
  local last = math.min(first + 31, #clients)
  for at, entry in ipairs(redis.call('HMGET', KEYS[1], unpack(clients, first, last))) do
    local _, info = parts(entry)
    infos[#infos + 1] = info
    bytes = bytes + #clients[first + at - 1] + #info
  end
  if bytes > tonumber(ARGV[5]) then
    return { 0, {} }
  end
end
return { 1, infos }
