-- Publications that wait to be saved.
--
-- KEYS  1 unsaved, see `Keys`
-- ARGV  1 XRANGE or XREVRANGE  2 first id  3 last id  4 most publications to return  5 bytes with which they end
--       6 most entries that are read at a time
-- Returns the stream's entries.
local found = entries_within(ARGV[1], KEYS[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6]), 6)
return found
