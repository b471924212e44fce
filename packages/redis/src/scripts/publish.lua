-- publish: stores a batch of entries in order, trims, and rings.
--
-- KEYS    1 main, 2 bell
-- ARGV    1 maxLength ("" for no limit), 2 maxAge (ms, "" for no limit), 3 names (how many there are),
--         4.. name (each once), value (one a name and entry, "" leaves the field out)
-- RETURNS {trimmed, id of each entry …}
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
local reply = { 0 }
if names == 1 then
  -- the plain entry, and the hot path: no table for each
  local name = ARGV[4]
  for i = 5, #ARGV do reply[#reply + 1] = redis.call("XADD", main, "*", name, ARGV[i]) end
else
  for i = 4 + names, #ARGV, names do
    local fields = {}
    for n = 0, names - 1 do
      if ARGV[i + n] ~= "" then
        fields[#fields + 1] = ARGV[4 + n]
        fields[#fields + 1] = ARGV[i + n]
      end
    end
    -- an entry must have a field; without one, those before it would be stored and those behind it not
    if not fields[1] then fields = { ARGV[4], "" } end
    reply[#reply + 1] = redis.call("XADD", main, "*", unpack(fields))
  end
end

-- exact, since an approximate trim keeps up to a node more and counts too few
if ARGV[1] ~= "" then reply[1] = redis.call("XTRIM", main, "MAXLEN", "=", ARGV[1]) end
if ARGV[2] ~= "" then
  reply[1] = reply[1] + redis.call("XTRIM", main, "MINID", "=", digits(math.max(now() - ARGV[2], 0)))
end
ring(bell)
return reply
