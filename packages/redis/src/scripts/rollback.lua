-- rollback: undoes a join as if it had never been, as far as nobody else has begun to use what it created.
--
-- KEYS    1 main, 2 retry, 3 state, 4 owners
-- ARGV    1 mainGroup, 2 retryGroup, 3 consumer, 4 nonce (of the join in mode "first"), 5 ordered ("1" for a worker of an
--         ordered group)
-- RETURNS {join found, consumers removed, groups removed, keys removed}
-- CALLER  Transport.join, when its Scope closes before the join stands
-- ORDER   The consumer goes first, where it holds nothing; then a group that this join created, where it has no other
--         consumer, nothing is pending and its position has not moved; then a stream that this join created, where it
--         has no other group and never had an entry (or ids could go backwards). Works while memory is full. The record
--         of the join goes with it, so a repeated call finds nothing to undo.

--@include mistyped
--@include begin
--@include ask
--@include groups
--@include ring
local main, retry, state, owners = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local mainGroup, retryGroup, consumer, nonce, ordered = unpack(ARGV)
local wrong = mistyped("stream", main, "stream", retry, "hash", state, bellKind, owners)
if wrong then return wrong end

local joined = redis.call("HGET", state, "j:" .. consumer) or ""
local who, flags, start = string.match(joined, "^(%S+) ([01]+) (%S+)$")
-- the name may belong to another incarnation by now
if who ~= nonce then return { 0, 0, 0, 0 } end
local function made(i) return string.sub(flags, i, i) == "1" end

-- Redis 6.2 counts every XGROUP among the commands that need memory
begin(state)
local consumers, groups, keys = 0, 0, 0
local stays = false

local function undo(stream, group, position, keyMade, groupMade, consumerMade)
  local others, mine = 0, nil
  for _, one in ipairs(consumersOf(stream, group)) do
    if one.name == consumer then mine = one else others = others + 1 end
  end
  if mine and consumerMade and mine.pending == 0 then
    redis.call("XGROUP", "DELCONSUMER", stream, group, consumer)
    consumers = consumers + 1
  elseif mine then
    stays = true
    others = others + 1
  end
  local now = groupOf(stream, group)
  local destroyed = false
  if groupMade and now and others == 0 and now.pending == 0 and now["last-delivered-id"] == position then
    redis.call("XGROUP", "DESTROY", stream, group)
    groups = groups + 1
    destroyed = true
  end
  if keyMade and redis.call("EXISTS", stream) == 1 then
    local info = record(redis.call("XINFO", "STREAM", stream))
    if info.groups == 0 and info["last-generated-id"] == "0-0" then
      redis.call("DEL", stream)
      keys = keys + 1
    end
  end
  return destroyed
end

local mainGone = undo(main, mainGroup, start, made(1), made(3), made(5))
undo(retry, retryGroup, "0-0", made(2), made(4), made(6))

-- a consumer that was there before, or holds something, is still to be judged by its own timeout
if not stays then
  redis.call("HDEL", state, "v:" .. consumer, "h:" .. consumer, "m:" .. consumer, "r:" .. consumer, "p:" .. consumer)
elseif ordered == "1" then
  -- whoever had the name before was silent for so long that this one could join
  redis.call("HDEL", state, "h:" .. consumer)
end
redis.call("HDEL", state, "n:" .. consumer, "j:" .. consumer)
-- a position that was remembered before this join stays remembered
if mainGone and not made(7) then redis.call("HDEL", state, "position") end
if ordered == "1" then
  if mainGone then
    keys = keys + redis.call("DEL", owners)
  else
    ring(owners, "owners")
  end
end
return { 1, consumers, groups, keys }
