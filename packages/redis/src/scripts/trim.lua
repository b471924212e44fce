-- trim: drops entries from the head of a log, up to what every group on it has settled.
--
-- KEYS    1 main, 2 groups, 3.. state (of each group that is named)
-- ARGV    1.. name (of groups that have disappeared)
-- RETURNS {trimmed, more can be dropped now, name of each group that has disappeared and was not named: nothing was
--         dropped, call again with them}
-- CALLER  Transport.trim
-- BOUNDS  drops about 10 MB or 10,000 entries, of a single node about 100 entries; reads up to 104 entries or about 1 MB of
--         one node.
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
--@include ask
--@include groups
--@include following
local main, groups = KEYS[1], KEYS[2]
local wrong = mistyped("stream", main, "hash", groups)
for i = 3, #KEYS do wrong = wrong or mistyped("hash", KEYS[i]) end
if wrong then return wrong end

local keep
local function hold(id)
  if not keep or after(keep, id) then keep = id end
end

local known, present, fresh = redis.call("HKEYS", groups), {}, {}
for _, name in ipairs(known) do known[name] = true end
-- without the stream there is no group either
local rows = redis.call("EXISTS", main) == 1 and redis.call("XINFO", "GROUPS", main) or {}
-- hundreds of groups that are all at one place are the usual case: compared once
local settled
for _, row in ipairs(rows) do
  local group = record(row)
  local name, delivered = group.name, group["last-delivered-id"]
  present[name] = true
  local first = group.pending > 0 and redis.call("XPENDING", main, name, "-", "+", 1)[1]
  if first then hold(first[1]) end
  -- also where something is pending: the group may have been set back
  if delivered ~= settled and (not settled or after(settled, delivered)) then settled = delivered end
  if not known[name] then fresh[#fresh + 1] = name end
end
if settled then hold(following(settled)) end

local stateOf, unnamed, gone = {}, { 0, 0 }, {}
for i, name in ipairs(ARGV) do stateOf[name] = KEYS[i + 2] end
for _, name in ipairs(known) do
  if not present[name] then
    local state = stateOf[name]
    local position = state and redis.call("HGET", state, "position")
    -- none of ours has a name like this, and it would come back as another one
    local foreign = string.find(name, "[\128-\255]")
    if not state and not foreign then
      unnamed[#unnamed + 1] = name
    elseif position then
      -- without any group there is nobody who has settled what would be dropped; above the last id it holds nothing
      if keep and string.find(position, "^%d+%-%d+$") then hold(following(position)) end
    else
      gone[#gone + 1] = name
    end
  end
end
if #unnamed > 2 then return unnamed end

begin(groups)
-- a call takes some thousands at most
for i = 1, #gone, 1000 do redis.call("HDEL", groups, unpack(gone, i, math.min(i + 999, #gone))) end
for _, name in ipairs(fresh) do redis.call("HSET", groups, name, digits(now())) end

if not keep then return { 0, 0 } end

-- by the first nodes, without reading what is in them: a large entry that is read is copied three times
local size = (redis.call("MEMORY", "USAGE", main) or 0) / math.max(1, redis.call("XLEN", main))
-- a node of small entries has 100 of them, and one that is larger than a node has it for itself
local limit = math.max(10, math.min(10000, math.floor(10000000 / (size + 100))))
local trimmed = redis.call("XTRIM", main, "MINID", "~", keep, "LIMIT", limit)
-- it may have ended at the limit
if trimmed > math.max(limit - 100, 0) then return { trimmed, 1 } end

-- what is left lies in the node where `keep` is, or in one with more entries than the limit: a part of that is dropped
local from, count, bytes, more = "-", 0, 0, 0
repeat
  local part = redis.call("XRANGE", main, from, "(" .. keep, "COUNT", 8)
  for _, entry in ipairs(part) do
    from = "(" .. entry[1]
    for _, field in ipairs(entry[2]) do bytes = bytes + #field end
  end
  count = count + #part
  if #part == 8 and (count >= 104 or bytes >= 1000000) then
    keep, more = part[8][1], 1
  end
until #part < 8 or more == 1
if count > 0 then trimmed = trimmed + redis.call("XTRIM", main, "MINID", "=", keep) end
return { trimmed, more }
