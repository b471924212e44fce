-- ack: settles deliveries as done; of the retry stream, deletes them too.
--
-- KEYS    1 stream, 2 state
-- ARGV    1 group, 2 consumer, 3 nonce ("" never stands), 4 origin ("main" or "retry"), 5 repeated ("1" if asked
--         before), 6 counts (of each, separated by spaces; "" if each is 1), 7 ids (separated by spaces: one argument for a
--         thousand of them is what the client writes quickest)
-- RETURNS {nonce stands, then for each id, unless all were settled the short way: 1 done, 2 another's, 0 not pending}
-- CALLER  Consumer.settle
-- ORDER   While the nonce stands, nothing was taken from this consumer since these were read, and XACK needs no
--         comparison. Else owner and count decide. Reading comes first, and XACK and XDEL need no memory; they check
--         the stream's type, as HGET does the hash's, before anything has changed.

--@include ask
--@include standing
local stream, state = KEYS[1], KEYS[2]
local group, consumer, nonce, origin, repeated = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]

local ids = {}
for id in string.gmatch(ARGV[7], "%S+") do ids[#ids + 1] = id end

local stands = redis.call("HGET", state, "n:" .. consumer) == nonce
if stands and repeated == "0" then
  redis.call("XACK", stream, group, unpack(ids))
  if origin == "retry" then redis.call("XDEL", stream, unpack(ids)) end
  return { 1 }
end

local counts, mine = {}, {}
local next = string.gmatch(ARGV[6], "%d+")
for i = 1, #ids do counts[i] = next() or "1" end
local found = standing(stream, group, consumer, ids, counts)
for i, how in ipairs(found) do
  if how == 1 then mine[#mine + 1] = ids[i] end
end
if #mine > 0 then
  redis.call("XACK", stream, group, unpack(mine))
  if origin == "retry" then redis.call("XDEL", stream, unpack(mine)) end
end
return { stands and 1 or 0, unpack(found) }
