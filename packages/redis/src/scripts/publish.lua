-- publish: stores a batch of entries in order, trims, and rings.
--
-- KEYS    1 main, 2 bell
-- ARGV    1 maxLength ("" for no limit), 2 maxAge (ms, "" for no limit), 3 names (how many there are),
--         4.. name (each once), then lengths (bytes of each value, separated by spaces), values (one a name and entry,
--         one behind the other; an empty one leaves the field out)
-- RETURNS {trimmed, id of each entry, separated by spaces}
-- CALLER  Transport.publish
-- ORDER   The first write is an XADD: where memory is full, or the server refuses writes, nothing is stored. Behind it,
--         none is refused. Both keys are checked first.

--@include mistyped
--@include now
--@include ring
local main, bell = KEYS[1], KEYS[2]
local wrong = mistyped("stream", main, bellKind, bell)
if wrong then return wrong end

local names = tonumber(ARGV[3])
local lengths, values = ARGV[4 + names], ARGV[5 + names]
local nextLength, at = string.gmatch(lengths, "%d+"), 1
local call, sub = redis.call, string.sub

local ids, trimmed = {}, 0
if names == 1 then
  -- the plain entry, and the hot path: no table for each
  local name = ARGV[4]
  for length in nextLength do
    local next = at + length
    ids[#ids + 1] = call("XADD", main, "*", name, sub(values, at, next - 1))
    at = next
  end
else
  for length in nextLength do
    local fields = {}
    for n = 1, names do
      local next = at + (n == 1 and length or nextLength())
      if next > at then
        fields[#fields + 1] = ARGV[3 + n]
        fields[#fields + 1] = sub(values, at, next - 1)
      end
      at = next
    end
    -- an entry must have a field; without one, those before it would be stored and those behind it not
    if not fields[1] then fields = { ARGV[4], "" } end
    ids[#ids + 1] = call("XADD", main, "*", unpack(fields))
  end
end

-- exact, since an approximate trim keeps up to a node more and counts too few
if ARGV[1] ~= "" then trimmed = redis.call("XTRIM", main, "MAXLEN", "=", ARGV[1]) end
if ARGV[2] ~= "" then
  trimmed = trimmed + redis.call("XTRIM", main, "MINID", "=", digits(math.max(now() - ARGV[2], 0)))
end
ring(bell)
return { trimmed, table.concat(ids, " ") }
