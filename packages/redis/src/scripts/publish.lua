-- publish: stores a batch of entries in order, trims, and rings.
--
-- KEYS    1 main, 2 bell
-- ARGV    1 maxLength ("" for no limit), 2 maxAge (ms, "" for no limit), 3 names (how many there are),
--         4.. name (each once), then value (one a name and entry, entry by entry; an empty one leaves the field out)
-- RETURNS {trimmed, id of each entry, separated by spaces}
-- CALLER  Transport.publish
-- ORDER   The first write is an XADD: where memory is full, the server refuses writes or the key is of another kind, nothing
--         is stored. Behind it, none is refused. The bell is asked before it.

--@include mistyped
--@include now
--@include ring
--@include append
--@include forbidden
local main, bell = KEYS[1], KEYS[2]
local told = redis.pcall("GET", bell)
if type(told) == "table" then return mistyped(bellKind, bell) or told end

local refused = ARGV[1] .. ARGV[2] ~= "" and forbidden({ "XTRIM", main, "MAXLEN", "1" })
if refused then return refused end

local call, args, names = redis.call, ARGV, tonumber(ARGV[3])
local before = 3 + names
local ids, trimmed = {}, 0
-- the first is asked and not called: what a call raises has another beginning on older servers
local function first(...)
  ids[1] = append(main, ...)
  if type(ids[1]) == "table" then return mistyped("stream", main) or ids[1] end
end
if names == 1 then
  -- the plain entry, and the hot path
  local name = args[4]
  refused = first(name, args[before + 1])
  if refused then return refused end
  for i = before + 2, #args do ids[i - before] = call("XADD", main, "*", name, args[i]) end
else
  local fields = {}
  for i = before + 1, #args, names do
    local count = 0
    for n = 0, names - 1 do
      if args[i + n] ~= "" then
        fields[count + 1], fields[count + 2] = args[4 + n], args[i + n]
        count = count + 2
      end
    end
    -- an entry must have a field; without one, those before it would be stored and those behind it not
    if count == 0 then fields[1], fields[2], count = args[4], "", 2 end
    if i > before + 1 then
      ids[#ids + 1] = call("XADD", main, "*", unpack(fields, 1, count))
    else
      refused = first(unpack(fields, 1, count))
      if refused then return refused end
    end
  end
end

-- exact, since an approximate trim keeps up to a node more and counts too few
if ARGV[1] ~= "" then trimmed = call("XTRIM", main, "MAXLEN", "=", ARGV[1]) end
if ARGV[2] ~= "" then
  trimmed = trimmed + call("XTRIM", main, "MINID", "=", digits(math.max(now() - ARGV[2], 0)))
end
ring(bell, "new", told)
return { trimmed, table.concat(ids, " ") }
