-- draw: delivers to the owner of a log what it is to have next: what was given back, then retries, then new entries.
--
-- KEYS    1 main, 2 retry, 3 state
-- ARGV    1 mainGroup, 2 retryGroup, 3 consumer, 4 nonce (of the claim), 5 limit (entries), 6 bytes (roughly; a first
--         entry is taken whatever its size), 7 alone ("1": one suspect and nothing else), 8 maxAttempts ("" without a
--         limit), 9 retries (unread ones at most, as far as sizes are known), 10 mains (new ones at most, 0 for none)
-- RETURNS {1, suspects wait that were not taken, trimmed (settled, since nothing of them is left), packed with cmsgpack:
--         {given back of main {{id, delivery count, fields} …}, of retry the same, unread of retry {{id, fields} …}, of
--         main the same}}, {0} where the claim does not stand, {2} where a group is gone
-- CALLER  Owner.fetch
-- ORDER   The claim is checked, and with the reads of the pending lists the type of every key, before the first write. Each
--         read and each XCLAIM delivers for itself. A reply that is lost leaves entries pending for the owner, who gives
--         all back with the log. Works while memory is full.
--
-- Entries of one key must not overtake each other, so nothing is taken from behind what waits to be taken alone, nor that
-- before what lies in front of it.

--@include now
--@include begin
--@include ask
--@include pending
--@include delivered
--@include suspects
--@include owned
--@include alive
local main, retry, state = KEYS[1], KEYS[2], KEYS[3]
local mainGroup, retryGroup, consumer, nonce, limit, maxBytes, alone, maxAttempts, retries, mains = unpack(ARGV)
limit, maxBytes, alone, maxAttempts = tonumber(limit), tonumber(maxBytes), alone == "1", tonumber(maxAttempts)
if not owned(state, consumer, nonce) then return { 0 } end
-- more than is wanted, so that no suspect is passed over for long
local ofMain = pendingOf(main, mainGroup, "-released", "-", limit + 256)
local ofRetry = pendingOf(retry, retryGroup, "-released", "-", limit + 256)
if ofMain.err or ofRetry.err then return { 2 } end
alive(state, consumer)

local taken, bytes, trimmed = 0, 0, 0
local function take(stream, group, id, count, entries)
  local entry = redis.call("XCLAIM", stream, group, consumer, 0, id)[1]
  if entry then
    entries[#entries + 1] = { id, digits(count + 1), entry[2] }
    taken = taken + 1
    for _, part in ipairs(entry[2]) do bytes = bytes + #part end
  else
    -- Redis 7 has dropped it from the pending list by now, Redis 6.2 has not
    redis.call("XACK", stream, group, id)
    trimmed = trimmed + 1
  end
end
local function clear(stream, group, rows)
  if #rows > 0 and #pendingOf(stream, group, "-released", "-", 1) == 0 then
    redis.call("XGROUP", "DELCONSUMER", stream, group, "-released")
  end
end

local suspects, cut = 0, false
local givenMain, givenRetry = {}, {}
-- leaves of the rows what may be taken now: what lies before a suspect, or alone one that is first
local function look(stream, group, rows, entries)
  for i, row in ipairs(rows) do
    -- before it is looked at, which may take all that may be read: the first of them is taken all the same
    local late = looked >= 4194304
    local suspect = not late and suspected(stream, row[1], row[4], stream == retry, maxAttempts)
    if suspect and alone and taken == 0 then
      take(stream, group, row[1], row[4], entries)
    elseif suspect or alone or late then
      -- the others next time, and nothing from behind them
      for j = #rows, i, -1 do rows[j] = nil end
      if suspect then suspects = 1 end
      cut = true
      return
    end
  end
end
look(main, mainGroup, ofMain, givenMain)
if cut then ofRetry = {} else look(retry, retryGroup, ofRetry, givenRetry) end
if alone then
  if taken + trimmed > 0 then
    clear(main, mainGroup, ofMain)
    clear(retry, retryGroup, ofRetry)
  end
  return { 1, suspects, trimmed, cmsgpack.pack({ givenMain, givenRetry, {}, {} }) }
end

local function full()
  return taken >= limit or (taken > 0 and bytes >= maxBytes)
end
local function from(stream, group, rows, entries)
  for _, row in ipairs(rows) do
    if full() then return end
    take(stream, group, row[1], row[4], entries)
  end
  clear(stream, group, rows)
end
from(main, mainGroup, ofMain, givenMain)
from(retry, retryGroup, ofRetry, givenRetry)

local function read(stream, group, wanted)
  -- what was taken has its share of the bytes
  local count = math.min(limit - taken, math.ceil(wanted * (1 - bytes / maxBytes)))
  if cut or full() or count < 1 then return {}, true end
  local reply = redis.call("XREADGROUP", "GROUP", group, consumer, "COUNT", count, "STREAMS", stream, ">")
  local rows = reply and reply[1][2] or {}
  return rows, #rows == count
end
local unreadRetry, more = read(retry, retryGroup, tonumber(retries))
local unreadMain = {}
if not more then
  for _, row in ipairs(unreadRetry) do
    taken = taken + 1
    for _, part in ipairs(row[2]) do bytes = bytes + #part end
  end
  if mains ~= "0" then unreadMain = read(main, mainGroup, tonumber(mains)) end
end
return { 1, suspects, trimmed, cmsgpack.pack({ givenMain, givenRetry, unreadRetry, unreadMain }) }
