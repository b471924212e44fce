-- rest: says that a worker wants no share of the logs until it asks for the roster again.
--
-- KEYS    1 state, 2 owners
-- ARGV    1 consumer, 2 holder (nonce of its first join; "" asks nothing of the name)
-- RETURNS 1
-- CALLER  Worker.rest
-- ORDER   A few bytes are written. Works while memory is full.

--@include mistyped
--@include begin
--@include workers
--@include ring
local state, owners = KEYS[1], KEYS[2]
local consumer, holder = ARGV[1], ARGV[2]
local wrong = mistyped("hash", state, bellKind, owners)
if wrong then return wrong end

local known = redis.call("HMGET", state, "v:" .. consumer, "j:" .. consumer)
if known[1] and not isOther({ ["j:" .. consumer] = known[2] }, consumer, holder) then
  begin(state)
  redis.call("HSET", state, "p:" .. consumer, "1")
  ring(owners, "owners")
end
return 1
