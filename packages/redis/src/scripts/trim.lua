-- trim: drops entries from the head of a log, up to what every group on it has settled.
--
-- KEYS    1 main, 2 groups, 3.. state (of each group that is named)
-- ARGV    1.. name (of groups that have disappeared)
-- RETURNS {trimmed, more can be dropped now, name of each group that has disappeared and was not named: nothing was
--         dropped, call again with them}
-- CALLER  Transport.trim
-- BOUNDS  about 20 MB, 10,000 entries, and of a single node 100 entries; reads one entry, then up to 101 of one node.
-- ORDER   The lowest unsettled entry of all groups is found in the step that trims. Whole nodes go first, without a look
--         at their entries. Works while memory is full, as it frees some. A repeated call finds less to do, or nothing.
--
-- Every group counts, also one of another program. A group of ours that has disappeared, and would be created again
-- from the position that its state remembers, holds back what follows that position. Whoever was seen is noted in
-- `groups`, with the time.

--@include mistyped
--@include now
--@include begin
--@include ids
--@include groups
--@include following
local states = { unpack(KEYS) }
local main, groups = table.remove(states, 1), table.remove(states, 1)
local wrong = mistyped("stream", main, "hash", groups)
for _, state in ipairs(states) do wrong = wrong or mistyped("hash", state) end
if wrong then return wrong end

local keep
local function hold(id)
  if not keep or after(keep, id) then keep = id end
end

local known, present, fresh = redis.call("HKEYS", groups), {}, {}
for _, name in ipairs(known) do known[name] = true end
-- without the stream there is no group either
local rows = redis.call("EXISTS", main) == 1 and redis.call("XINFO", "GROUPS", main) or {}
for _, row in ipairs(rows) do
  local group = record(row)
  present[group.name] = true
  local first = group.pending > 0 and redis.call("XPENDING", main, group.name, "-", "+", 1)[1]
  hold(first and first[1] or following(group["last-delivered-id"]))
  if not known[group.name] then fresh[#fresh + 1] = group.name end
end

local stateOf, unnamed, gone = {}, {}, {}
for i, name in ipairs(ARGV) do stateOf[name] = states[i] end
for _, name in ipairs(known) do
  if not present[name] then
    local state = stateOf[name]
    local position = state and redis.call("HGET", state, "position")
    if not state then
      unnamed[#unnamed + 1] = name
    elseif position then
      -- without any group there is nobody who has settled what would be dropped; above the last id it holds nothing
      if keep and string.find(position, "^%d+%-%d+$") then hold(following(position)) end
    else
      gone[#gone + 1] = name
    end
  end
end
if #unnamed > 0 then return { 0, 0, unpack(unnamed) } end

begin(groups)
if #gone > 0 then redis.call("HDEL", groups, unpack(gone)) end
for _, name in ipairs(fresh) do redis.call("HSET", groups, name, digits(now())) end

local first = keep and redis.call("XRANGE", main, "-", "(" .. keep, "COUNT", 1)[1]
if not first then return { 0, 0 } end

local size = 0
for _, part in ipairs(first[2]) do size = size + #part end
-- a node has 100 entries at most, unless somebody configured more: below that, nothing at all might be dropped
local limit = math.max(100, math.min(10000, math.floor(20000000 / (size + 100))))
local trimmed = redis.call("XTRIM", main, "MINID", "~", keep, "LIMIT", limit)
if trimmed > limit - 100 then return { trimmed, 1 } end

-- what is left lies in the node where `keep` is, or in one that is larger than the limit
local rest = redis.call("XRANGE", main, "-", "(" .. keep, "COUNT", 101)
if #rest == 0 then return { trimmed, 0 } end
local more = #rest == 101 and 1 or 0
trimmed = trimmed + redis.call("XTRIM", main, "MINID", "=", more == 1 and rest[101][1] or keep)
return { trimmed, more }
