-- order: settles what the owner of a log holds, keeping the order of each key.
--
-- KEYS    1 main, 2 retry, 3 due, 4 deadLetters, 5 state, 6 blocked, 7 parked, 8 bell
-- ARGV    1 mainGroup, 2 retryGroup, 3 consumer, 4 nonce (of the claim), 5 acks (how many there are), 6.. acked (id of an
--         entry of main that is done, each), then for each other settlement
--         7.. move ("ack", "retry", "dead", "release", "park"), origin ("main" or "retry"), id, count,
--         key (behind a colon, "" for none), original (its id in the topic, each part as 16 hexadecimal digits), delay
--         (ms until a retry), first (its first delivery, as the server counted it), clutch (a JSON object without its
--         closing brace), fields (netstrings)
-- RETURNS {claim stands, an error that stopped the others or "", for each other settlement: 1 done, 2 another's, 0 not
--         pending, 3 its content was trimmed and nothing was done (of a release), 4 done, and its key is held back no
--         longer, 5 not done (from the error on), {its id among the dead letters, key is held back no longer}}
-- CALLER  Owner.settle
-- ORDER   The claim is checked, then owner and count of each; without the claim nothing is done. One after the other, each
--         is stored, then what waits behind it is moved, then it is settled. Where memory is full, and none before it
--         gave any back, the first that stores something is refused, and nothing behind it is done; the acks are, and
--         come last, so that they do not let through what is to be refused. A repeated call finds nothing pending.
--
-- A key is in `blocked` exactly while one message of it is in the due set or the retry stream, its front, scored by the
-- time in that message's id. The others are in `parked`, from which one comes when the front is settled.

--@include mistyped
--@include now
--@include begin
--@include ids
--@include ask
--@include standing
--@include present
--@include delivered
--@include give
--@include netstrings
--@include owned
--@include alive
--@include append
--@include unreadable
--@include advance
--@include forbidden
--@include ring
local main, retry, due, deadLetters, state, blocked, parked, bell = unpack(KEYS)
local mainGroup, retryGroup, consumer, nonce, acks = unpack(ARGV, 1, 5)
acks = tonumber(acks)
local width = 10
local base = 5 + acks
local n = (#ARGV - base) / width
local stands = owned(state, consumer, nonce)

local found = {}
if n > 0 then
  local wrong = mistyped("stream", main, "stream", retry, "zset", due, "stream", deadLetters, "zset", blocked, "zset",
    parked, bellKind, bell)
  if wrong then return wrong end
  for origin, group in pairs({ main = mainGroup, retry = retryGroup }) do
    local places, ids, counts = {}, {}, {}
    for i = 1, n do
      local at = base + (i - 1) * width
      if ARGV[at + 2] == origin then
        places[#places + 1] = i
        ids[#ids + 1] = ARGV[at + 3]
        counts[#counts + 1] = ARGV[at + 4]
      end
    end
    if #ids > 0 then
      for p, how in ipairs(standing(origin == "main" and main or retry, group, consumer, ids, counts)) do
        found[places[p]] = (how == 1 and not stands) and 2 or how
      end
    end
  end
end
if not stands then return { 0, "", unpack(found) } end
local refused = n > 0
  and forbidden({ "XACK", main, mainGroup, "0-0" }, { "XDEL", retry, "0-0" }, { "ZADD", blocked, "0", "" },
    { "ZREM", blocked, "" })
if refused then return refused end

local time = now()
local rung
local presences = {}
local earliest

-- an error is an answer of its own kind: everything else is done already, or was not begun
local function failed(reply)
  return type(reply) == "table" and reply.err or nil
end

-- fields, then clutch as two netstrings, with its times
local function whole(clutch, first, fields, ends)
  local times = ',"first":' .. first .. (ends and ',"failed":' .. digits(time) or "") .. "}"
  return fields .. "6:clutch," .. #clutch + #times .. ":" .. clutch .. times .. ",", clutch .. times
end

local moves = {}

function moves.ack(origin, _, _, key)
  if origin ~= "retry" or not key then return nil, 1 end
  begin(state)
  if advance(key, retry, due, deadLetters, blocked, parked) then return nil, 4 end
  rung = "given"
  return nil, 1
end

function moves.retry(_, _, _, key, original, delay, first, clutch, fields)
  local at = time + delay
  earliest = earliest or tonumber(redis.call("ZRANGE", due, 0, 0, "WITHSCORES")[2] or "inf")
  local err = failed(redis.pcall("ZADD", due, digits(at), (whole(clutch, first, fields, true))))
  if err then return err end
  if at < earliest then rung, earliest = rung or "due", at end
  if key then redis.call("ZADD", blocked, digits(tonumber(string.sub(original, 1, 16), 16)), key) end
  return nil, 1
end

function moves.dead(origin, _, _, key, _, _, first, clutch, fields)
  local entry, told = whole(clutch, first, fields, true)
  local parts = parse(entry)
  -- somebody's entry of thousands of fields becomes one that can be written
  if not parts or #parts > maxFields then parts = { "fields", fields, "clutch", told } end
  local id = append(deadLetters, unpack(parts))
  if failed(id) then return id.err end
  local freed = 0
  if origin == "retry" and key then
    freed = advance(key, retry, due, deadLetters, blocked, parked) and 1 or 0
    if freed == 0 then rung = "given" end
  end
  return nil, { id, freed }
end

function moves.park(origin, _, _, key, original, _, first, clutch, fields)
  local entry = whole(clutch, first, fields, false)
  local err
  if origin == "main" and key and redis.call("ZSCORE", blocked, key) then
    err = failed(redis.pcall("ZADD", parked, 0, hex(key) .. ":" .. original .. ":" .. entry))
    if err then return err end
  else
    local parts = parse(entry)
    if parts and #parts <= maxFields then
      err = failed(append(retry, unpack(parts)))
    else
      err = failed(redis.pcall("ZADD", due, digits(time), entry))
    end
    if err then return err end
    if key then redis.call("ZADD", blocked, digits(tonumber(string.sub(original, 1, 16), 16)), key) end
    rung = "given"
  end
  return nil, 1
end

local problem = ""
for i = 1, n do
  if problem ~= "" then
    found[i] = 5
  elseif found[i] == 1 then
    local at = base + (i - 1) * width
    local move, origin, id, count, key, original, delay, first, clutch, fields = unpack(ARGV, at + 1, at + width)
    local stream, group = main, mainGroup
    if origin == "retry" then stream, group = retry, retryGroup end
    key = key ~= "" and string.sub(key, 2) or nil
    if move == "release" then
      presences[origin] = presences[origin] or presence(stream)
      if presences[origin](id) then
        give(stream, group, id, free(count))
        rung = "given"
      else
        found[i] = 3
      end
    else
      local err, how = moves[move](origin, id, count, key, original, delay, first, clutch, fields)
      if err then
        problem = err
        found[i] = 5
      else
        found[i] = how
        redis.call("XACK", stream, group, id)
        if origin == "retry" then redis.call("XDEL", stream, id) end
      end
    end
  end
end
if acks > 0 then redis.call("XACK", main, mainGroup, unpack(ARGV, 6, 5 + acks)) end
alive(state, consumer)
if rung then ring(bell, rung) end
return { 1, problem, unpack(found) }
