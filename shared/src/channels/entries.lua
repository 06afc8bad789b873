-- Put before each script that reads publications.
--
-- Entries of a stream in the order of `command` (XRANGE or XREVRANGE), from `first` to `last`: at most `limit`, and none behind the
-- one with which their bodies (field `body_at` of each) come to more than `bytes`; and whether they do. It reads in slices, of one
-- entry at first and then of as many as are still wanted if they are like those before, but of no more than `slice`: a large
-- answer is never made only to be cut, nor a few small entries taken for a sign that the next hundreds are small as well.
local function entries_within(command, stream, first, last, limit, bytes, slice, body_at)
  local entries, read, step = {}, 0, 1
  while #entries < limit and read <= bytes do
    local asked = math.min(step, limit - #entries)
    local found = redis.call(command, stream, first, last, 'COUNT', asked)
    for _, entry in ipairs(found) do
      if read <= bytes then
        read = read + #entry[2][body_at]
        entries[#entries + 1] = entry
      end
    end
    if #found < asked then
      break
    end
    first = '(' .. found[#found][1]
    step = math.max(1, math.min(slice, 2 * step, math.ceil((bytes - read) / (read / #entries))))
  end
  return entries, read > bytes
end

