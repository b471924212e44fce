-- extend: shows that a consumer lives, extends the leases of what it holds, and records the group's position.
--
-- KEYS    1 main, 2 retry, 3 state
-- ARGV    1 mainGroup, 2 retryGroup, 3 consumer, 4 nonce, 5 mains (how many ids are of main),
--         6.. id (of main, then of retry), count (of each, behind all ids)
-- RETURNS {nonce stands, ids of main that are not held, ids of retry that are not held}
-- CALLER  Consumer.extend; an idle consumer, with no ids
-- ORDER   XCLAIM to oneself only resets the idle time, and nothing else depends on it. It is kept from entries that
--         were trimmed, as it would drop them from the pending list: those are kept from reclaim by the sign of life.
--         Works while memory is full.

--@include mistyped
--@include now
--@include begin
--@include ids
--@include ask
--@include groups
--@include standing
--@include present
--@include position
local main, retry, state = KEYS[1], KEYS[2], KEYS[3]
local mainGroup, retryGroup, consumer, nonce, mains = unpack(ARGV, 1, 5)
mains = tonumber(mains)
local wrong = mistyped("hash", state)
if wrong then return wrong end

local known = redis.call("HMGET", state, "n:" .. consumer, "v:" .. consumer)
local stands = known[1] == nonce and 1 or 0
local n = (#ARGV - 5) / 2

local function hold(stream, group, from, to)
  local ids, counts, lost, there = {}, {}, {}, {}
  for i = from, to do
    ids[#ids + 1] = ARGV[5 + i]
    counts[#counts + 1] = ARGV[5 + n + i]
  end
  if #ids == 0 then return lost end
  local present = presence(stream)
  for i, how in ipairs(standing(stream, group, consumer, ids, counts)) do
    if how ~= 1 then
      lost[#lost + 1] = ids[i]
    elseif present(ids[i]) then
      there[#there + 1] = ids[i]
    end
  end
  if #there > 0 then
    local claim = { "XCLAIM", stream, group, consumer, 0 }
    for _, id in ipairs(there) do claim[#claim + 1] = id end
    claim[#claim + 1] = "JUSTID"
    redis.call(unpack(claim))
  end
  return lost
end

wrong = n > 0 and mistyped("stream", main, "stream", retry)
if wrong then return wrong end
local lostMain = hold(main, mainGroup, 1, mains)
local lostRetry = hold(retry, retryGroup, mains + 1, n)

-- without a timeout of its own it is no member: a sign of life would be all that is left of it
if known[2] then
  begin(state)
  redis.call("HSET", state, "h:" .. consumer, digits(now()))
end
if n > 0 then
  local position = positionOf(main, mainGroup)
  if position then
    begin(state)
    redis.call("HSET", state, "position", position)
  end
end
return { stands, lostMain, lostRetry }
