-- tend: moves retries that are due, takes deliveries from dead consumers, and removes dead consumers that hold nothing.
--
-- KEYS    1 main, 2 retry, 3 due, 4 deadLetters, 5 state, 6 bell, 7 blocked, 8 parked
-- ARGV    1 mainGroup, 2 retryGroup, 3 scan ("1" to look at the consumers too), 4 cursor ("" to begin a scan, else the
--         last round's)
-- RETURNS {moved, reclaimed, trimmed (settled, since nothing of them is left), poison, removed, ms until something is
--         due or may expire or -1, more can be done now, cursor ("" at the end), an error that stopped the moving or
--         "", mended (keys of an ordered group that had lost their retry, or their place among those held back)}
-- CALLER  Transport.tend
-- BOUNDS  256 retries or 4 MiB moved, 1,000 pending entries looked at, 4 MiB read to see whether entries are there, 100
--         consumers removed, 100 keys mended.
-- ORDER   A retry is stored, then removed from the due set: together they need no memory, so it works while memory is
--         full. An error stops the moving where it stands, and the rest goes on. A reclaimed delivery is one XCLAIM,
--         and the nonce of its consumer goes in the same step. A consumer is removed by the script that has seen it
--         hold nothing.
--
-- What is reclaimed from the owner of a log ends its claim with its nonce. What is known of a consumer that is removed
-- goes with it, and so does the log where it owned that; `fence` stays for ever.
--
-- A consumer is judged by its own visibility timeout, 30 s if it has recorded none. Of what it holds, the entries that
-- its mark does not cover were not started, and lose the attempt that their delivery counted. An entry whose content was
-- trimmed lives in its consumer's memory: it is left alone while the consumer shows signs of life.

--@include mistyped
--@include now
--@include begin
--@include ids
--@include ask
--@include groups
--@include pending
--@include present
--@include delivered
--@include give
--@include unstarted
--@include position
--@include netstrings
--@include append
--@include unreadable
--@include advance
--@include forbidden
--@include mend
--@include ring
local main, retry, due, deadLetters, state, bell, blocked, parked = unpack(KEYS)
local mainGroup, retryGroup, scan, cursor = unpack(ARGV)
local wrong = mistyped("stream", main, "stream", retry, "zset", due, "stream", deadLetters, "hash", state,
  bellKind, bell, "zset", blocked, "zset", parked) or forbidden({ "ZREM", due, "" })
if wrong then return wrong end
-- a replica, which could move nothing, has nothing to say either; and Redis 6.2 counts every XGROUP among the commands that
-- need memory
begin(state)

local time = now()
local moved, reclaimed, trimmed, poison, removed = 0, 0, 0, 0, 0
local more, problem = 0, ""
local wait = math.huge

-- 1. retries that are due

local function move(member)
  local fields = parse(member)
  if fields and #fields <= maxFields then
    local added = append(retry, unpack(fields))
    if added.err then return added.err end
    moved = moved + 1
  else
    -- nothing that a handler could be given
    local added = deadLetter(member, "due", deadLetters)
    if added.err then return added.err end
    poison = poison + 1
  end
end

local bytes = 0
-- whatever stops it, those that were moved are removed
local function moveAll(members)
  local done = 0
  for _, member in ipairs(members) do
    if moved + poison >= 256 or bytes >= 4194304 then
      more = 1
      break
    end
    bytes = bytes + #member
    problem = move(member) or ""
    if problem ~= "" then break end
    done = done + 1
  end
  if done > 0 then redis.call("ZREM", due, unpack(members, 1, done)) end
  return done == #members
end
local function moveDue()
  while true do
    -- few at a time: their size is known only when they are read
    local members = redis.call("ZRANGEBYSCORE", due, "-inf", digits(time), "LIMIT", 0, 8)
    if #members == 0 or not moveAll(members) then return end
  end
end
moveDue()

local first = redis.call("ZRANGE", due, 0, 0, "WITHSCORES")[2]
-- what could not be moved is due already, and nothing is won by coming back at once
if first and problem == "" then wait = math.max(tonumber(first) - time, 0) end

-- 2. keys that nothing would free

local mended = 0
if problem == "" and redis.call("EXISTS", blocked, parked) > 0 then
  mended = mend(retry, due, deadLetters, blocked, parked)
  if mended == 100 then more = 1 end
end

-- 3. what dead consumers hold, and 4. dead consumers

local told = {}
local names = {}
local function timeout(name) return tonumber(told["v:" .. name] or "") or 30000 end
local function silence(name)
  local seen = tonumber(told["h:" .. name] or "")
  return seen and time - seen or math.huge
end
local function forget(name)
  redis.call("HDEL", state, "v:" .. name, "n:" .. name, "h:" .. name, "m:" .. name, "r:" .. name, "j:" .. name,
    "p:" .. name)
  if string.match(told.owner or "", "^(%S+)") == name then redis.call("HDEL", state, "owner") end
end

local budget = 1000
local function reclaim(origin, stream, group, name, from)
  local limit, unstarted = timeout(name), unstartedBy(told[(origin == "main" and "m:" or "r:") .. name])
  local present, taken = nil, false
  while true do
    local rows = pendingOf(stream, group, name, from, 100)
    for _, row in ipairs(rows) do
      local id, idle, count = row[1], row[3], row[4]
      if budget == 0 or looked >= 4194304 then return from end
      budget = budget - 1
      from = "(" .. id
      if idle < limit then
        wait = math.min(wait, limit - idle)
      else
        present = present or presence(stream)
        local there = present(id)
        if there or silence(name) >= limit then
          if not taken then redis.call("HDEL", state, "n:" .. name) end
          taken = true
        end
        if there then
          give(stream, group, id, unstarted(id) and free(count) or count)
          reclaimed = reclaimed + 1
        elseif silence(name) >= limit then
          redis.call("XACK", stream, group, id)
          trimmed = trimmed + 1
        else
          wait = math.min(wait, limit - silence(name))
        end
      end
    end
    if #rows < 100 then return nil end
  end
end

local function removeDead()
  for name, one in pairs(names) do
    local limit = math.max(10 * timeout(name), 300000)
    -- no sign of life, and no command of its own either: a consumer of another program has no heartbeat
    if removed < 100 and one.pending == 0 and one.idle > limit and silence(name) > limit and name ~= "-released" then
      if one.main then redis.call("XGROUP", "DELCONSUMER", main, mainGroup, name) end
      if one.retry then redis.call("XGROUP", "DELCONSUMER", retry, retryGroup, name) end
      forget(name)
      if one.main or one.retry then removed = removed + 1 end
    end
  end
end

local function scanConsumers()
  local all = redis.call("HGETALL", state)
  for i = 1, #all, 2 do
    told[all[i]] = all[i + 1]
    -- what is remembered of consumers that are in no group any more
    local name = string.match(all[i], "^[vnhmrjp]:(.*)$")
    if name then names[name] = { pending = 0, idle = math.huge } end
  end
  local queue = {}
  for order, origin in ipairs({ "main", "retry" }) do
    local stream, group = KEYS[order], ARGV[order]
    for _, one in ipairs(consumersOf(stream, group)) do
      local known = names[one.name] or { pending = 0, idle = math.huge }
      names[one.name] = known
      known[origin] = true
      known.pending = known.pending + one.pending
      known.idle = math.min(known.idle, one.idle)
      if one.pending > 0 and one.name ~= "-released" then
        queue[#queue + 1] = { order = order, origin = origin, stream = stream, group = group, name = one.name }
      end
    end
  end
  table.sort(queue, function(a, b)
    if a.order ~= b.order then return a.order < b.order end
    return a.name < b.name
  end)

  local order, from, name = string.match(cursor, "^(%d) (%S+) (.*)$")
  order = tonumber(order)
  if not order then
    removeDead()
  end
  for _, one in ipairs(queue) do
    local passed = order and (one.order < order or (one.order == order and one.name < name))
    if not passed then
      local here = order == one.order and name == one.name
      local left = reclaim(one.origin, one.stream, one.group, one.name, here and from or "-")
      if left then
        more = 1
        return one.order .. " " .. left .. " " .. one.name
      end
    end
  end
  local position = positionOf(main, mainGroup)
  if position and position ~= told.position then
    redis.call("HSET", state, "position", position)
  end
  return ""
end
cursor = scan == "1" and scanConsumers() or ""

if moved + reclaimed + mended > 0 then ring(bell, "given") end
local due_ = wait == math.huge and -1 or math.ceil(wait)
return { moved, reclaimed, trimmed, poison, removed, due_, more, cursor, problem, mended }
