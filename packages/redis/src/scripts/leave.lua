-- leave: gives back what a consumer holds, at no cost of an attempt, and removes the consumer.
--
-- KEYS    1 main, 2 retry, 3 state, 4 bell, 5 owners
-- ARGV    1 mainGroup, 2 retryGroup, 3 consumer, 4 nonce, 5 limit (entries of each stream),
--         6 ordered ("1" for a worker of an ordered group: the others are told), 7 holder (nonce of its first join; ""
--         asks nothing of the name)
-- RETURNS {released, trimmed (settled, since nothing of them is left), more is pending: call again, removed}
-- CALLER  Consumer, when its Scope closes
-- ORDER   Each entry moves by itself. The consumer is removed last, and only when nothing is pending for it: removing
--         one removes what it holds. Works while memory is full. A repeated call finds less to do, or nothing.

--@include mistyped
--@include begin
--@include ids
--@include ask
--@include groups
--@include pending
--@include present
--@include delivered
--@include give
--@include giveBack
--@include position
--@include workers
--@include ring
local main, retry, state, bell, owners = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local mainGroup, retryGroup, consumer, nonce, limit, ordered, holder = unpack(ARGV)
local wrong = mistyped("stream", main, "stream", retry, "hash", state, bellKind, bell, bellKind, owners)
if wrong then return wrong end

-- the name belongs to another incarnation, and so does what is pending
local known = redis.call("HGET", state, "n:" .. consumer)
if known and known ~= nonce then return { 0, 0, 0, 1 } end
-- whoever claims takes all nonces: of a worker the name alone tells
local joined = { ["j:" .. consumer] = redis.call("HGET", state, "j:" .. consumer) }
if ordered == "1" and isOther(joined, consumer, holder) then return { 0, 0, 0, 1 } end

local released, trimmed, more = giveBack({ [main] = mainGroup, [retry] = retryGroup }, consumer, limit)

if more == 0 then
  -- Redis 6.2 counts every XGROUP among the commands that need memory
  begin(state)
  if groupOf(main, mainGroup) then redis.call("XGROUP", "DELCONSUMER", main, mainGroup, consumer) end
  if groupOf(retry, retryGroup) then redis.call("XGROUP", "DELCONSUMER", retry, retryGroup, consumer) end
  -- what was given back may be the lowest unsettled entry: it is pending, so the position stays before it
  local position = positionOf(main, mainGroup)
  redis.call("HDEL", state, "v:" .. consumer, "n:" .. consumer, "h:" .. consumer, "m:" .. consumer, "r:" .. consumer,
    "j:" .. consumer, "p:" .. consumer)
  if position then redis.call("HSET", state, "position", position) end
end
if released > 0 then ring(bell, "given") end
if ordered == "1" and more == 0 then ring(owners, "owners") end
return { released, trimmed, more, 1 - more }
