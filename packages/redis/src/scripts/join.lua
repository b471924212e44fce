-- join: makes a consumer a member of a group, creating what is absent, and says what it created.
--
-- KEYS    1 main, 2 retry, 3 state, 4 owners
-- ARGV    1 mainGroup, 2 retryGroup, 3 consumer, 4 nonce, 5 visibilityTimeout (ms),
--         6 start (where the main group begins if it is created: "$" or an id, exclusive),
--         7 mode ("first" for a new consumer, "again" for one that was in the group before),
--         8 ordered ("1" for a worker of an ordered group: the others are told, and its name is its own while it lives),
--         9 holder (nonce of the member's join in mode "first"; "" asks nothing of the name)
-- RETURNS {main group created, retry group created, start or nil if the main group was there, entries that may repeat,
--         more, 1 where nothing was done as a living worker has the name}
-- CALLER  Transport.join; a consumer after a reconnect, a lost nonce or NOGROUP
-- STATE   writes v:, n:, h: and, on "first" or where a worker takes a name again, j: of the consumer (what this join
--         created, for rollback): "nonce flags start", where flags are 0 or 1 for main key, retry key, main group, retry
--         group, main consumer, retry consumer, position.
-- ORDER   Creating the main group can fail for a bad start, and comes first. A repeated call with the same nonce finds
--         everything there, and keeps what j: says. Works while memory is full: a group that cannot be joined never
--         shrinks.
--
-- A group that is created makes every nonce invalid: what was delivered before is no longer pending for anybody, or is
-- delivered again under the same ids, and must be compared one by one.

--@include mistyped
--@include now
--@include begin
--@include ids
--@include ask
--@include groups
--@include workers
--@include ring
local main, retry, state, owners = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local mainGroup, retryGroup, consumer, nonce, timeout, start, mode, ordered, holder = unpack(ARGV)
local wrong = mistyped("stream", main, "stream", retry, "hash", state, bellKind, owners)
if wrong then return wrong end

-- two by one name would take from each other what they hold; without an order each settles its own all the same
local told = ordered == "1" and toldBy(state) or {}
-- a name that lives and is nobody's is that of a worker whose version does not say so
local isForeign = isOther(told, consumer, holder) or (mode == "first" and holder ~= "" and not holderOf(told, consumer))
if isForeign and lease(told, consumer, now()) > 0 then return { 0, 0, false, 0, 0, 1 } end

local mainThere, retryThere = groupOf(main, mainGroup), groupOf(retry, retryGroup)
local made = {
  1 - redis.call("EXISTS", main),
  1 - redis.call("EXISTS", retry),
  mainThere and 0 or 1,
  retryThere and 0 or 1
}

local remembered = 0
local begins = nil
if not mainThere then
  local last = made[1] == 1 and "0-0" or record(redis.call("XINFO", "STREAM", main))["last-generated-id"]
  local position = redis.call("HGET", state, "position")
  -- above the last id, it belongs to a stream that is no more
  if position and string.find(position, "^%d+%-%d+$") and not after(position, last) then
    begins, remembered = position, 1
  elseif mode == "again" and redis.call("XLEN", main) > 0 then
    begins = "0-0"
  else
    begins = start == "$" and last or start
  end
end

begin(state)
if not mainThere then redis.call("XGROUP", "CREATE", main, mainGroup, begins, "MKSTREAM") end
-- from its beginning: it holds nothing but unsettled retries
if not retryThere then redis.call("XGROUP", "CREATE", retry, retryGroup, "0-0", "MKSTREAM") end
made[5] = redis.call("XGROUP", "CREATECONSUMER", main, mainGroup, consumer)
made[6] = redis.call("XGROUP", "CREATECONSUMER", retry, retryGroup, consumer)
made[7] = remembered

if not mainThere or not retryThere then
  -- as many as the group has consumers; never when nothing was lost
  for _, field in ipairs(redis.call("HKEYS", state)) do
    if string.sub(field, 1, 2) == "n:" then redis.call("HDEL", state, field) end
  end
end
-- a mark speaks of what an incarnation holds of one stream: not of the next one, and not of another stream
if mode == "first" or not mainThere then redis.call("HDEL", state, "m:" .. consumer) end
if mode == "first" or not retryThere then redis.call("HDEL", state, "r:" .. consumer) end
if begins then redis.call("HSET", state, "position", begins) end
redis.call("HSET", state, "v:" .. consumer, timeout, "n:" .. consumer, nonce, "h:" .. consumer, digits(now()))

local created, createdRetry = made[3], made[4]
if mode == "first" then
  local flags, from = table.concat(made), begins or "-"
  local known = redis.call("HGET", state, "j:" .. consumer)
  local who, before, begun = string.match(known or "", "^(%S+) ([01]+) (%S+)$")
  if who == nonce then
    -- the reply to the first call was lost: what that one created is still this join's to undo
    local both = {}
    for i = 1, 7 do both[i] = math.max(string.byte(before, i), string.byte(flags, i)) - 48 end
    flags = table.concat(both)
    if begun ~= "-" then from = begun end
    if not begins and begun ~= "-" then begins = begun end
    created, createdRetry = both[3], both[4]
  end
  redis.call("HSET", state, "j:" .. consumer, nonce .. " " .. flags .. " " .. from)
elseif ordered == "1" then
  entitle(state, told, consumer, holder)
end

if ordered == "1" then ring(owners, "owners") end

local repeats, more = 0, 0
if mode == "again" and not mainThere then
  if begins == "0-0" then
    repeats = redis.call("XLEN", main)
  else
    -- counting means reading: in small steps, up to 1,000 entries or 4 MiB
    local from, bytes = "(" .. begins, 0
    repeat
      local entries = redis.call("XRANGE", main, from, "+", "COUNT", 16)
      for _, entry in ipairs(entries) do
        from = "(" .. entry[1]
        for _, part in ipairs(entry[2]) do bytes = bytes + #part end
      end
      repeats = repeats + #entries
      more = #entries == 16 and 1 or 0
    until more == 0 or repeats >= 1000 or bytes >= 4194304
  end
end
return { created, createdRetry, begins or false, repeats, more, 0 }
