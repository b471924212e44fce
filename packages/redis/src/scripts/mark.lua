-- mark: records that, of what a consumer holds of one stream, nothing with a greater id was started; of an owner, nothing
-- but certain ids; or that anything may be.
--
-- KEYS    1 state
-- ARGV    1 consumer, 2 origin ("main" or "retry"), 3 mark (an id; "=" and ids, each behind a blank; "" to clear), 4 nonce
--         (of an owner's claim, else "")
-- RETURNS 1; 0 where the owner's claim does not stand, and nothing was done
-- CALLER  Consumer.mark, Owner.mark
-- ORDER   The old mark goes first: without a mark everything counts as started. So it works while memory is full, too;
--         a mark that could not be moved would let a message that kills its process go uncounted.

--@include owned
local state = KEYS[1]
-- a mark of a claim that is over would be taken for one of what its heir holds
if ARGV[4] ~= "" and not owned(state, ARGV[1], ARGV[4]) then return 0 end
local field = (ARGV[2] == "main" and "m:" or "r:") .. ARGV[1]
redis.call("HDEL", state, field)
if ARGV[3] ~= "" then redis.call("HSET", state, field, ARGV[3]) end
return 1
