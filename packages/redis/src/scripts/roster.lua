-- roster: shows that a worker lives and does not rest, and says who else does and who owns the log.
--
-- KEYS    1 main, 2 retry, 3 state, 4 owners
-- ARGV    1 mainGroup, 2 retryGroup, 3 consumer, 4 nonce (of the claim that it lives by, "" without one), 5 holder (nonce
--         of its first join; "" asks nothing of the name)
-- RETURNS {1, owner or "", ms until its lease ends, name of each worker that is alive and does not rest …}, or {0} where a
--         group is gone, or the consumer is no member, or its name another's: it is to join again
-- CALLER  Worker.roster
-- ORDER   A few bytes are written. Works while memory is full.
--
-- A claim of this name that the caller knows nothing of is that of a process that died, or one that could not be ceded:
-- signs of life would keep it for ever, so it ends here. What was held under it is taken by the next claim.

--@include mistyped
--@include now
--@include begin
--@include ask
--@include groups
--@include workers
--@include ring
local main, retry, state, owners = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local mainGroup, retryGroup, consumer, nonce, holder = unpack(ARGV)
local wrong = mistyped("stream", main, "stream", retry, "hash", state, bellKind, owners)
if wrong then return wrong end

local told = toldBy(state)
if not told["v:" .. consumer] or not groupOf(main, mainGroup) or not groupOf(retry, retryGroup) then return { 0 } end
if isOther(told, consumer, holder) then return { 0 } end

local time = now()
begin(state)
redis.call("HSET", state, "h:" .. consumer, digits(time))
entitle(state, told, consumer, holder)
told["h:" .. consumer] = digits(time)
if told["p:" .. consumer] then
  redis.call("HDEL", state, "p:" .. consumer)
  told["p:" .. consumer] = nil
  ring(owners, "owners")
end

local owner = ownerOf(told)
if owner == consumer and told.owner ~= consumer .. " " .. nonce then
  redis.call("HDEL", state, "owner")
  ring(owners, "owners")
  owner = nil
end
local left = owner and lease(told, owner, time) or 0
if left <= 0 then owner, left = nil, 0 end
local reply = { 1, owner or "", math.ceil(left) }
for field in pairs(told) do
  local name = string.match(field, "^v:(.*)$")
  if name and not told["p:" .. name] and lease(told, name, time) > 0 then reply[#reply + 1] = name end
end
return reply
