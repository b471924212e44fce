-- fail: moves failed deliveries to the due set, or to the dead letters.
--
-- KEYS    1 stream, 2 due, 3 deadLetters, 4 bell
-- ARGV    1 group, 2 consumer, 3 origin ("main" or "retry"), then for each delivery
--         4.. id, count, delay (ms until its retry, "" for a dead letter),
--         first (its first delivery, in ms by the server's clock),
--         clutch (a JSON object without its closing brace), fields (netstrings)
-- RETURNS for each: 1 done, or the id it has among the dead letters; 2 another's, 0 not pending
-- CALLER  Consumer.settle
-- ORDER   Owner and count are compared, then everything is stored, then the entries are settled. The first write stores
--         something, so where memory is full it is refused and nothing has changed. What is stored is the caller's
--         copy: an entry that was trimmed meanwhile is kept all the same. A repeated call finds nothing pending.
--
-- A member of the due set is the future entry's fields as netstrings. Its field `clutch` names entry and attempt, so no
-- two are alike, and its score is the server's time at which it is due.

--@include mistyped
--@include now
--@include ask
--@include standing
--@include netstrings
--@include ring
--@include append
--@include forbidden
local stream, due, deadLetters, bell = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local group, consumer, origin = ARGV[1], ARGV[2], ARGV[3]
local wrong = mistyped("stream", stream, "zset", due, "stream", deadLetters, bellKind, bell)
if wrong then return wrong end

local ids, counts, mine = {}, {}, {}
for i = 4, #ARGV, 6 do
  ids[#ids + 1] = ARGV[i]
  counts[#counts + 1] = ARGV[i + 1]
end
local found = standing(stream, group, consumer, ids, counts)

local time = now()
local earliest = tonumber(redis.call("ZRANGE", due, 0, 0, "WITHSCORES")[2] or "inf")
local nearest = earliest
local failed = ',"failed":' .. digits(time) .. "}"
local scheduled, letters = {}, {}
for n, how in ipairs(found) do
  if how == 1 then
    local i = 6 * n - 2
    local delay, first, clutch, fields = ARGV[i + 2], ARGV[i + 3], ARGV[i + 4], ARGV[i + 5]
    local times = ',"first":' .. first .. failed
    -- fields, then clutch as two netstrings; in one expression, since each intermediate string is copied and hashed
    local whole = fields .. "6:clutch," .. #clutch + #times .. ":" .. clutch .. times .. ","
    if delay == "" then
      local parts = parse(whole)
      -- somebody's entry of thousands of fields becomes one that can be written
      if not parts or #parts > maxFields then parts = { "fields", fields, "clutch", clutch .. times } end
      letters[#letters + 1] = { n, parts }
    else
      local at = time + delay
      scheduled[#scheduled + 1] = digits(at)
      scheduled[#scheduled + 1] = whole
      if at < nearest then nearest = at end
    end
    mine[#mine + 1] = ids[n]
  end
end

if #mine > 0 then
  wrong = forbidden({ "ZADD", due, "0", "" }, { "XACK", stream, group, "0-0" }, { "XDEL", stream, "0-0" })
  if wrong then return wrong end
  -- first, as a stream that can have no further entry refuses it
  for _, letter in ipairs(letters) do
    local added = append(deadLetters, unpack(letter[2]))
    if type(added) == "table" then return added end
    found[letter[1]] = added
  end
  if #scheduled > 0 then redis.call("ZADD", due, unpack(scheduled)) end
  redis.call("XACK", stream, group, unpack(mine))
  if origin == "retry" then redis.call("XDEL", stream, unpack(mine)) end
end
-- whoever sleeps until the earliest retry sleeps too long
if nearest < earliest then ring(bell, "due") end
return found
