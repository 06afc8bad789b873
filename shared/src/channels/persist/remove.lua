-- Forgets what is kept of a channel, and what of it waits to be saved. Its position stays.
--
-- KEYS  1 meta  2 history  3 unsaved, see `Keys`
-- Returns offset and epoch of the last publication that is forgotten; 0 and '' when no position is known.
redis.call('UNLINK', KEYS[2], KEYS[3])
local known = redis.call('HMGET', KEYS[1], 's', 'e')
return { tonumber(known[1] or 0), known[2] or '' }
