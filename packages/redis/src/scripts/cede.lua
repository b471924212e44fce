-- cede: gives back what an owner holds, at no cost of an attempt, and then the log.
--
-- KEYS    1 main, 2 retry, 3 state, 4 owners, 5 bell
-- ARGV    1 mainGroup, 2 retryGroup, 3 consumer, 4 nonce (of the claim), 5 limit (entries of each stream)
-- RETURNS {released, trimmed (settled, since nothing of them is left), more is held: call again}
-- CALLER  Worker.claim, when its Scope closes, or the claim was not finished
-- ORDER   The nonce goes first: from then on nothing is fetched or settled under this claim. The log is given back in the
--         step that sees nothing held. A claim that does not stand any more has nothing to give, and a repeated call
--         finds that. Works while memory is full.

--@include mistyped
--@include ids
--@include ask
--@include groups
--@include pending
--@include present
--@include delivered
--@include give
--@include giveBack
--@include position
--@include ring
local main, retry, state, owners, bell = unpack(KEYS)
local mainGroup, retryGroup, consumer, nonce, limit = unpack(ARGV)
local wrong = mistyped("stream", main, "stream", retry, "hash", state, bellKind, owners, bellKind, bell)
if wrong then return wrong end
if redis.call("HGET", state, "owner") ~= consumer .. " " .. nonce then return { 0, 0, 0 } end

redis.call("HDEL", state, "n:" .. consumer)
local released, trimmed, more = giveBack({ [main] = mainGroup, [retry] = retryGroup }, consumer, limit)

if more == 0 then
  redis.call("HDEL", state, "owner", "m:" .. consumer, "r:" .. consumer)
  local position = positionOf(main, mainGroup)
  if position then redis.call("HSET", state, "position", position) end
  ring(owners, "owners")
  ring(bell, "given")
end
return { released, trimmed, more }
