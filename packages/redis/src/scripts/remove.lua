-- remove: removes a group with all that it has not settled, and its retries; not its dead letters.
--
-- KEYS    1 main, 2 retry, 3 due, 4 state, 5 groups, 6 bell, 7 blocked, 8 parked, 9 owners
-- ARGV    1 mainGroup, 2 retryGroup, 3 limit (pending entries a call)
-- RETURNS {living members: nothing was done if there are any, more is pending: call again, removed}
-- CALLER  Transport.removeGroup
-- ORDER   What is pending goes first, a part a call, since destroying a group takes as long as it has pending entries;
--         then everything else in one step. Works while memory is full. A repeated call finds less to do, or nothing.
--
-- A member lives that has given a sign of life, or used the group, within ten visibility timeouts (30 s each, if it has
-- recorded none), and five minutes at least: one that has nothing to do says little.

--@include mistyped
--@include now
--@include begin
--@include ask
--@include groups
--@include ring
local main, retry, due, state, groups, bell, blocked, parked, owners = unpack(KEYS)
local mainGroup, retryGroup, limit = unpack(ARGV)
local wrong = mistyped("stream", main, "stream", retry, "zset", due, "hash", state, "hash", groups, bellKind, bell,
  "zset", blocked, "zset", parked, bellKind, owners)
if wrong then return wrong end

local time, living = now(), {}
for stream, group in pairs({ [main] = mainGroup, [retry] = retryGroup }) do
  for _, one in ipairs(consumersOf(stream, group)) do
    local told = redis.call("HMGET", state, "v:" .. one.name, "h:" .. one.name)
    local silence = math.min(one.idle, told[2] and time - tonumber(told[2]) or math.huge)
    if one.name ~= "-released" and silence < math.max(10 * (tonumber(told[1] or "") or 30000), 300000) then living[one.name] = true end
  end
end
local count = 0
for _ in pairs(living) do count = count + 1 end
if count > 0 then return { count, 0, 0 } end

begin(state)
local there = groupOf(main, mainGroup)
if there then
  local ids = {}
  for i, row in ipairs(redis.call("XPENDING", main, mainGroup, "-", "+", limit)) do ids[i] = row[1] end
  if #ids > 0 then redis.call("XACK", main, mainGroup, unpack(ids)) end
  if #ids == tonumber(limit) then return { 0, 1, 0 } end
  redis.call("XGROUP", "DESTROY", main, mainGroup)
end
-- freed by the server at its leisure, the retry group with its pending entries too
local keys = redis.call("UNLINK", retry, due, state, blocked, parked, owners)
redis.call("HDEL", groups, mainGroup)
if there then ring(bell, "given") end
return { 0, 0, (there or keys > 0) and 1 or 0 }
