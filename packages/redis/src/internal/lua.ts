// Written by scripts/build-lua.mjs from src/scripts/*.lua: edit those, then run `pnpm lua`.

/** The text of each Lua script, by its name. */
export const lua = {
  ack: `-- ack: settles deliveries as done; of the retry stream, deletes them too.
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

-- What the server says of a stream or a group, with \`err\` and no rows where there is none. Any other error is the caller's
-- to see, as the server words it.
local function ask(...)
  local reply = redis.pcall(...)
  local function isAbsent(words) return string.find(reply.err, words, 1, true) end
  if reply.err and not isAbsent("NOGROUP") and not isAbsent("no such key") then redis.call(...) end
  return reply
end
-- How deliveries stand, by owner and count: 1 this consumer's, delivered as often as it says; 2 another's, or delivered
-- again; 0 not pending, or no such group. One range read covers a batch whose ids lie together; the rest is asked
-- singly.
local function standing(stream, group, consumer, ids, counts)
  local own, found = {}, {}
  local rows = ask("XPENDING", stream, group, ids[1], "+", #ids, consumer)
  for _, row in ipairs(rows) do own[row[1]] = row[4] end
  for i, id in ipairs(ids) do
    local count = own[id]
    if count then
      found[i] = count == tonumber(counts[i]) and 1 or 2
    elseif rows.err then
      found[i] = 0
    else
      local row = redis.call("XPENDING", stream, group, id, id, 1)[1]
      found[i] = not row and 0 or (row[2] == consumer and row[4] == tonumber(counts[i])) and 1 or 2
    end
  end
  return found
end

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
`,
  cede: `-- cede: gives back what an owner holds, at no cost of an attempt, and then the log.
--
-- KEYS    1 main, 2 retry, 3 state, 4 owners, 5 bell
-- ARGV    1 mainGroup, 2 retryGroup, 3 consumer, 4 nonce (of the claim), 5 limit (entries of each stream)
-- RETURNS {released, trimmed (settled, since nothing of them is left), more is held: call again}
-- CALLER  Worker.claim, when its Scope closes, or the claim was not finished
-- ORDER   The nonce goes first: from then on nothing is fetched or settled under this claim. The log is given back in the
--         step that sees nothing held. A claim that does not stand any more has nothing to give, and a repeated call
--         finds that. Works while memory is full.

-- The error for the first key, of those given as kind, key, kind, key, …, that holds another kind of value; nil if all
-- fit. Asked before the first write: an error in the middle would leave half of a move behind.
local function mistyped(...)
  local wanted = { ... }
  for i = 1, #wanted, 2 do
    local kind = redis.call("TYPE", wanted[i + 1]).ok
    if kind ~= "none" and kind ~= wanted[i] then
      local told = wanted[i + 1] .. " holds a " .. kind .. ", and a " .. wanted[i] .. " is wanted"
      return redis.error_reply("WRONGTYPE " .. told)
    end
  end
end

-- Whether entry id a is greater than b. Compared as text: the parts have 64 bits, and Lua's numbers 53.
local function after(a, b)
  local ams, aseq = string.match(a, "^(%d+)%-(%d+)$")
  local bms, bseq = string.match(b, "^(%d+)%-(%d+)$")
  if not ams or not bms then return false end
  if ams == bms then ams, bms = aseq, bseq end
  return #ams > #bms or (#ams == #bms and ams > bms)
end

-- What the server says of a stream or a group, with \`err\` and no rows where there is none. Any other error is the caller's
-- to see, as the server words it.
local function ask(...)
  local reply = redis.pcall(...)
  local function isAbsent(words) return string.find(reply.err, words, 1, true) end
  if reply.err and not isAbsent("NOGROUP") and not isAbsent("no such key") then redis.call(...) end
  return reply
end
-- A flat list of names and values, as XINFO answers, by name.
local function record(flat)
  local named = {}
  for i = 1, #flat, 2 do named[flat[i]] = flat[i + 1] end
  return named
end
-- What XINFO says of a consumer group; nil if there is none, or no stream.
local function groupOf(stream, name)
  for _, row in ipairs(ask("XINFO", "GROUPS", stream)) do
    local group = record(row)
    if group.name == name then return group end
  end
end
-- The consumers of a group; none where there is no group.
local function consumersOf(stream, group)
  local consumers = {}
  for i, row in ipairs(ask("XINFO", "CONSUMERS", stream, group)) do consumers[i] = record(row) end
  return consumers
end

-- Up to \`limit\` rows {id, consumer, idle, count} of what a consumer has pending from \`from\` on; none where there is no
-- group.
local function pendingOf(stream, group, consumer, from, limit)
  return ask("XPENDING", stream, group, from, "+", limit, consumer)
end

-- A function that tells whether an entry still has its content. It must be asked before XCLAIM, which drops a trimmed
-- entry from the pending list without a word. Redis 7 names the greatest id ever deleted: what lies above it, and not
-- below the first entry, is there, and need not be read. \`looked\` counts the bytes that were read to find out.
local looked = 0
local function presence(stream)
  local info = ask("XINFO", "STREAM", stream)
  local first, deleted
  for i = 1, #info, 2 do
    if info[i] == "first-entry" then first = info[i + 1] and info[i + 1][1] end
    if info[i] == "max-deleted-entry-id" then deleted = info[i + 1] end
  end
  return function(id)
    if not first or after(first, id) then return false end
    if deleted and after(id, deleted) then return true end
    local entry = redis.call("XRANGE", stream, id, id)[1]
    if not entry then return false end
    for _, part in ipairs(entry[2]) do looked = looked + #part end
    return true
  end
end

-- A delivery count: how often an entry was delivered, and how often it was given back at no cost, in millions. So no two
-- deliveries of an entry have the same count, and what is said of one is never taken for another.
local million = 1000000
local function delivered(count)
  return count % million
end
-- The count of a delivery that cost nothing.
local function free(count)
  return count + million - math.min(delivered(count), 1)
end
-- Gives a delivery to whoever takes it next: pending for \`-released\` with this delivery count, and idle for a day, so
-- that no minimum of anybody's holds it back. XCLAIM may do so while memory is full.
local function give(stream, group, id, count)
  redis.call("XCLAIM", stream, group, "-released", 0, id, "IDLE", 86400000, "RETRYCOUNT", count, "JUSTID")
end

-- Gives back what a consumer holds, at no cost of an attempt, at most \`limit\` entries of each stream, which are given with
-- their groups: how many, how many were settled, since nothing of them is left, and 1 where it holds more.
local function giveBack(groups, consumer, limit)
  local released, trimmed, more = 0, 0, 0
  for stream, group in pairs(groups) do
    local rows = pendingOf(stream, group, consumer, "-", limit)
    if #rows > 0 then
      local present = presence(stream)
      for _, row in ipairs(rows) do
        if present(row[1]) then
          give(stream, group, row[1], free(row[4]))
          released = released + 1
        else
          redis.call("XACK", stream, group, row[1])
          trimmed = trimmed + 1
        end
      end
    end
    if #rows == tonumber(limit) and #pendingOf(stream, group, consumer, "-", 1) > 0 then more = 1 end
  end
  return released, trimmed, more
end
-- A decimal number as text, less one. Not as a number: the parts of an id have 64 bits.
local function decrement(number)
  local head, digit, zeros = string.match(number, "^(%d-)([1-9])(0*)$")
  local less = head .. (digit - 1) .. string.rep("9", #zeros)
  return (string.gsub(less, "^0+(%d)", "%1"))
end
-- The last id before this one.
local function before(id)
  local ms, seq = string.match(id, "^(%d+)%-(%d+)$")
  if seq ~= "0" then return ms .. "-" .. decrement(seq) end
  if ms ~= "0" then return decrement(ms) .. "-18446744073709551615" end
  return id
end
-- Where a group would have to begin so that nothing unsettled is missed; nil if there is no group.
local function positionOf(stream, group)
  local pending = ask("XPENDING", stream, group)
  if pending.err then return nil end
  if pending[1] > 0 then return before(pending[2]) end
  return groupOf(stream, group)["last-delivered-id"]
end

-- Wakes whoever waits at the bell, by a message that says what for: "new" entries; others that were "given" back, retried or
-- moved; or something that is "due" before all that was known. What was moved before stands, so a failure here must not
-- look like one of the move. The bell's key is the mark of messages that nobody has heard yet: one of a kind is enough, and
-- a lost one is not for ever. \`told\` is what the key holds, where it was asked already.
local bellKind = "string"
local function ring(bell, what, told)
  if told == nil then told = redis.pcall("GET", bell) end
  -- one that does not go by itself is somebody else's
  if type(told) ~= "string" or redis.pcall("PTTL", bell) == -1 then
    redis.pcall("SET", bell, what, "PX", 1000)
  elseif string.find(told, what, 1, true) then
    return
  else
    redis.pcall("SET", bell, told .. " " .. what, "KEEPTTL")
  end
  redis.pcall("PUBLISH", bell, what)
end
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
`,
  claim: `-- claim: makes a worker the owner of a log, and takes what anybody held of it, for the owner to fetch.
--
-- KEYS    1 main, 2 retry, 3 state, 4 owners
-- ARGV    1 mainGroup, 2 retryGroup, 3 consumer, 4 nonce (of this claim), 5 limit (entries taken a call), 6 holder (nonce
--         of the worker's first join; "" asks nothing of the name)
-- RETURNS {1, fence, more is to be taken: call again, taken, trimmed (settled, since nothing of them is left)}, {0} where
--         another owner's lease has not ended, {2} where a group is gone or the consumer is no member, or its name
--         another's: it is to join again
-- CALLER  Worker.claim, until nothing is left to be taken
-- ORDER   The first call makes the owner, and takes every nonce: from then on no settlement of anybody else is accepted.
--         Each taken entry is one XCLAIM. Marks tell which deliveries had not started, and lose the attempt that they
--         counted; they go when all is taken. A repeated call goes on, or finds that another has claimed. Works while
--         memory is full.

-- The error for the first key, of those given as kind, key, kind, key, …, that holds another kind of value; nil if all
-- fit. Asked before the first write: an error in the middle would leave half of a move behind.
local function mistyped(...)
  local wanted = { ... }
  for i = 1, #wanted, 2 do
    local kind = redis.call("TYPE", wanted[i + 1]).ok
    if kind ~= "none" and kind ~= wanted[i] then
      local told = wanted[i + 1] .. " holds a " .. kind .. ", and a " .. wanted[i] .. " is wanted"
      return redis.error_reply("WRONGTYPE " .. told)
    end
  end
end

-- The server's clock in milliseconds, and a number of milliseconds as text: Lua's own would turn large ones into 1e+14.
local function now()
  local time = redis.call("TIME")
  return time[1] * 1000 + math.floor(time[2] / 1000)
end
local function digits(number)
  return string.format("%.0f", number)
end

-- Begins to write without writing anything. A server whose memory is full refuses a script's first write if it can
-- grow, but none behind a write that was let through. Only for steps that free as much as they take, or take a few
-- bytes.
local function begin(hash)
  redis.call("HDEL", hash, "")
end

-- Whether entry id a is greater than b. Compared as text: the parts have 64 bits, and Lua's numbers 53.
local function after(a, b)
  local ams, aseq = string.match(a, "^(%d+)%-(%d+)$")
  local bms, bseq = string.match(b, "^(%d+)%-(%d+)$")
  if not ams or not bms then return false end
  if ams == bms then ams, bms = aseq, bseq end
  return #ams > #bms or (#ams == #bms and ams > bms)
end

-- What the server says of a stream or a group, with \`err\` and no rows where there is none. Any other error is the caller's
-- to see, as the server words it.
local function ask(...)
  local reply = redis.pcall(...)
  local function isAbsent(words) return string.find(reply.err, words, 1, true) end
  if reply.err and not isAbsent("NOGROUP") and not isAbsent("no such key") then redis.call(...) end
  return reply
end
-- A flat list of names and values, as XINFO answers, by name.
local function record(flat)
  local named = {}
  for i = 1, #flat, 2 do named[flat[i]] = flat[i + 1] end
  return named
end
-- What XINFO says of a consumer group; nil if there is none, or no stream.
local function groupOf(stream, name)
  for _, row in ipairs(ask("XINFO", "GROUPS", stream)) do
    local group = record(row)
    if group.name == name then return group end
  end
end
-- The consumers of a group; none where there is no group.
local function consumersOf(stream, group)
  local consumers = {}
  for i, row in ipairs(ask("XINFO", "CONSUMERS", stream, group)) do consumers[i] = record(row) end
  return consumers
end

-- Up to \`limit\` rows {id, consumer, idle, count} of what a consumer has pending from \`from\` on; none where there is no
-- group.
local function pendingOf(stream, group, consumer, from, limit)
  return ask("XPENDING", stream, group, from, "+", limit, consumer)
end

-- A function that tells whether an entry still has its content. It must be asked before XCLAIM, which drops a trimmed
-- entry from the pending list without a word. Redis 7 names the greatest id ever deleted: what lies above it, and not
-- below the first entry, is there, and need not be read. \`looked\` counts the bytes that were read to find out.
local looked = 0
local function presence(stream)
  local info = ask("XINFO", "STREAM", stream)
  local first, deleted
  for i = 1, #info, 2 do
    if info[i] == "first-entry" then first = info[i + 1] and info[i + 1][1] end
    if info[i] == "max-deleted-entry-id" then deleted = info[i + 1] end
  end
  return function(id)
    if not first or after(first, id) then return false end
    if deleted and after(id, deleted) then return true end
    local entry = redis.call("XRANGE", stream, id, id)[1]
    if not entry then return false end
    for _, part in ipairs(entry[2]) do looked = looked + #part end
    return true
  end
end

-- A delivery count: how often an entry was delivered, and how often it was given back at no cost, in millions. So no two
-- deliveries of an entry have the same count, and what is said of one is never taken for another.
local million = 1000000
local function delivered(count)
  return count % million
end
-- The count of a delivery that cost nothing.
local function free(count)
  return count + million - math.min(delivered(count), 1)
end
-- Gives a delivery to whoever takes it next: pending for \`-released\` with this delivery count, and idle for a day, so
-- that no minimum of anybody's holds it back. XCLAIM may do so while memory is full.
local function give(stream, group, id, count)
  redis.call("XCLAIM", stream, group, "-released", 0, id, "IDLE", 86400000, "RETRYCOUNT", count, "JUSTID")
end

-- Whether a mark (nil where there is none) shows that an entry was not started: a function of its id.
local function unstartedBy(mark)
  if not mark then
    return function() return false end
  end
  if string.sub(mark, 1, 1) ~= "=" then
    return function(id) return after(id, mark) end
  end
  local started = {}
  for id in string.gmatch(mark, " (%S+)") do started[id] = true end
  return function(id) return not started[id] end
end
-- A decimal number as text, less one. Not as a number: the parts of an id have 64 bits.
local function decrement(number)
  local head, digit, zeros = string.match(number, "^(%d-)([1-9])(0*)$")
  local less = head .. (digit - 1) .. string.rep("9", #zeros)
  return (string.gsub(less, "^0+(%d)", "%1"))
end
-- The last id before this one.
local function before(id)
  local ms, seq = string.match(id, "^(%d+)%-(%d+)$")
  if seq ~= "0" then return ms .. "-" .. decrement(seq) end
  if ms ~= "0" then return decrement(ms) .. "-18446744073709551615" end
  return id
end
-- Where a group would have to begin so that nothing unsettled is missed; nil if there is no group.
local function positionOf(stream, group)
  local pending = ask("XPENDING", stream, group)
  if pending.err then return nil end
  if pending[1] > 0 then return before(pending[2]) end
  return groupOf(stream, group)["last-delivered-id"]
end

-- All that the state hash tells, by field.
local function toldBy(state)
  return record(redis.call("HGETALL", state))
end
-- For how many more ms a worker is taken to be alive: its visibility timeout after its last sign of life. Not above 0
-- where it is not.
local function lease(told, name, time)
  local timeout, seen = tonumber(told["v:" .. name] or ""), tonumber(told["h:" .. name] or "")
  return timeout and seen and seen + timeout - time or 0
end
-- By the nonce of its first join, the member that has a name; nil where nobody has.
local function holderOf(told, name)
  return string.match(told["j:" .. name] or "", "^(%S+) ")
end
-- Whether the name is another's than this one's ("" asks nothing).
local function isOther(told, name, holder)
  local known = holderOf(told, name)
  return holder ~= "" and known ~= nil and known ~= holder
end
-- Gives a member the name, beside whose join nothing is to be undone.
local function entitle(state, told, name, holder)
  if holder ~= "" and holderOf(told, name) ~= holder then
    redis.call("HSET", state, "j:" .. name, holder .. " 0000000 -")
  end
end
-- Who owns the log, whether or not it is alive; nil where nobody does.
local function ownerOf(told)
  return string.match(told.owner or "", "^(%S+) %S+$")
end

-- Wakes whoever waits at the bell, by a message that says what for: "new" entries; others that were "given" back, retried or
-- moved; or something that is "due" before all that was known. What was moved before stands, so a failure here must not
-- look like one of the move. The bell's key is the mark of messages that nobody has heard yet: one of a kind is enough, and
-- a lost one is not for ever. \`told\` is what the key holds, where it was asked already.
local bellKind = "string"
local function ring(bell, what, told)
  if told == nil then told = redis.pcall("GET", bell) end
  -- one that does not go by itself is somebody else's
  if type(told) ~= "string" or redis.pcall("PTTL", bell) == -1 then
    redis.pcall("SET", bell, what, "PX", 1000)
  elseif string.find(told, what, 1, true) then
    return
  else
    redis.pcall("SET", bell, told .. " " .. what, "KEEPTTL")
  end
  redis.pcall("PUBLISH", bell, what)
end
local main, retry, state, owners = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local mainGroup, retryGroup, consumer, nonce, limit, holder = unpack(ARGV)
local wrong = mistyped("stream", main, "stream", retry, "hash", state, bellKind, owners)
if wrong then return wrong end

local told = toldBy(state)
if not told["v:" .. consumer] or not groupOf(main, mainGroup) or not groupOf(retry, retryGroup) then return { 2 } end
if isOther(told, consumer, holder) then return { 2 } end
local time = now()
local claim = consumer .. " " .. nonce
local fence = told.fence or "0"
if not string.find(fence, "^%d+$") or #fence > 15 then
  return redis.error_reply("WRONGTYPE the field fence of " .. state .. " is no number")
end

local isNew = told.owner ~= claim
if isNew then
  local other = ownerOf(told)
  if other and other ~= consumer and lease(told, other, time) > 0 then return { 0 } end
end
begin(state)
if isNew then
  for field in pairs(told) do
    if string.sub(field, 1, 2) == "n:" then redis.call("HDEL", state, field) end
  end
  -- above the server's clock, so that it grows even where the last one was lost or removed
  fence = digits(math.max(tonumber(fence) + 1, time))
  redis.call("HSET", state, "owner", claim, "fence", fence)
  ring(owners, "owners")
end
entitle(state, told, consumer, holder)
-- a reclaim of what this name held before may have taken the nonce between two calls: nothing is held under it yet
redis.call("HSET", state, "n:" .. consumer, nonce, "h:" .. consumer, digits(time))

local budget, taken, trimmed = tonumber(limit), 0, 0
-- whether all was taken
local function takeAll(stream, group, marks)
  local present
  for _, one in ipairs(consumersOf(stream, group)) do
    if one.pending > 0 and one.name ~= "-released" then
      local unstarted = unstartedBy(told[marks .. one.name])
      present = present or presence(stream)
      if budget == 0 then return false end
      local rows = pendingOf(stream, group, one.name, "-", budget)
      for _, row in ipairs(rows) do
        local id, count = row[1], row[4]
        if looked >= 4194304 then return false end
        budget = budget - 1
        if present(id) then
          give(stream, group, id, unstarted(id) and free(count) or count)
          taken = taken + 1
        else
          redis.call("XACK", stream, group, id)
          trimmed = trimmed + 1
        end
      end
      if #rows < one.pending then return false end
    end
  end
  return true
end

local done = takeAll(main, mainGroup, "m:") and takeAll(retry, retryGroup, "r:")
if done then
  for field in pairs(told) do
    if string.find(field, "^[mr]:") then redis.call("HDEL", state, field) end
  end
  redis.call("HSET", state, "position", positionOf(main, mainGroup))
end
return { 1, tonumber(fence), done and 0 or 1, taken, trimmed }
`,
  draw: `-- draw: delivers to the owner of a log what it is to have next: what was given back, then retries, then new entries.
--
-- KEYS    1 main, 2 retry, 3 state
-- ARGV    1 mainGroup, 2 retryGroup, 3 consumer, 4 nonce (of the claim), 5 limit (entries), 6 bytes (roughly; a first
--         entry is taken whatever its size), 7 alone ("1": one suspect and nothing else), 8 maxAttempts ("" without a
--         limit), 9 retries (unread ones at most, as far as sizes are known), 10 mains (new ones at most, 0 for none)
-- RETURNS {1, suspects wait that were not taken, trimmed (settled, since nothing of them is left), packed with cmsgpack:
--         {given back of main {{id, delivery count, fields} …}, of retry the same, unread of retry {{id, fields} …}, of
--         main the same}}, {0} where the claim does not stand, {2} where a group is gone
-- CALLER  Owner.fetch
-- ORDER   The claim is checked, and with the reads of the pending lists the type of every key, before the first write. Each
--         read and each XCLAIM delivers for itself. A reply that is lost leaves entries pending for the owner, who gives
--         all back with the log. Works while memory is full.
--
-- Entries of one key must not overtake each other, so nothing is taken from behind what waits to be taken alone, nor that
-- before what lies in front of it.

-- The server's clock in milliseconds, and a number of milliseconds as text: Lua's own would turn large ones into 1e+14.
local function now()
  local time = redis.call("TIME")
  return time[1] * 1000 + math.floor(time[2] / 1000)
end
local function digits(number)
  return string.format("%.0f", number)
end

-- Begins to write without writing anything. A server whose memory is full refuses a script's first write if it can
-- grow, but none behind a write that was let through. Only for steps that free as much as they take, or take a few
-- bytes.
local function begin(hash)
  redis.call("HDEL", hash, "")
end

-- What the server says of a stream or a group, with \`err\` and no rows where there is none. Any other error is the caller's
-- to see, as the server words it.
local function ask(...)
  local reply = redis.pcall(...)
  local function isAbsent(words) return string.find(reply.err, words, 1, true) end
  if reply.err and not isAbsent("NOGROUP") and not isAbsent("no such key") then redis.call(...) end
  return reply
end
-- Up to \`limit\` rows {id, consumer, idle, count} of what a consumer has pending from \`from\` on; none where there is no
-- group.
local function pendingOf(stream, group, consumer, from, limit)
  return ask("XPENDING", stream, group, from, "+", limit, consumer)
end

-- A delivery count: how often an entry was delivered, and how often it was given back at no cost, in millions. So no two
-- deliveries of an entry have the same count, and what is said of one is never taken for another.
local million = 1000000
local function delivered(count)
  return count % million
end
-- The count of a delivery that cost nothing.
local function free(count)
  return count + million - math.min(delivered(count), 1)
end
-- Suspects: entries that consumers died of or beside, to be taken alone. \`looked\` counts the bytes that were read to
-- tell them from others.
local looked = 0
-- attempts made before this entry was written; what cannot be read counts as none, and is dead-lettered by who takes it
local function attemptsOf(stream, id)
  local entry = redis.call("XRANGE", stream, id, id)[1]
  local fields = entry and entry[2] or {}
  for _, part in ipairs(fields) do looked = looked + #part end
  for i = 1, #fields, 2 do
    if fields[i] == "clutch" then
      local read, clutch = pcall(cjson.decode, fields[i + 1])
      return read and type(clutch) == "table" and tonumber(clutch.attempt) or 0
    end
  end
  return 0
end
-- Whether it was held by consumers that died: twice, or once where its next attempt is the last.
local function suspected(stream, id, count, isRetry, maxAttempts)
  count = delivered(count)
  if count >= 2 then return true end
  if count == 0 or not maxAttempts then return false end
  return (isRetry and attemptsOf(stream, id) or 0) + count + 1 >= maxAttempts
end

-- Whether a claim of the log stands: nobody claimed it since, and nothing was taken from its owner.
local function owned(state, consumer, nonce)
  local known = redis.call("HMGET", state, "owner", "n:" .. consumer)
  return known[1] == consumer .. " " .. nonce and known[2] == nonce
end
-- A sign of life, which is what a lease of the log is counted from.
local function alive(state, consumer)
  begin(state)
  redis.call("HSET", state, "h:" .. consumer, digits(now()))
end

local main, retry, state = KEYS[1], KEYS[2], KEYS[3]
local mainGroup, retryGroup, consumer, nonce, limit, maxBytes, alone, maxAttempts, retries, mains = unpack(ARGV)
limit, maxBytes, alone, maxAttempts = tonumber(limit), tonumber(maxBytes), alone == "1", tonumber(maxAttempts)
if not owned(state, consumer, nonce) then return { 0 } end
-- more than is wanted, so that no suspect is passed over for long
local ofMain = pendingOf(main, mainGroup, "-released", "-", limit + 256)
local ofRetry = pendingOf(retry, retryGroup, "-released", "-", limit + 256)
if ofMain.err or ofRetry.err then return { 2 } end
alive(state, consumer)

local taken, bytes, trimmed = 0, 0, 0
local function take(stream, group, id, count, entries)
  local entry = redis.call("XCLAIM", stream, group, consumer, 0, id)[1]
  if entry then
    entries[#entries + 1] = { id, digits(count + 1), entry[2] }
    taken = taken + 1
    for _, part in ipairs(entry[2]) do bytes = bytes + #part end
  else
    -- Redis 7 has dropped it from the pending list by now, Redis 6.2 has not
    redis.call("XACK", stream, group, id)
    trimmed = trimmed + 1
  end
end
local function clear(stream, group, rows)
  if #rows > 0 and #pendingOf(stream, group, "-released", "-", 1) == 0 then
    redis.call("XGROUP", "DELCONSUMER", stream, group, "-released")
  end
end

local suspects, cut = 0, false
local givenMain, givenRetry = {}, {}
-- leaves of the rows what may be taken now: what lies before a suspect, or alone one that is first
local function look(stream, group, rows, entries)
  for i, row in ipairs(rows) do
    -- before it is looked at, which may take all that may be read: the first of them is taken all the same
    local late = looked >= 4194304
    local suspect = not late and suspected(stream, row[1], row[4], stream == retry, maxAttempts)
    if suspect and alone and taken == 0 then
      take(stream, group, row[1], row[4], entries)
    elseif suspect or alone or late then
      -- the others next time, and nothing from behind them
      for j = #rows, i, -1 do rows[j] = nil end
      if suspect then suspects = 1 end
      cut = true
      return
    end
  end
end
look(main, mainGroup, ofMain, givenMain)
if cut then ofRetry = {} else look(retry, retryGroup, ofRetry, givenRetry) end
if alone then
  if taken + trimmed > 0 then
    clear(main, mainGroup, ofMain)
    clear(retry, retryGroup, ofRetry)
  end
  return { 1, suspects, trimmed, cmsgpack.pack({ givenMain, givenRetry, {}, {} }) }
end

local function full()
  return taken >= limit or (taken > 0 and bytes >= maxBytes)
end
local function from(stream, group, rows, entries)
  for _, row in ipairs(rows) do
    if full() then return end
    take(stream, group, row[1], row[4], entries)
  end
  clear(stream, group, rows)
end
from(main, mainGroup, ofMain, givenMain)
from(retry, retryGroup, ofRetry, givenRetry)

local function read(stream, group, wanted)
  -- what was taken has its share of the bytes
  local count = math.min(limit - taken, math.ceil(wanted * (1 - bytes / maxBytes)))
  if cut or full() or count < 1 then return {}, true end
  local reply = redis.call("XREADGROUP", "GROUP", group, consumer, "COUNT", count, "STREAMS", stream, ">")
  local rows = reply and reply[1][2] or {}
  return rows, #rows == count
end
local unreadRetry, more = read(retry, retryGroup, tonumber(retries))
local unreadMain = {}
if not more then
  for _, row in ipairs(unreadRetry) do
    taken = taken + 1
    for _, part in ipairs(row[2]) do bytes = bytes + #part end
  end
  if mains ~= "0" then unreadMain = read(main, mainGroup, tonumber(mains)) end
end
return { 1, suspects, trimmed, cmsgpack.pack({ givenMain, givenRetry, unreadRetry, unreadMain }) }
`,
  extend: `-- extend: shows that a consumer lives, extends the leases of what it holds, and records the group's position.
--
-- KEYS    1 main, 2 retry, 3 state
-- ARGV    1 mainGroup, 2 retryGroup, 3 consumer, 4 nonce, 5 mains (how many ids are of main),
--         6.. id (of main, then of retry), count (of each, behind all ids)
-- RETURNS {nonce stands, ids of main that are not held, ids of retry that are not held}
-- CALLER  Consumer.extend; an idle consumer, with no ids
-- ORDER   XCLAIM to oneself only resets the idle time, and nothing else depends on it. It is kept from entries that
--         were trimmed, as it would drop them from the pending list: those are kept from reclaim by the sign of life.
--         Works while memory is full.

-- The error for the first key, of those given as kind, key, kind, key, …, that holds another kind of value; nil if all
-- fit. Asked before the first write: an error in the middle would leave half of a move behind.
local function mistyped(...)
  local wanted = { ... }
  for i = 1, #wanted, 2 do
    local kind = redis.call("TYPE", wanted[i + 1]).ok
    if kind ~= "none" and kind ~= wanted[i] then
      local told = wanted[i + 1] .. " holds a " .. kind .. ", and a " .. wanted[i] .. " is wanted"
      return redis.error_reply("WRONGTYPE " .. told)
    end
  end
end

-- The server's clock in milliseconds, and a number of milliseconds as text: Lua's own would turn large ones into 1e+14.
local function now()
  local time = redis.call("TIME")
  return time[1] * 1000 + math.floor(time[2] / 1000)
end
local function digits(number)
  return string.format("%.0f", number)
end

-- Begins to write without writing anything. A server whose memory is full refuses a script's first write if it can
-- grow, but none behind a write that was let through. Only for steps that free as much as they take, or take a few
-- bytes.
local function begin(hash)
  redis.call("HDEL", hash, "")
end

-- Whether entry id a is greater than b. Compared as text: the parts have 64 bits, and Lua's numbers 53.
local function after(a, b)
  local ams, aseq = string.match(a, "^(%d+)%-(%d+)$")
  local bms, bseq = string.match(b, "^(%d+)%-(%d+)$")
  if not ams or not bms then return false end
  if ams == bms then ams, bms = aseq, bseq end
  return #ams > #bms or (#ams == #bms and ams > bms)
end

-- What the server says of a stream or a group, with \`err\` and no rows where there is none. Any other error is the caller's
-- to see, as the server words it.
local function ask(...)
  local reply = redis.pcall(...)
  local function isAbsent(words) return string.find(reply.err, words, 1, true) end
  if reply.err and not isAbsent("NOGROUP") and not isAbsent("no such key") then redis.call(...) end
  return reply
end
-- A flat list of names and values, as XINFO answers, by name.
local function record(flat)
  local named = {}
  for i = 1, #flat, 2 do named[flat[i]] = flat[i + 1] end
  return named
end
-- What XINFO says of a consumer group; nil if there is none, or no stream.
local function groupOf(stream, name)
  for _, row in ipairs(ask("XINFO", "GROUPS", stream)) do
    local group = record(row)
    if group.name == name then return group end
  end
end
-- The consumers of a group; none where there is no group.
local function consumersOf(stream, group)
  local consumers = {}
  for i, row in ipairs(ask("XINFO", "CONSUMERS", stream, group)) do consumers[i] = record(row) end
  return consumers
end

-- How deliveries stand, by owner and count: 1 this consumer's, delivered as often as it says; 2 another's, or delivered
-- again; 0 not pending, or no such group. One range read covers a batch whose ids lie together; the rest is asked
-- singly.
local function standing(stream, group, consumer, ids, counts)
  local own, found = {}, {}
  local rows = ask("XPENDING", stream, group, ids[1], "+", #ids, consumer)
  for _, row in ipairs(rows) do own[row[1]] = row[4] end
  for i, id in ipairs(ids) do
    local count = own[id]
    if count then
      found[i] = count == tonumber(counts[i]) and 1 or 2
    elseif rows.err then
      found[i] = 0
    else
      local row = redis.call("XPENDING", stream, group, id, id, 1)[1]
      found[i] = not row and 0 or (row[2] == consumer and row[4] == tonumber(counts[i])) and 1 or 2
    end
  end
  return found
end

-- A function that tells whether an entry still has its content. It must be asked before XCLAIM, which drops a trimmed
-- entry from the pending list without a word. Redis 7 names the greatest id ever deleted: what lies above it, and not
-- below the first entry, is there, and need not be read. \`looked\` counts the bytes that were read to find out.
local looked = 0
local function presence(stream)
  local info = ask("XINFO", "STREAM", stream)
  local first, deleted
  for i = 1, #info, 2 do
    if info[i] == "first-entry" then first = info[i + 1] and info[i + 1][1] end
    if info[i] == "max-deleted-entry-id" then deleted = info[i + 1] end
  end
  return function(id)
    if not first or after(first, id) then return false end
    if deleted and after(id, deleted) then return true end
    local entry = redis.call("XRANGE", stream, id, id)[1]
    if not entry then return false end
    for _, part in ipairs(entry[2]) do looked = looked + #part end
    return true
  end
end

-- A decimal number as text, less one. Not as a number: the parts of an id have 64 bits.
local function decrement(number)
  local head, digit, zeros = string.match(number, "^(%d-)([1-9])(0*)$")
  local less = head .. (digit - 1) .. string.rep("9", #zeros)
  return (string.gsub(less, "^0+(%d)", "%1"))
end
-- The last id before this one.
local function before(id)
  local ms, seq = string.match(id, "^(%d+)%-(%d+)$")
  if seq ~= "0" then return ms .. "-" .. decrement(seq) end
  if ms ~= "0" then return decrement(ms) .. "-18446744073709551615" end
  return id
end
-- Where a group would have to begin so that nothing unsettled is missed; nil if there is no group.
local function positionOf(stream, group)
  local pending = ask("XPENDING", stream, group)
  if pending.err then return nil end
  if pending[1] > 0 then return before(pending[2]) end
  return groupOf(stream, group)["last-delivered-id"]
end

local main, retry, state = KEYS[1], KEYS[2], KEYS[3]
local mainGroup, retryGroup, consumer, nonce, mains = unpack(ARGV, 1, 5)
mains = tonumber(mains)
local wrong = mistyped("hash", state)
if wrong then return wrong end

local known = redis.call("HMGET", state, "n:" .. consumer, "v:" .. consumer)
local stands = known[1] == nonce and 1 or 0
local n = (#ARGV - 5) / 2

local function hold(stream, group, from, to)
  local ids, counts, lost, there = {}, {}, {}, {}
  for i = from, to do
    ids[#ids + 1] = ARGV[5 + i]
    counts[#counts + 1] = ARGV[5 + n + i]
  end
  if #ids == 0 then return lost end
  local present = presence(stream)
  for i, how in ipairs(standing(stream, group, consumer, ids, counts)) do
    if how ~= 1 then
      lost[#lost + 1] = ids[i]
    elseif present(ids[i]) then
      there[#there + 1] = ids[i]
    end
  end
  if #there > 0 then
    local claim = { "XCLAIM", stream, group, consumer, 0 }
    for _, id in ipairs(there) do claim[#claim + 1] = id end
    claim[#claim + 1] = "JUSTID"
    redis.call(unpack(claim))
  end
  return lost
end

wrong = n > 0 and mistyped("stream", main, "stream", retry)
if wrong then return wrong end
local lostMain = hold(main, mainGroup, 1, mains)
local lostRetry = hold(retry, retryGroup, mains + 1, n)

-- without a timeout of its own it is no member: a sign of life would be all that is left of it
if known[2] then
  begin(state)
  redis.call("HSET", state, "h:" .. consumer, digits(now()))
end
if n > 0 then
  local position = positionOf(main, mainGroup)
  if position then
    begin(state)
    redis.call("HSET", state, "position", position)
  end
end
return { stands, lostMain, lostRetry }
`,
  fail: `-- fail: moves failed deliveries to the due set, or to the dead letters.
--
-- KEYS    1 stream, 2 due, 3 deadLetters, 4 bell
-- ARGV    1 group, 2 consumer, 3 origin ("main" or "retry"), then for each delivery
--         4.. id, count, delay (ms until its retry, "" for a dead letter),
--         first (its first delivery, in ms by the server's clock),
--         clutch (a JSON object without its closing brace), fields (netstrings)
-- RETURNS for each: 1 done, or the id it has among the dead letters; 2 another's, 0 not pending
-- CALLER  Consumer.settle
-- ORDER   Owner and count are compared, then everything is stored, then the entries are settled. The first write stores
--         something, so where memory is full it is refused and nothing has changed. What is stored is the caller's
--         copy: an entry that was trimmed meanwhile is kept all the same. A repeated call finds nothing pending.
--
-- A member of the due set is the future entry's fields as netstrings. Its field \`clutch\` names entry and attempt, so no
-- two are alike, and its score is the server's time at which it is due.

-- The error for the first key, of those given as kind, key, kind, key, …, that holds another kind of value; nil if all
-- fit. Asked before the first write: an error in the middle would leave half of a move behind.
local function mistyped(...)
  local wanted = { ... }
  for i = 1, #wanted, 2 do
    local kind = redis.call("TYPE", wanted[i + 1]).ok
    if kind ~= "none" and kind ~= wanted[i] then
      local told = wanted[i + 1] .. " holds a " .. kind .. ", and a " .. wanted[i] .. " is wanted"
      return redis.error_reply("WRONGTYPE " .. told)
    end
  end
end

-- The server's clock in milliseconds, and a number of milliseconds as text: Lua's own would turn large ones into 1e+14.
local function now()
  local time = redis.call("TIME")
  return time[1] * 1000 + math.floor(time[2] / 1000)
end
local function digits(number)
  return string.format("%.0f", number)
end

-- What the server says of a stream or a group, with \`err\` and no rows where there is none. Any other error is the caller's
-- to see, as the server words it.
local function ask(...)
  local reply = redis.pcall(...)
  local function isAbsent(words) return string.find(reply.err, words, 1, true) end
  if reply.err and not isAbsent("NOGROUP") and not isAbsent("no such key") then redis.call(...) end
  return reply
end
-- How deliveries stand, by owner and count: 1 this consumer's, delivered as often as it says; 2 another's, or delivered
-- again; 0 not pending, or no such group. One range read covers a batch whose ids lie together; the rest is asked
-- singly.
local function standing(stream, group, consumer, ids, counts)
  local own, found = {}, {}
  local rows = ask("XPENDING", stream, group, ids[1], "+", #ids, consumer)
  for _, row in ipairs(rows) do own[row[1]] = row[4] end
  for i, id in ipairs(ids) do
    local count = own[id]
    if count then
      found[i] = count == tonumber(counts[i]) and 1 or 2
    elseif rows.err then
      found[i] = 0
    else
      local row = redis.call("XPENDING", stream, group, id, id, 1)[1]
      found[i] = not row and 0 or (row[2] == consumer and row[4] == tonumber(counts[i])) and 1 or 2
    end
  end
  return found
end

-- Fields as one string of bytes, a netstring each, and back; nil where the bytes are none, or are no pairs.
local function netstring(bytes)
  return #bytes .. ":" .. bytes .. ","
end
local function parse(encoded)
  local fields, at = {}, 1
  while at <= #encoded do
    local length, from = string.match(encoded, "^(%d+):()", at)
    if not from or #length > 10 then return nil end
    local comma = from + length
    if string.byte(encoded, comma) ~= 44 then return nil end
    fields[#fields + 1] = string.sub(encoded, from, comma - 1)
    at = comma + 1
  end
  if #fields == 0 or #fields % 2 == 1 then return nil end
  return fields
end
-- More than this many names and values cannot be handed to one command: \`unpack\` ends at 7,990.
local maxFields = 7000

-- Wakes whoever waits at the bell, by a message that says what for: "new" entries; others that were "given" back, retried or
-- moved; or something that is "due" before all that was known. What was moved before stands, so a failure here must not
-- look like one of the move. The bell's key is the mark of messages that nobody has heard yet: one of a kind is enough, and
-- a lost one is not for ever. \`told\` is what the key holds, where it was asked already.
local bellKind = "string"
local function ring(bell, what, told)
  if told == nil then told = redis.pcall("GET", bell) end
  -- one that does not go by itself is somebody else's
  if type(told) ~= "string" or redis.pcall("PTTL", bell) == -1 then
    redis.pcall("SET", bell, what, "PX", 1000)
  elseif string.find(told, what, 1, true) then
    return
  else
    redis.pcall("SET", bell, told .. " " .. what, "KEEPTTL")
  end
  redis.pcall("PUBLISH", bell, what)
end
-- XADD: the id of the new entry, or the error, with the stream's name: the server's own words for a stream that takes no
-- more ids have none.
local function append(stream, ...)
  local added = redis.pcall("XADD", stream, "*", ...)
  if type(added) == "table" then added.err = string.gsub(added.err, "^-", "") .. " (" .. stream .. ")" end
  return added
end
-- The error for the first command, of those given as lists of it and its arguments, that the user may not call; nil where
-- all may be. Asked before the first write, as for \`mistyped\`: an error in the middle would leave half of a move behind.
-- Not by calling them: behind a write, even of nothing, others are let through while memory is full. Redis before 7 cannot
-- tell.
local function forbidden(...)
  local allowed = redis.acl_check_cmd
  for _, command in ipairs(allowed and { ... } or {}) do
    if not allowed(unpack(command)) then
      return redis.error_reply("NOPERM this user may not call '" .. command[1] .. "' on " .. command[2])
    end
  end
end
local stream, due, deadLetters, bell = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local group, consumer, origin = ARGV[1], ARGV[2], ARGV[3]
local wrong = mistyped("stream", stream, "zset", due, "stream", deadLetters, bellKind, bell)
if wrong then return wrong end

local ids, counts, mine = {}, {}, {}
for i = 4, #ARGV, 6 do
  ids[#ids + 1] = ARGV[i]
  counts[#counts + 1] = ARGV[i + 1]
end
local found = standing(stream, group, consumer, ids, counts)

local time = now()
local earliest = tonumber(redis.call("ZRANGE", due, 0, 0, "WITHSCORES")[2] or "inf")
local nearest = earliest
local failed = ',"failed":' .. digits(time) .. "}"
local scheduled, letters = {}, {}
for n, how in ipairs(found) do
  if how == 1 then
    local i = 6 * n - 2
    local delay, first, clutch, fields = ARGV[i + 2], ARGV[i + 3], ARGV[i + 4], ARGV[i + 5]
    local times = ',"first":' .. first .. failed
    -- fields, then clutch as two netstrings; in one expression, since each intermediate string is copied and hashed
    local whole = fields .. "6:clutch," .. #clutch + #times .. ":" .. clutch .. times .. ","
    if delay == "" then
      local parts = parse(whole)
      -- somebody's entry of thousands of fields becomes one that can be written
      if not parts or #parts > maxFields then parts = { "fields", fields, "clutch", clutch .. times } end
      letters[#letters + 1] = { n, parts }
    else
      local at = time + delay
      scheduled[#scheduled + 1] = digits(at)
      scheduled[#scheduled + 1] = whole
      if at < nearest then nearest = at end
    end
    mine[#mine + 1] = ids[n]
  end
end

if #mine > 0 then
  wrong = forbidden({ "ZADD", due, "0", "" }, { "XACK", stream, group, "0-0" }, { "XDEL", stream, "0-0" })
  if wrong then return wrong end
  -- first, as a stream that can have no further entry refuses it
  for _, letter in ipairs(letters) do
    local added = append(deadLetters, unpack(letter[2]))
    if type(added) == "table" then return added end
    found[letter[1]] = added
  end
  if #scheduled > 0 then redis.call("ZADD", due, unpack(scheduled)) end
  redis.call("XACK", stream, group, unpack(mine))
  if origin == "retry" then redis.call("XDEL", stream, unpack(mine)) end
end
-- whoever sleeps until the earliest retry sleeps too long
if nearest < earliest then ring(bell, "due") end
return found
`,
  join: `-- join: makes a consumer a member of a group, creating what is absent, and says what it created.
--
-- KEYS    1 main, 2 retry, 3 state, 4 owners
-- ARGV    1 mainGroup, 2 retryGroup, 3 consumer, 4 nonce, 5 visibilityTimeout (ms),
--         6 start (where the main group begins if it is created: "$" or an id, exclusive),
--         7 mode ("first" for a new consumer, "again" for one that was in the group before),
--         8 ordered ("1" for a worker of an ordered group: the others are told, and its name is its own while it lives),
--         9 holder (nonce of the member's join in mode "first"; "" asks nothing of the name)
-- RETURNS {main group created, retry group created, start or nil if the main group was there, entries that may repeat,
--         more, 1 where nothing was done as a living worker has the name}
-- CALLER  Transport.join; a consumer after a reconnect, a lost nonce or NOGROUP
-- STATE   writes v:, n:, h: and, on "first" or where a worker takes a name again, j: of the consumer (what this join
--         created, for rollback): "nonce flags start", where flags are 0 or 1 for main key, retry key, main group, retry
--         group, main consumer, retry consumer, position.
-- ORDER   Creating the main group can fail for a bad start, and comes first. A repeated call with the same nonce finds
--         everything there, and keeps what j: says. Works while memory is full: a group that cannot be joined never
--         shrinks.
--
-- A group that is created makes every nonce invalid: what was delivered before is no longer pending for anybody, or is
-- delivered again under the same ids, and must be compared one by one.

-- The error for the first key, of those given as kind, key, kind, key, …, that holds another kind of value; nil if all
-- fit. Asked before the first write: an error in the middle would leave half of a move behind.
local function mistyped(...)
  local wanted = { ... }
  for i = 1, #wanted, 2 do
    local kind = redis.call("TYPE", wanted[i + 1]).ok
    if kind ~= "none" and kind ~= wanted[i] then
      local told = wanted[i + 1] .. " holds a " .. kind .. ", and a " .. wanted[i] .. " is wanted"
      return redis.error_reply("WRONGTYPE " .. told)
    end
  end
end

-- The server's clock in milliseconds, and a number of milliseconds as text: Lua's own would turn large ones into 1e+14.
local function now()
  local time = redis.call("TIME")
  return time[1] * 1000 + math.floor(time[2] / 1000)
end
local function digits(number)
  return string.format("%.0f", number)
end

-- Begins to write without writing anything. A server whose memory is full refuses a script's first write if it can
-- grow, but none behind a write that was let through. Only for steps that free as much as they take, or take a few
-- bytes.
local function begin(hash)
  redis.call("HDEL", hash, "")
end

-- Whether entry id a is greater than b. Compared as text: the parts have 64 bits, and Lua's numbers 53.
local function after(a, b)
  local ams, aseq = string.match(a, "^(%d+)%-(%d+)$")
  local bms, bseq = string.match(b, "^(%d+)%-(%d+)$")
  if not ams or not bms then return false end
  if ams == bms then ams, bms = aseq, bseq end
  return #ams > #bms or (#ams == #bms and ams > bms)
end

-- What the server says of a stream or a group, with \`err\` and no rows where there is none. Any other error is the caller's
-- to see, as the server words it.
local function ask(...)
  local reply = redis.pcall(...)
  local function isAbsent(words) return string.find(reply.err, words, 1, true) end
  if reply.err and not isAbsent("NOGROUP") and not isAbsent("no such key") then redis.call(...) end
  return reply
end
-- A flat list of names and values, as XINFO answers, by name.
local function record(flat)
  local named = {}
  for i = 1, #flat, 2 do named[flat[i]] = flat[i + 1] end
  return named
end
-- What XINFO says of a consumer group; nil if there is none, or no stream.
local function groupOf(stream, name)
  for _, row in ipairs(ask("XINFO", "GROUPS", stream)) do
    local group = record(row)
    if group.name == name then return group end
  end
end
-- The consumers of a group; none where there is no group.
local function consumersOf(stream, group)
  local consumers = {}
  for i, row in ipairs(ask("XINFO", "CONSUMERS", stream, group)) do consumers[i] = record(row) end
  return consumers
end

-- All that the state hash tells, by field.
local function toldBy(state)
  return record(redis.call("HGETALL", state))
end
-- For how many more ms a worker is taken to be alive: its visibility timeout after its last sign of life. Not above 0
-- where it is not.
local function lease(told, name, time)
  local timeout, seen = tonumber(told["v:" .. name] or ""), tonumber(told["h:" .. name] or "")
  return timeout and seen and seen + timeout - time or 0
end
-- By the nonce of its first join, the member that has a name; nil where nobody has.
local function holderOf(told, name)
  return string.match(told["j:" .. name] or "", "^(%S+) ")
end
-- Whether the name is another's than this one's ("" asks nothing).
local function isOther(told, name, holder)
  local known = holderOf(told, name)
  return holder ~= "" and known ~= nil and known ~= holder
end
-- Gives a member the name, beside whose join nothing is to be undone.
local function entitle(state, told, name, holder)
  if holder ~= "" and holderOf(told, name) ~= holder then
    redis.call("HSET", state, "j:" .. name, holder .. " 0000000 -")
  end
end
-- Who owns the log, whether or not it is alive; nil where nobody does.
local function ownerOf(told)
  return string.match(told.owner or "", "^(%S+) %S+$")
end

-- Wakes whoever waits at the bell, by a message that says what for: "new" entries; others that were "given" back, retried or
-- moved; or something that is "due" before all that was known. What was moved before stands, so a failure here must not
-- look like one of the move. The bell's key is the mark of messages that nobody has heard yet: one of a kind is enough, and
-- a lost one is not for ever. \`told\` is what the key holds, where it was asked already.
local bellKind = "string"
local function ring(bell, what, told)
  if told == nil then told = redis.pcall("GET", bell) end
  -- one that does not go by itself is somebody else's
  if type(told) ~= "string" or redis.pcall("PTTL", bell) == -1 then
    redis.pcall("SET", bell, what, "PX", 1000)
  elseif string.find(told, what, 1, true) then
    return
  else
    redis.pcall("SET", bell, told .. " " .. what, "KEEPTTL")
  end
  redis.pcall("PUBLISH", bell, what)
end
local main, retry, state, owners = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local mainGroup, retryGroup, consumer, nonce, timeout, start, mode, ordered, holder = unpack(ARGV)
local wrong = mistyped("stream", main, "stream", retry, "hash", state, bellKind, owners)
if wrong then return wrong end

-- two by one name would take from each other what they hold; without an order each settles its own all the same
local told = ordered == "1" and toldBy(state) or {}
-- a name that lives and is nobody's is that of a worker whose version does not say so
local isForeign = isOther(told, consumer, holder) or (mode == "first" and holder ~= "" and not holderOf(told, consumer))
if isForeign and lease(told, consumer, now()) > 0 then return { 0, 0, false, 0, 0, 1 } end

local mainThere, retryThere = groupOf(main, mainGroup), groupOf(retry, retryGroup)
local made = {
  1 - redis.call("EXISTS", main),
  1 - redis.call("EXISTS", retry),
  mainThere and 0 or 1,
  retryThere and 0 or 1
}

local remembered = 0
local begins = nil
if not mainThere then
  local last = made[1] == 1 and "0-0" or record(redis.call("XINFO", "STREAM", main))["last-generated-id"]
  local position = redis.call("HGET", state, "position")
  -- above the last id, it belongs to a stream that is no more
  if position and string.find(position, "^%d+%-%d+$") and not after(position, last) then
    begins, remembered = position, 1
  elseif mode == "again" and redis.call("XLEN", main) > 0 then
    begins = "0-0"
  else
    begins = start == "$" and last or start
  end
end

begin(state)
if not mainThere then redis.call("XGROUP", "CREATE", main, mainGroup, begins, "MKSTREAM") end
-- from its beginning: it holds nothing but unsettled retries
if not retryThere then redis.call("XGROUP", "CREATE", retry, retryGroup, "0-0", "MKSTREAM") end
made[5] = redis.call("XGROUP", "CREATECONSUMER", main, mainGroup, consumer)
made[6] = redis.call("XGROUP", "CREATECONSUMER", retry, retryGroup, consumer)
made[7] = remembered

if not mainThere or not retryThere then
  -- as many as the group has consumers; never when nothing was lost
  for _, field in ipairs(redis.call("HKEYS", state)) do
    if string.sub(field, 1, 2) == "n:" then redis.call("HDEL", state, field) end
  end
end
-- a mark speaks of what an incarnation holds of one stream: not of the next one, and not of another stream
if mode == "first" or not mainThere then redis.call("HDEL", state, "m:" .. consumer) end
if mode == "first" or not retryThere then redis.call("HDEL", state, "r:" .. consumer) end
if begins then redis.call("HSET", state, "position", begins) end
redis.call("HSET", state, "v:" .. consumer, timeout, "n:" .. consumer, nonce, "h:" .. consumer, digits(now()))

local created, createdRetry = made[3], made[4]
if mode == "first" then
  local flags, from = table.concat(made), begins or "-"
  local known = redis.call("HGET", state, "j:" .. consumer)
  local who, before, begun = string.match(known or "", "^(%S+) ([01]+) (%S+)$")
  if who == nonce then
    -- the reply to the first call was lost: what that one created is still this join's to undo
    local both = {}
    for i = 1, 7 do both[i] = math.max(string.byte(before, i), string.byte(flags, i)) - 48 end
    flags = table.concat(both)
    if begun ~= "-" then from = begun end
    if not begins and begun ~= "-" then begins = begun end
    created, createdRetry = both[3], both[4]
  end
  redis.call("HSET", state, "j:" .. consumer, nonce .. " " .. flags .. " " .. from)
elseif ordered == "1" then
  entitle(state, told, consumer, holder)
end

if ordered == "1" then ring(owners, "owners") end

local repeats, more = 0, 0
if mode == "again" and not mainThere then
  if begins == "0-0" then
    repeats = redis.call("XLEN", main)
  else
    -- counting means reading: in small steps, up to 1,000 entries or 4 MiB
    local from, bytes = "(" .. begins, 0
    repeat
      local entries = redis.call("XRANGE", main, from, "+", "COUNT", 16)
      for _, entry in ipairs(entries) do
        from = "(" .. entry[1]
        for _, part in ipairs(entry[2]) do bytes = bytes + #part end
      end
      repeats = repeats + #entries
      more = #entries == 16 and 1 or 0
    until more == 0 or repeats >= 1000 or bytes >= 4194304
  end
end
return { created, createdRetry, begins or false, repeats, more, 0 }
`,
  leave: `-- leave: gives back what a consumer holds, at no cost of an attempt, and removes the consumer.
--
-- KEYS    1 main, 2 retry, 3 state, 4 bell, 5 owners
-- ARGV    1 mainGroup, 2 retryGroup, 3 consumer, 4 nonce, 5 limit (entries of each stream),
--         6 ordered ("1" for a worker of an ordered group: the others are told), 7 holder (nonce of its first join; ""
--         asks nothing of the name)
-- RETURNS {released, trimmed (settled, since nothing of them is left), more is pending: call again, removed}
-- CALLER  Consumer, when its Scope closes
-- ORDER   Each entry moves by itself. The consumer is removed last, and only when nothing is pending for it: removing
--         one removes what it holds. Works while memory is full. A repeated call finds less to do, or nothing.

-- The error for the first key, of those given as kind, key, kind, key, …, that holds another kind of value; nil if all
-- fit. Asked before the first write: an error in the middle would leave half of a move behind.
local function mistyped(...)
  local wanted = { ... }
  for i = 1, #wanted, 2 do
    local kind = redis.call("TYPE", wanted[i + 1]).ok
    if kind ~= "none" and kind ~= wanted[i] then
      local told = wanted[i + 1] .. " holds a " .. kind .. ", and a " .. wanted[i] .. " is wanted"
      return redis.error_reply("WRONGTYPE " .. told)
    end
  end
end

-- Begins to write without writing anything. A server whose memory is full refuses a script's first write if it can
-- grow, but none behind a write that was let through. Only for steps that free as much as they take, or take a few
-- bytes.
local function begin(hash)
  redis.call("HDEL", hash, "")
end

-- Whether entry id a is greater than b. Compared as text: the parts have 64 bits, and Lua's numbers 53.
local function after(a, b)
  local ams, aseq = string.match(a, "^(%d+)%-(%d+)$")
  local bms, bseq = string.match(b, "^(%d+)%-(%d+)$")
  if not ams or not bms then return false end
  if ams == bms then ams, bms = aseq, bseq end
  return #ams > #bms or (#ams == #bms and ams > bms)
end

-- What the server says of a stream or a group, with \`err\` and no rows where there is none. Any other error is the caller's
-- to see, as the server words it.
local function ask(...)
  local reply = redis.pcall(...)
  local function isAbsent(words) return string.find(reply.err, words, 1, true) end
  if reply.err and not isAbsent("NOGROUP") and not isAbsent("no such key") then redis.call(...) end
  return reply
end
-- A flat list of names and values, as XINFO answers, by name.
local function record(flat)
  local named = {}
  for i = 1, #flat, 2 do named[flat[i]] = flat[i + 1] end
  return named
end
-- What XINFO says of a consumer group; nil if there is none, or no stream.
local function groupOf(stream, name)
  for _, row in ipairs(ask("XINFO", "GROUPS", stream)) do
    local group = record(row)
    if group.name == name then return group end
  end
end
-- The consumers of a group; none where there is no group.
local function consumersOf(stream, group)
  local consumers = {}
  for i, row in ipairs(ask("XINFO", "CONSUMERS", stream, group)) do consumers[i] = record(row) end
  return consumers
end

-- Up to \`limit\` rows {id, consumer, idle, count} of what a consumer has pending from \`from\` on; none where there is no
-- group.
local function pendingOf(stream, group, consumer, from, limit)
  return ask("XPENDING", stream, group, from, "+", limit, consumer)
end

-- A function that tells whether an entry still has its content. It must be asked before XCLAIM, which drops a trimmed
-- entry from the pending list without a word. Redis 7 names the greatest id ever deleted: what lies above it, and not
-- below the first entry, is there, and need not be read. \`looked\` counts the bytes that were read to find out.
local looked = 0
local function presence(stream)
  local info = ask("XINFO", "STREAM", stream)
  local first, deleted
  for i = 1, #info, 2 do
    if info[i] == "first-entry" then first = info[i + 1] and info[i + 1][1] end
    if info[i] == "max-deleted-entry-id" then deleted = info[i + 1] end
  end
  return function(id)
    if not first or after(first, id) then return false end
    if deleted and after(id, deleted) then return true end
    local entry = redis.call("XRANGE", stream, id, id)[1]
    if not entry then return false end
    for _, part in ipairs(entry[2]) do looked = looked + #part end
    return true
  end
end

-- A delivery count: how often an entry was delivered, and how often it was given back at no cost, in millions. So no two
-- deliveries of an entry have the same count, and what is said of one is never taken for another.
local million = 1000000
local function delivered(count)
  return count % million
end
-- The count of a delivery that cost nothing.
local function free(count)
  return count + million - math.min(delivered(count), 1)
end
-- Gives a delivery to whoever takes it next: pending for \`-released\` with this delivery count, and idle for a day, so
-- that no minimum of anybody's holds it back. XCLAIM may do so while memory is full.
local function give(stream, group, id, count)
  redis.call("XCLAIM", stream, group, "-released", 0, id, "IDLE", 86400000, "RETRYCOUNT", count, "JUSTID")
end

-- Gives back what a consumer holds, at no cost of an attempt, at most \`limit\` entries of each stream, which are given with
-- their groups: how many, how many were settled, since nothing of them is left, and 1 where it holds more.
local function giveBack(groups, consumer, limit)
  local released, trimmed, more = 0, 0, 0
  for stream, group in pairs(groups) do
    local rows = pendingOf(stream, group, consumer, "-", limit)
    if #rows > 0 then
      local present = presence(stream)
      for _, row in ipairs(rows) do
        if present(row[1]) then
          give(stream, group, row[1], free(row[4]))
          released = released + 1
        else
          redis.call("XACK", stream, group, row[1])
          trimmed = trimmed + 1
        end
      end
    end
    if #rows == tonumber(limit) and #pendingOf(stream, group, consumer, "-", 1) > 0 then more = 1 end
  end
  return released, trimmed, more
end
-- A decimal number as text, less one. Not as a number: the parts of an id have 64 bits.
local function decrement(number)
  local head, digit, zeros = string.match(number, "^(%d-)([1-9])(0*)$")
  local less = head .. (digit - 1) .. string.rep("9", #zeros)
  return (string.gsub(less, "^0+(%d)", "%1"))
end
-- The last id before this one.
local function before(id)
  local ms, seq = string.match(id, "^(%d+)%-(%d+)$")
  if seq ~= "0" then return ms .. "-" .. decrement(seq) end
  if ms ~= "0" then return decrement(ms) .. "-18446744073709551615" end
  return id
end
-- Where a group would have to begin so that nothing unsettled is missed; nil if there is no group.
local function positionOf(stream, group)
  local pending = ask("XPENDING", stream, group)
  if pending.err then return nil end
  if pending[1] > 0 then return before(pending[2]) end
  return groupOf(stream, group)["last-delivered-id"]
end

-- All that the state hash tells, by field.
local function toldBy(state)
  return record(redis.call("HGETALL", state))
end
-- For how many more ms a worker is taken to be alive: its visibility timeout after its last sign of life. Not above 0
-- where it is not.
local function lease(told, name, time)
  local timeout, seen = tonumber(told["v:" .. name] or ""), tonumber(told["h:" .. name] or "")
  return timeout and seen and seen + timeout - time or 0
end
-- By the nonce of its first join, the member that has a name; nil where nobody has.
local function holderOf(told, name)
  return string.match(told["j:" .. name] or "", "^(%S+) ")
end
-- Whether the name is another's than this one's ("" asks nothing).
local function isOther(told, name, holder)
  local known = holderOf(told, name)
  return holder ~= "" and known ~= nil and known ~= holder
end
-- Gives a member the name, beside whose join nothing is to be undone.
local function entitle(state, told, name, holder)
  if holder ~= "" and holderOf(told, name) ~= holder then
    redis.call("HSET", state, "j:" .. name, holder .. " 0000000 -")
  end
end
-- Who owns the log, whether or not it is alive; nil where nobody does.
local function ownerOf(told)
  return string.match(told.owner or "", "^(%S+) %S+$")
end

-- Wakes whoever waits at the bell, by a message that says what for: "new" entries; others that were "given" back, retried or
-- moved; or something that is "due" before all that was known. What was moved before stands, so a failure here must not
-- look like one of the move. The bell's key is the mark of messages that nobody has heard yet: one of a kind is enough, and
-- a lost one is not for ever. \`told\` is what the key holds, where it was asked already.
local bellKind = "string"
local function ring(bell, what, told)
  if told == nil then told = redis.pcall("GET", bell) end
  -- one that does not go by itself is somebody else's
  if type(told) ~= "string" or redis.pcall("PTTL", bell) == -1 then
    redis.pcall("SET", bell, what, "PX", 1000)
  elseif string.find(told, what, 1, true) then
    return
  else
    redis.pcall("SET", bell, told .. " " .. what, "KEEPTTL")
  end
  redis.pcall("PUBLISH", bell, what)
end
local main, retry, state, bell, owners = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local mainGroup, retryGroup, consumer, nonce, limit, ordered, holder = unpack(ARGV)
local wrong = mistyped("stream", main, "stream", retry, "hash", state, bellKind, bell, bellKind, owners)
if wrong then return wrong end

-- the name belongs to another incarnation, and so does what is pending
local known = redis.call("HGET", state, "n:" .. consumer)
if known and known ~= nonce then return { 0, 0, 0, 1 } end
-- whoever claims takes all nonces: of a worker the name alone tells
local joined = { ["j:" .. consumer] = redis.call("HGET", state, "j:" .. consumer) }
if ordered == "1" and isOther(joined, consumer, holder) then return { 0, 0, 0, 1 } end

local released, trimmed, more = giveBack({ [main] = mainGroup, [retry] = retryGroup }, consumer, limit)

if more == 0 then
  -- Redis 6.2 counts every XGROUP among the commands that need memory
  begin(state)
  if groupOf(main, mainGroup) then redis.call("XGROUP", "DELCONSUMER", main, mainGroup, consumer) end
  if groupOf(retry, retryGroup) then redis.call("XGROUP", "DELCONSUMER", retry, retryGroup, consumer) end
  -- what was given back may be the lowest unsettled entry: it is pending, so the position stays before it
  local position = positionOf(main, mainGroup)
  redis.call("HDEL", state, "v:" .. consumer, "n:" .. consumer, "h:" .. consumer, "m:" .. consumer, "r:" .. consumer,
    "j:" .. consumer, "p:" .. consumer)
  if position then redis.call("HSET", state, "position", position) end
end
if released > 0 then ring(bell, "given") end
if ordered == "1" and more == 0 then ring(owners, "owners") end
return { released, trimmed, more, 1 - more }
`,
  mark: `-- mark: records that, of what a consumer holds of one stream, nothing with a greater id was started; of an owner, nothing
-- but certain ids; or that anything may be.
--
-- KEYS    1 state
-- ARGV    1 consumer, 2 origin ("main" or "retry"), 3 mark (an id; "=" and ids, each behind a blank; "" to clear), 4 nonce
--         (of an owner's claim, else "")
-- RETURNS 1; 0 where the owner's claim does not stand, and nothing was done
-- CALLER  Consumer.mark, Owner.mark
-- ORDER   The old mark goes first: without a mark everything counts as started. So it works while memory is full, too;
--         a mark that could not be moved would let a message that kills its process go uncounted.

-- Whether a claim of the log stands: nobody claimed it since, and nothing was taken from its owner.
local function owned(state, consumer, nonce)
  local known = redis.call("HMGET", state, "owner", "n:" .. consumer)
  return known[1] == consumer .. " " .. nonce and known[2] == nonce
end
local state = KEYS[1]
-- a mark of a claim that is over would be taken for one of what its heir holds
if ARGV[4] ~= "" and not owned(state, ARGV[1], ARGV[4]) then return 0 end
local field = (ARGV[2] == "main" and "m:" or "r:") .. ARGV[1]
redis.call("HDEL", state, field)
if ARGV[3] ~= "" then redis.call("HSET", state, field, ARGV[3]) end
return 1
`,
  order: `-- order: settles what the owner of a log holds, keeping the order of each key.
--
-- KEYS    1 main, 2 retry, 3 due, 4 deadLetters, 5 state, 6 blocked, 7 parked, 8 bell
-- ARGV    1 mainGroup, 2 retryGroup, 3 consumer, 4 nonce (of the claim), 5 acks (how many there are), 6.. acked (id of an
--         entry of main that is done, each), then for each other settlement
--         7.. move ("ack", "retry", "dead", "release", "park"), origin ("main" or "retry"), id, count,
--         key (behind a colon, "" for none), original (its id in the topic, each part as 16 hexadecimal digits), delay
--         (ms until a retry), first (its first delivery, as the server counted it), clutch (a JSON object without its
--         closing brace), fields (netstrings)
-- RETURNS {claim stands, an error that stopped the others or "", for each other settlement: 1 done, 2 another's, 0 not
--         pending, 3 its content was trimmed and nothing was done (of a release), 4 done, and its key is held back no
--         longer, 5 not done (from the error on), {its id among the dead letters, key is held back no longer}}
-- CALLER  Owner.settle
-- ORDER   The claim is checked, then owner and count of each; without the claim nothing is done. One after the other, each
--         is stored, then what waits behind it is moved, then it is settled. Where memory is full, and none before it
--         gave any back, the first that stores something is refused, and nothing behind it is done; the acks are, and
--         come last, so that they do not let through what is to be refused. A repeated call finds nothing pending.
--
-- A key is in \`blocked\` exactly while one message of it is in the due set or the retry stream, its front, scored by the
-- time in that message's id. The others are in \`parked\`, from which one comes when the front is settled.

-- The error for the first key, of those given as kind, key, kind, key, …, that holds another kind of value; nil if all
-- fit. Asked before the first write: an error in the middle would leave half of a move behind.
local function mistyped(...)
  local wanted = { ... }
  for i = 1, #wanted, 2 do
    local kind = redis.call("TYPE", wanted[i + 1]).ok
    if kind ~= "none" and kind ~= wanted[i] then
      local told = wanted[i + 1] .. " holds a " .. kind .. ", and a " .. wanted[i] .. " is wanted"
      return redis.error_reply("WRONGTYPE " .. told)
    end
  end
end

-- The server's clock in milliseconds, and a number of milliseconds as text: Lua's own would turn large ones into 1e+14.
local function now()
  local time = redis.call("TIME")
  return time[1] * 1000 + math.floor(time[2] / 1000)
end
local function digits(number)
  return string.format("%.0f", number)
end

-- Begins to write without writing anything. A server whose memory is full refuses a script's first write if it can
-- grow, but none behind a write that was let through. Only for steps that free as much as they take, or take a few
-- bytes.
local function begin(hash)
  redis.call("HDEL", hash, "")
end

-- Whether entry id a is greater than b. Compared as text: the parts have 64 bits, and Lua's numbers 53.
local function after(a, b)
  local ams, aseq = string.match(a, "^(%d+)%-(%d+)$")
  local bms, bseq = string.match(b, "^(%d+)%-(%d+)$")
  if not ams or not bms then return false end
  if ams == bms then ams, bms = aseq, bseq end
  return #ams > #bms or (#ams == #bms and ams > bms)
end

-- What the server says of a stream or a group, with \`err\` and no rows where there is none. Any other error is the caller's
-- to see, as the server words it.
local function ask(...)
  local reply = redis.pcall(...)
  local function isAbsent(words) return string.find(reply.err, words, 1, true) end
  if reply.err and not isAbsent("NOGROUP") and not isAbsent("no such key") then redis.call(...) end
  return reply
end
-- How deliveries stand, by owner and count: 1 this consumer's, delivered as often as it says; 2 another's, or delivered
-- again; 0 not pending, or no such group. One range read covers a batch whose ids lie together; the rest is asked
-- singly.
local function standing(stream, group, consumer, ids, counts)
  local own, found = {}, {}
  local rows = ask("XPENDING", stream, group, ids[1], "+", #ids, consumer)
  for _, row in ipairs(rows) do own[row[1]] = row[4] end
  for i, id in ipairs(ids) do
    local count = own[id]
    if count then
      found[i] = count == tonumber(counts[i]) and 1 or 2
    elseif rows.err then
      found[i] = 0
    else
      local row = redis.call("XPENDING", stream, group, id, id, 1)[1]
      found[i] = not row and 0 or (row[2] == consumer and row[4] == tonumber(counts[i])) and 1 or 2
    end
  end
  return found
end

-- A function that tells whether an entry still has its content. It must be asked before XCLAIM, which drops a trimmed
-- entry from the pending list without a word. Redis 7 names the greatest id ever deleted: what lies above it, and not
-- below the first entry, is there, and need not be read. \`looked\` counts the bytes that were read to find out.
local looked = 0
local function presence(stream)
  local info = ask("XINFO", "STREAM", stream)
  local first, deleted
  for i = 1, #info, 2 do
    if info[i] == "first-entry" then first = info[i + 1] and info[i + 1][1] end
    if info[i] == "max-deleted-entry-id" then deleted = info[i + 1] end
  end
  return function(id)
    if not first or after(first, id) then return false end
    if deleted and after(id, deleted) then return true end
    local entry = redis.call("XRANGE", stream, id, id)[1]
    if not entry then return false end
    for _, part in ipairs(entry[2]) do looked = looked + #part end
    return true
  end
end

-- A delivery count: how often an entry was delivered, and how often it was given back at no cost, in millions. So no two
-- deliveries of an entry have the same count, and what is said of one is never taken for another.
local million = 1000000
local function delivered(count)
  return count % million
end
-- The count of a delivery that cost nothing.
local function free(count)
  return count + million - math.min(delivered(count), 1)
end
-- Gives a delivery to whoever takes it next: pending for \`-released\` with this delivery count, and idle for a day, so
-- that no minimum of anybody's holds it back. XCLAIM may do so while memory is full.
local function give(stream, group, id, count)
  redis.call("XCLAIM", stream, group, "-released", 0, id, "IDLE", 86400000, "RETRYCOUNT", count, "JUSTID")
end

-- Fields as one string of bytes, a netstring each, and back; nil where the bytes are none, or are no pairs.
local function netstring(bytes)
  return #bytes .. ":" .. bytes .. ","
end
local function parse(encoded)
  local fields, at = {}, 1
  while at <= #encoded do
    local length, from = string.match(encoded, "^(%d+):()", at)
    if not from or #length > 10 then return nil end
    local comma = from + length
    if string.byte(encoded, comma) ~= 44 then return nil end
    fields[#fields + 1] = string.sub(encoded, from, comma - 1)
    at = comma + 1
  end
  if #fields == 0 or #fields % 2 == 1 then return nil end
  return fields
end
-- More than this many names and values cannot be handed to one command: \`unpack\` ends at 7,990.
local maxFields = 7000

-- Whether a claim of the log stands: nobody claimed it since, and nothing was taken from its owner.
local function owned(state, consumer, nonce)
  local known = redis.call("HMGET", state, "owner", "n:" .. consumer)
  return known[1] == consumer .. " " .. nonce and known[2] == nonce
end
-- A sign of life, which is what a lease of the log is counted from.
local function alive(state, consumer)
  begin(state)
  redis.call("HSET", state, "h:" .. consumer, digits(now()))
end

-- XADD: the id of the new entry, or the error, with the stream's name: the server's own words for a stream that takes no
-- more ids have none.
local function append(stream, ...)
  local added = redis.pcall("XADD", stream, "*", ...)
  if type(added) == "table" then added.err = string.gsub(added.err, "^-", "") .. " (" .. stream .. ")" end
  return added
end
-- Keeps a member of a set that nothing can be made of, as it is and out of the way of those behind it.
local function deadLetter(member, set, deadLetters)
  local told = '{"original":"0-0","reason":"poison","cause":"a member of the ' .. set
    .. ' set cannot be read","attempts":0,"failed":' .. digits(now()) .. "}"
  return append(deadLetters, "data", member, "clutch", told)
end

-- The prefix of a key's members in the set of parked messages, without its colon. In hexadecimal, so that no key holds
-- a colon, and the order of members is the order of ids within a key.
local function hex(key)
  return (string.gsub(key, ".", function(char) return string.format("%02x", string.byte(char)) end))
end
-- Members are searched by their order, which scores come before: one that somebody added with a score of its own would
-- hide others. It gets that of all; whether there was one, up to 100 of either side at a time.
local function align(parked)
  if redis.call("EXISTS", parked) == 0 then return false end
  local any = false
  for low, high in pairs({ ["-inf"] = "(0", ["(0"] = "+inf" }) do
    for _, member in ipairs(redis.call("ZRANGEBYSCORE", parked, low, high, "LIMIT", 0, 100)) do
      redis.call("ZADD", parked, 0, member)
      any = true
    end
  end
  return any
end
-- Of a key whose message in front is settled: the first that is parked behind it becomes a retry that is due, or the key
-- is held back no longer, which is what it answers. Needs no more memory than it frees, but for what cannot be read: that
-- becomes a dead letter.
local function advance(key, retry, due, deadLetters, blocked, parked)
  local prefix = hex(key)
  while true do
    local member
    repeat
      member = redis.call("ZRANGEBYLEX", parked, "[" .. prefix .. ":", "(" .. prefix .. ";", "LIMIT", 0, 1)[1]
    until member or not align(parked)
    if not member then
      redis.call("ZREM", blocked, key)
      return true
    end
    local at = #prefix + 2
    local ms = tonumber(string.sub(member, at, at + 15), 16)
    local encoded = string.sub(member, at + 34)
    local fields = ms and parse(encoded)
    if fields and #fields <= maxFields then
      local added = append(retry, unpack(fields))
      -- a stream that takes no more ids: due, it is not lost, and whoever moves it says what is wrong
      if type(added) == "table" then redis.call("ZADD", due, digits(now()), encoded) end
      redis.call("ZREM", parked, member)
      redis.call("ZADD", blocked, digits(ms), key)
      return false
    end
    -- kept nowhere, it stays where it is, and is found again when no key is held back
    if type(deadLetter(member, "parked", deadLetters)) == "table" then
      redis.call("ZREM", blocked, key)
      return true
    end
    redis.call("ZREM", parked, member)
  end
end

-- The error for the first command, of those given as lists of it and its arguments, that the user may not call; nil where
-- all may be. Asked before the first write, as for \`mistyped\`: an error in the middle would leave half of a move behind.
-- Not by calling them: behind a write, even of nothing, others are let through while memory is full. Redis before 7 cannot
-- tell.
local function forbidden(...)
  local allowed = redis.acl_check_cmd
  for _, command in ipairs(allowed and { ... } or {}) do
    if not allowed(unpack(command)) then
      return redis.error_reply("NOPERM this user may not call '" .. command[1] .. "' on " .. command[2])
    end
  end
end
-- Wakes whoever waits at the bell, by a message that says what for: "new" entries; others that were "given" back, retried or
-- moved; or something that is "due" before all that was known. What was moved before stands, so a failure here must not
-- look like one of the move. The bell's key is the mark of messages that nobody has heard yet: one of a kind is enough, and
-- a lost one is not for ever. \`told\` is what the key holds, where it was asked already.
local bellKind = "string"
local function ring(bell, what, told)
  if told == nil then told = redis.pcall("GET", bell) end
  -- one that does not go by itself is somebody else's
  if type(told) ~= "string" or redis.pcall("PTTL", bell) == -1 then
    redis.pcall("SET", bell, what, "PX", 1000)
  elseif string.find(told, what, 1, true) then
    return
  else
    redis.pcall("SET", bell, told .. " " .. what, "KEEPTTL")
  end
  redis.pcall("PUBLISH", bell, what)
end
local main, retry, due, deadLetters, state, blocked, parked, bell = unpack(KEYS)
local mainGroup, retryGroup, consumer, nonce, acks = unpack(ARGV, 1, 5)
acks = tonumber(acks)
local width = 10
local base = 5 + acks
local n = (#ARGV - base) / width
local stands = owned(state, consumer, nonce)

local found = {}
if n > 0 then
  local wrong = mistyped("stream", main, "stream", retry, "zset", due, "stream", deadLetters, "zset", blocked, "zset",
    parked, bellKind, bell)
  if wrong then return wrong end
  for origin, group in pairs({ main = mainGroup, retry = retryGroup }) do
    local places, ids, counts = {}, {}, {}
    for i = 1, n do
      local at = base + (i - 1) * width
      if ARGV[at + 2] == origin then
        places[#places + 1] = i
        ids[#ids + 1] = ARGV[at + 3]
        counts[#counts + 1] = ARGV[at + 4]
      end
    end
    if #ids > 0 then
      for p, how in ipairs(standing(origin == "main" and main or retry, group, consumer, ids, counts)) do
        found[places[p]] = (how == 1 and not stands) and 2 or how
      end
    end
  end
end
if not stands then return { 0, "", unpack(found) } end
local refused = n > 0
  and forbidden({ "XACK", main, mainGroup, "0-0" }, { "XDEL", retry, "0-0" }, { "ZADD", blocked, "0", "" },
    { "ZREM", blocked, "" })
if refused then return refused end

local time = now()
local rung
local presences = {}
local earliest

-- an error is an answer of its own kind: everything else is done already, or was not begun
local function failed(reply)
  return type(reply) == "table" and reply.err or nil
end

-- fields, then clutch as two netstrings, with its times
local function whole(clutch, first, fields, ends)
  local times = ',"first":' .. first .. (ends and ',"failed":' .. digits(time) or "") .. "}"
  return fields .. "6:clutch," .. #clutch + #times .. ":" .. clutch .. times .. ",", clutch .. times
end

local moves = {}

function moves.ack(origin, _, _, key)
  if origin ~= "retry" or not key then return nil, 1 end
  begin(state)
  if advance(key, retry, due, deadLetters, blocked, parked) then return nil, 4 end
  rung = "given"
  return nil, 1
end

function moves.retry(_, _, _, key, original, delay, first, clutch, fields)
  local at = time + delay
  earliest = earliest or tonumber(redis.call("ZRANGE", due, 0, 0, "WITHSCORES")[2] or "inf")
  local err = failed(redis.pcall("ZADD", due, digits(at), (whole(clutch, first, fields, true))))
  if err then return err end
  if at < earliest then rung, earliest = rung or "due", at end
  if key then redis.call("ZADD", blocked, digits(tonumber(string.sub(original, 1, 16), 16)), key) end
  return nil, 1
end

function moves.dead(origin, _, _, key, _, _, first, clutch, fields)
  local entry, told = whole(clutch, first, fields, true)
  local parts = parse(entry)
  -- somebody's entry of thousands of fields becomes one that can be written
  if not parts or #parts > maxFields then parts = { "fields", fields, "clutch", told } end
  local id = append(deadLetters, unpack(parts))
  if failed(id) then return id.err end
  local freed = 0
  if origin == "retry" and key then
    freed = advance(key, retry, due, deadLetters, blocked, parked) and 1 or 0
    if freed == 0 then rung = "given" end
  end
  return nil, { id, freed }
end

function moves.park(origin, _, _, key, original, _, first, clutch, fields)
  local entry = whole(clutch, first, fields, false)
  local err
  if origin == "main" and key and redis.call("ZSCORE", blocked, key) then
    err = failed(redis.pcall("ZADD", parked, 0, hex(key) .. ":" .. original .. ":" .. entry))
    if err then return err end
  else
    local parts = parse(entry)
    if parts and #parts <= maxFields then
      err = failed(append(retry, unpack(parts)))
    else
      err = failed(redis.pcall("ZADD", due, digits(time), entry))
    end
    if err then return err end
    if key then redis.call("ZADD", blocked, digits(tonumber(string.sub(original, 1, 16), 16)), key) end
    rung = "given"
  end
  return nil, 1
end

local problem = ""
for i = 1, n do
  if problem ~= "" then
    found[i] = 5
  elseif found[i] == 1 then
    local at = base + (i - 1) * width
    local move, origin, id, count, key, original, delay, first, clutch, fields = unpack(ARGV, at + 1, at + width)
    local stream, group = main, mainGroup
    if origin == "retry" then stream, group = retry, retryGroup end
    key = key ~= "" and string.sub(key, 2) or nil
    if move == "release" then
      presences[origin] = presences[origin] or presence(stream)
      if presences[origin](id) then
        give(stream, group, id, free(count))
        rung = "given"
      else
        found[i] = 3
      end
    else
      local err, how = moves[move](origin, id, count, key, original, delay, first, clutch, fields)
      if err then
        problem = err
        found[i] = 5
      else
        found[i] = how
        redis.call("XACK", stream, group, id)
        if origin == "retry" then redis.call("XDEL", stream, id) end
      end
    end
  end
end
if acks > 0 then redis.call("XACK", main, mainGroup, unpack(ARGV, 6, 5 + acks)) end
alive(state, consumer)
if rung then ring(bell, rung) end
return { 1, problem, unpack(found) }
`,
  partitions: `-- partitions: says how many partitions a topic has, recording the number where nothing is known yet; or changes it.
--
-- KEYS    1 main, 2 meta
-- ARGV    1 count, 2 from (what the number is now, for it to become the count; "" to ask)
-- RETURNS {the number of partitions, 1 where it is recorded (0 where only its first log tells that there is one)}
-- CALLER  Transport.partitions, Transport.repartition
-- ORDER   One write. A repeated call finds the number that the first one wrote.
--
-- A topic that is used without a record has one partition, and that one is never recorded without need: only where there
-- were more, or are to be, so that it is not taken for a record that was lost.

-- The error for the first key, of those given as kind, key, kind, key, …, that holds another kind of value; nil if all
-- fit. Asked before the first write: an error in the middle would leave half of a move behind.
local function mistyped(...)
  local wanted = { ... }
  for i = 1, #wanted, 2 do
    local kind = redis.call("TYPE", wanted[i + 1]).ok
    if kind ~= "none" and kind ~= wanted[i] then
      local told = wanted[i + 1] .. " holds a " .. kind .. ", and a " .. wanted[i] .. " is wanted"
      return redis.error_reply("WRONGTYPE " .. told)
    end
  end
end

local main, meta = KEYS[1], KEYS[2]
local wrong = mistyped("hash", meta)
if wrong then return wrong end
local count, from = ARGV[1], ARGV[2]

local recorded = redis.call("HGET", meta, "partitions")
if recorded and not string.find(recorded, "^[1-9]%d*$") then
  return redis.error_reply("WRONGTYPE the field partitions of " .. meta .. " is no number")
end
local known = recorded or (redis.call("EXISTS", main) == 1 and "1")
if from == "" then
  if not known and count ~= "1" then
    redis.call("HSET", meta, "partitions", count)
    recorded = count
  end
  return { tonumber(known or count), recorded and 1 or 0 }
end
known = known or "1"
if known ~= from then return { tonumber(known), recorded and 1 or 0 } end
redis.call("HSET", meta, "partitions", count)
return { tonumber(count), 1 }
`,
  publish: `-- publish: stores a batch of entries in order, trims, and rings.
--
-- KEYS    1 main, 2 bell
-- ARGV    1 maxLength ("" for no limit), 2 maxAge (ms, "" for no limit), 3 names (how many there are),
--         4.. name (each once), then value (one a name and entry, entry by entry; an empty one leaves the field out)
-- RETURNS {trimmed, id of each entry, separated by spaces}
-- CALLER  Transport.publish
-- ORDER   The first write is an XADD: where memory is full, the server refuses writes or the key is of another kind, nothing
--         is stored. Behind it, none is refused. The bell is asked before it.

-- The error for the first key, of those given as kind, key, kind, key, …, that holds another kind of value; nil if all
-- fit. Asked before the first write: an error in the middle would leave half of a move behind.
local function mistyped(...)
  local wanted = { ... }
  for i = 1, #wanted, 2 do
    local kind = redis.call("TYPE", wanted[i + 1]).ok
    if kind ~= "none" and kind ~= wanted[i] then
      local told = wanted[i + 1] .. " holds a " .. kind .. ", and a " .. wanted[i] .. " is wanted"
      return redis.error_reply("WRONGTYPE " .. told)
    end
  end
end

-- The server's clock in milliseconds, and a number of milliseconds as text: Lua's own would turn large ones into 1e+14.
local function now()
  local time = redis.call("TIME")
  return time[1] * 1000 + math.floor(time[2] / 1000)
end
local function digits(number)
  return string.format("%.0f", number)
end

-- Wakes whoever waits at the bell, by a message that says what for: "new" entries; others that were "given" back, retried or
-- moved; or something that is "due" before all that was known. What was moved before stands, so a failure here must not
-- look like one of the move. The bell's key is the mark of messages that nobody has heard yet: one of a kind is enough, and
-- a lost one is not for ever. \`told\` is what the key holds, where it was asked already.
local bellKind = "string"
local function ring(bell, what, told)
  if told == nil then told = redis.pcall("GET", bell) end
  -- one that does not go by itself is somebody else's
  if type(told) ~= "string" or redis.pcall("PTTL", bell) == -1 then
    redis.pcall("SET", bell, what, "PX", 1000)
  elseif string.find(told, what, 1, true) then
    return
  else
    redis.pcall("SET", bell, told .. " " .. what, "KEEPTTL")
  end
  redis.pcall("PUBLISH", bell, what)
end
-- XADD: the id of the new entry, or the error, with the stream's name: the server's own words for a stream that takes no
-- more ids have none.
local function append(stream, ...)
  local added = redis.pcall("XADD", stream, "*", ...)
  if type(added) == "table" then added.err = string.gsub(added.err, "^-", "") .. " (" .. stream .. ")" end
  return added
end
-- The error for the first command, of those given as lists of it and its arguments, that the user may not call; nil where
-- all may be. Asked before the first write, as for \`mistyped\`: an error in the middle would leave half of a move behind.
-- Not by calling them: behind a write, even of nothing, others are let through while memory is full. Redis before 7 cannot
-- tell.
local function forbidden(...)
  local allowed = redis.acl_check_cmd
  for _, command in ipairs(allowed and { ... } or {}) do
    if not allowed(unpack(command)) then
      return redis.error_reply("NOPERM this user may not call '" .. command[1] .. "' on " .. command[2])
    end
  end
end
local main, bell = KEYS[1], KEYS[2]
local told = redis.pcall("GET", bell)
if type(told) == "table" then return mistyped(bellKind, bell) or told end

local refused = ARGV[1] .. ARGV[2] ~= "" and forbidden({ "XTRIM", main, "MAXLEN", "1" })
if refused then return refused end

local call, args, names = redis.call, ARGV, tonumber(ARGV[3])
local before = 3 + names
local ids, trimmed = {}, 0
-- the first is asked and not called: what a call raises has another beginning on older servers
local function first(...)
  ids[1] = append(main, ...)
  if type(ids[1]) == "table" then return mistyped("stream", main) or ids[1] end
end
if names == 1 then
  -- the plain entry, and the hot path
  local name = args[4]
  refused = first(name, args[before + 1])
  if refused then return refused end
  for i = before + 2, #args do ids[i - before] = call("XADD", main, "*", name, args[i]) end
else
  local fields = {}
  for i = before + 1, #args, names do
    local count = 0
    for n = 0, names - 1 do
      if args[i + n] ~= "" then
        fields[count + 1], fields[count + 2] = args[4 + n], args[i + n]
        count = count + 2
      end
    end
    -- an entry must have a field; without one, those before it would be stored and those behind it not
    if count == 0 then fields[1], fields[2], count = args[4], "", 2 end
    if i > before + 1 then
      ids[#ids + 1] = call("XADD", main, "*", unpack(fields, 1, count))
    else
      refused = first(unpack(fields, 1, count))
      if refused then return refused end
    end
  end
end

-- exact, since an approximate trim keeps up to a node more and counts too few
if ARGV[1] ~= "" then trimmed = call("XTRIM", main, "MAXLEN", "=", ARGV[1]) end
if ARGV[2] ~= "" then
  trimmed = trimmed + call("XTRIM", main, "MINID", "=", digits(math.max(now() - ARGV[2], 0)))
end
ring(bell, "new", told)
return { trimmed, table.concat(ids, " ") }
`,
  redrive: `-- redrive: schedules dead letters as retries of the same subscription, with no attempts made, and removes them.
--
-- KEYS    1 deadLetters, 2 due, 3 retry, 4 bell
-- ARGV    1 delay (ms; 0 goes to the retry stream at once), 2.. id (of each dead letter)
-- RETURNS {redriven, how many of the ids were looked at: up to 4 MiB are moved a call}
-- CALLER  Transport.deadLetters.redrive
-- ORDER   Each is stored, then removed. The first write stores something, so where memory is full nothing changes. A
--         repeated call, or one for the ids behind a crash, finds no dead letter where one was moved.

-- The error for the first key, of those given as kind, key, kind, key, …, that holds another kind of value; nil if all
-- fit. Asked before the first write: an error in the middle would leave half of a move behind.
local function mistyped(...)
  local wanted = { ... }
  for i = 1, #wanted, 2 do
    local kind = redis.call("TYPE", wanted[i + 1]).ok
    if kind ~= "none" and kind ~= wanted[i] then
      local told = wanted[i + 1] .. " holds a " .. kind .. ", and a " .. wanted[i] .. " is wanted"
      return redis.error_reply("WRONGTYPE " .. told)
    end
  end
end

-- The server's clock in milliseconds, and a number of milliseconds as text: Lua's own would turn large ones into 1e+14.
local function now()
  local time = redis.call("TIME")
  return time[1] * 1000 + math.floor(time[2] / 1000)
end
local function digits(number)
  return string.format("%.0f", number)
end

-- Fields as one string of bytes, a netstring each, and back; nil where the bytes are none, or are no pairs.
local function netstring(bytes)
  return #bytes .. ":" .. bytes .. ","
end
local function parse(encoded)
  local fields, at = {}, 1
  while at <= #encoded do
    local length, from = string.match(encoded, "^(%d+):()", at)
    if not from or #length > 10 then return nil end
    local comma = from + length
    if string.byte(encoded, comma) ~= 44 then return nil end
    fields[#fields + 1] = string.sub(encoded, from, comma - 1)
    at = comma + 1
  end
  if #fields == 0 or #fields % 2 == 1 then return nil end
  return fields
end
-- More than this many names and values cannot be handed to one command: \`unpack\` ends at 7,990.
local maxFields = 7000

-- Wakes whoever waits at the bell, by a message that says what for: "new" entries; others that were "given" back, retried or
-- moved; or something that is "due" before all that was known. What was moved before stands, so a failure here must not
-- look like one of the move. The bell's key is the mark of messages that nobody has heard yet: one of a kind is enough, and
-- a lost one is not for ever. \`told\` is what the key holds, where it was asked already.
local bellKind = "string"
local function ring(bell, what, told)
  if told == nil then told = redis.pcall("GET", bell) end
  -- one that does not go by itself is somebody else's
  if type(told) ~= "string" or redis.pcall("PTTL", bell) == -1 then
    redis.pcall("SET", bell, what, "PX", 1000)
  elseif string.find(told, what, 1, true) then
    return
  else
    redis.pcall("SET", bell, told .. " " .. what, "KEEPTTL")
  end
  redis.pcall("PUBLISH", bell, what)
end
-- XADD: the id of the new entry, or the error, with the stream's name: the server's own words for a stream that takes no
-- more ids have none.
local function append(stream, ...)
  local added = redis.pcall("XADD", stream, "*", ...)
  if type(added) == "table" then added.err = string.gsub(added.err, "^-", "") .. " (" .. stream .. ")" end
  return added
end
-- The error for the first command, of those given as lists of it and its arguments, that the user may not call; nil where
-- all may be. Asked before the first write, as for \`mistyped\`: an error in the middle would leave half of a move behind.
-- Not by calling them: behind a write, even of nothing, others are let through while memory is full. Redis before 7 cannot
-- tell.
local function forbidden(...)
  local allowed = redis.acl_check_cmd
  for _, command in ipairs(allowed and { ... } or {}) do
    if not allowed(unpack(command)) then
      return redis.error_reply("NOPERM this user may not call '" .. command[1] .. "' on " .. command[2])
    end
  end
end
local deadLetters, due, retry, bell = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local wrong = mistyped("stream", deadLetters, "zset", due, "stream", retry, bellKind, bell)
  or forbidden({ "XDEL", deadLetters, "0-0" }, { "ZADD", due, "0", "" })
if wrong then return wrong end

local delay = tonumber(ARGV[1])
local time = now()
local earliest = tonumber(redis.call("ZRANGE", due, 0, 0, "WITHSCORES")[2] or "inf")
local redriven, processed, bytes = 0, 0, 0

for i = 2, #ARGV do
  local id = ARGV[i]
  local entry = redis.call("XRANGE", deadLetters, id, id)[1]
  if entry then
    local fields, kept, clutch = entry[2], {}, nil
    for f = 1, #fields, 2 do
      if fields[f] == "clutch" then
        local read, told = pcall(cjson.decode, fields[f + 1])
        clutch = read and type(told) == "table" and told or nil
      else
        kept[#kept + 1] = fields[f]
        kept[#kept + 1] = fields[f + 1]
      end
    end
    -- of a foreign dead letter nothing is known but its own id
    local original = clutch and clutch.original
    if type(original) ~= "string" or not string.find(original, "^%d+%-%d+$") then original = id end
    local told = '{"original":"' .. original .. '","attempt":0,"redriven":"' .. id .. '"'
    if clutch and type(clutch.first) == "number" then told = told .. ',"first":' .. digits(clutch.first) end
    kept[#kept + 1] = "clutch"
    kept[#kept + 1] = told .. "}"
    for _, part in ipairs(kept) do bytes = bytes + #part end

    if delay == 0 and #kept <= maxFields then
      local added = append(retry, unpack(kept))
      if type(added) == "table" then return added end
    else
      for k, part in ipairs(kept) do kept[k] = netstring(part) end
      redis.call("ZADD", due, digits(time + delay), table.concat(kept))
    end
    redis.call("XDEL", deadLetters, id)
    redriven = redriven + 1
  end
  processed = processed + 1
  if bytes >= 4194304 then break end
end

if redriven > 0 and (delay == 0 or time + delay < earliest) then ring(bell, delay == 0 and "given" or "due") end
return { redriven, processed }
`,
  release: `-- release: gives deliveries back to their group at once, at no cost of an attempt.
--
-- KEYS    1 stream, 2 bell
-- ARGV    1 group, 2 consumer, 3.. id (of each), count (of each, behind all ids)
-- RETURNS for each: 1 done, 2 another's, 0 not pending, 3 its content was trimmed and nothing was done
-- CALLER  Consumer.settle
-- ORDER   Owner and count are compared, then each moves by itself. XCLAIM needs no memory. What was trimmed is not
--         touched: XCLAIM would drop it from the pending list, and the caller holds its only copy. A repeated call
--         finds it with another owner, or delivered again.

-- The error for the first key, of those given as kind, key, kind, key, …, that holds another kind of value; nil if all
-- fit. Asked before the first write: an error in the middle would leave half of a move behind.
local function mistyped(...)
  local wanted = { ... }
  for i = 1, #wanted, 2 do
    local kind = redis.call("TYPE", wanted[i + 1]).ok
    if kind ~= "none" and kind ~= wanted[i] then
      local told = wanted[i + 1] .. " holds a " .. kind .. ", and a " .. wanted[i] .. " is wanted"
      return redis.error_reply("WRONGTYPE " .. told)
    end
  end
end

-- Whether entry id a is greater than b. Compared as text: the parts have 64 bits, and Lua's numbers 53.
local function after(a, b)
  local ams, aseq = string.match(a, "^(%d+)%-(%d+)$")
  local bms, bseq = string.match(b, "^(%d+)%-(%d+)$")
  if not ams or not bms then return false end
  if ams == bms then ams, bms = aseq, bseq end
  return #ams > #bms or (#ams == #bms and ams > bms)
end

-- What the server says of a stream or a group, with \`err\` and no rows where there is none. Any other error is the caller's
-- to see, as the server words it.
local function ask(...)
  local reply = redis.pcall(...)
  local function isAbsent(words) return string.find(reply.err, words, 1, true) end
  if reply.err and not isAbsent("NOGROUP") and not isAbsent("no such key") then redis.call(...) end
  return reply
end
-- How deliveries stand, by owner and count: 1 this consumer's, delivered as often as it says; 2 another's, or delivered
-- again; 0 not pending, or no such group. One range read covers a batch whose ids lie together; the rest is asked
-- singly.
local function standing(stream, group, consumer, ids, counts)
  local own, found = {}, {}
  local rows = ask("XPENDING", stream, group, ids[1], "+", #ids, consumer)
  for _, row in ipairs(rows) do own[row[1]] = row[4] end
  for i, id in ipairs(ids) do
    local count = own[id]
    if count then
      found[i] = count == tonumber(counts[i]) and 1 or 2
    elseif rows.err then
      found[i] = 0
    else
      local row = redis.call("XPENDING", stream, group, id, id, 1)[1]
      found[i] = not row and 0 or (row[2] == consumer and row[4] == tonumber(counts[i])) and 1 or 2
    end
  end
  return found
end

-- A function that tells whether an entry still has its content. It must be asked before XCLAIM, which drops a trimmed
-- entry from the pending list without a word. Redis 7 names the greatest id ever deleted: what lies above it, and not
-- below the first entry, is there, and need not be read. \`looked\` counts the bytes that were read to find out.
local looked = 0
local function presence(stream)
  local info = ask("XINFO", "STREAM", stream)
  local first, deleted
  for i = 1, #info, 2 do
    if info[i] == "first-entry" then first = info[i + 1] and info[i + 1][1] end
    if info[i] == "max-deleted-entry-id" then deleted = info[i + 1] end
  end
  return function(id)
    if not first or after(first, id) then return false end
    if deleted and after(id, deleted) then return true end
    local entry = redis.call("XRANGE", stream, id, id)[1]
    if not entry then return false end
    for _, part in ipairs(entry[2]) do looked = looked + #part end
    return true
  end
end

-- A delivery count: how often an entry was delivered, and how often it was given back at no cost, in millions. So no two
-- deliveries of an entry have the same count, and what is said of one is never taken for another.
local million = 1000000
local function delivered(count)
  return count % million
end
-- The count of a delivery that cost nothing.
local function free(count)
  return count + million - math.min(delivered(count), 1)
end
-- Gives a delivery to whoever takes it next: pending for \`-released\` with this delivery count, and idle for a day, so
-- that no minimum of anybody's holds it back. XCLAIM may do so while memory is full.
local function give(stream, group, id, count)
  redis.call("XCLAIM", stream, group, "-released", 0, id, "IDLE", 86400000, "RETRYCOUNT", count, "JUSTID")
end

-- Wakes whoever waits at the bell, by a message that says what for: "new" entries; others that were "given" back, retried or
-- moved; or something that is "due" before all that was known. What was moved before stands, so a failure here must not
-- look like one of the move. The bell's key is the mark of messages that nobody has heard yet: one of a kind is enough, and
-- a lost one is not for ever. \`told\` is what the key holds, where it was asked already.
local bellKind = "string"
local function ring(bell, what, told)
  if told == nil then told = redis.pcall("GET", bell) end
  -- one that does not go by itself is somebody else's
  if type(told) ~= "string" or redis.pcall("PTTL", bell) == -1 then
    redis.pcall("SET", bell, what, "PX", 1000)
  elseif string.find(told, what, 1, true) then
    return
  else
    redis.pcall("SET", bell, told .. " " .. what, "KEEPTTL")
  end
  redis.pcall("PUBLISH", bell, what)
end
local stream, bell = KEYS[1], KEYS[2]
local group, consumer = ARGV[1], ARGV[2]
local wrong = mistyped("stream", stream, bellKind, bell)
if wrong then return wrong end

local n = (#ARGV - 2) / 2
local ids, counts = {}, {}
for i = 1, n do
  ids[i] = ARGV[2 + i]
  counts[i] = ARGV[2 + n + i]
end
local found = standing(stream, group, consumer, ids, counts)

local present = presence(stream)
local released = false
for i, how in ipairs(found) do
  if how == 1 then
    if present(ids[i]) then
      give(stream, group, ids[i], free(counts[i]))
      released = true
    else
      found[i] = 3
    end
  end
end
if released then ring(bell, "given") end
return found
`,
  remove: `-- remove: removes a group with all that it has not settled, and its retries; not its dead letters.
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

-- The error for the first key, of those given as kind, key, kind, key, …, that holds another kind of value; nil if all
-- fit. Asked before the first write: an error in the middle would leave half of a move behind.
local function mistyped(...)
  local wanted = { ... }
  for i = 1, #wanted, 2 do
    local kind = redis.call("TYPE", wanted[i + 1]).ok
    if kind ~= "none" and kind ~= wanted[i] then
      local told = wanted[i + 1] .. " holds a " .. kind .. ", and a " .. wanted[i] .. " is wanted"
      return redis.error_reply("WRONGTYPE " .. told)
    end
  end
end

-- The server's clock in milliseconds, and a number of milliseconds as text: Lua's own would turn large ones into 1e+14.
local function now()
  local time = redis.call("TIME")
  return time[1] * 1000 + math.floor(time[2] / 1000)
end
local function digits(number)
  return string.format("%.0f", number)
end

-- Begins to write without writing anything. A server whose memory is full refuses a script's first write if it can
-- grow, but none behind a write that was let through. Only for steps that free as much as they take, or take a few
-- bytes.
local function begin(hash)
  redis.call("HDEL", hash, "")
end

-- What the server says of a stream or a group, with \`err\` and no rows where there is none. Any other error is the caller's
-- to see, as the server words it.
local function ask(...)
  local reply = redis.pcall(...)
  local function isAbsent(words) return string.find(reply.err, words, 1, true) end
  if reply.err and not isAbsent("NOGROUP") and not isAbsent("no such key") then redis.call(...) end
  return reply
end
-- A flat list of names and values, as XINFO answers, by name.
local function record(flat)
  local named = {}
  for i = 1, #flat, 2 do named[flat[i]] = flat[i + 1] end
  return named
end
-- What XINFO says of a consumer group; nil if there is none, or no stream.
local function groupOf(stream, name)
  for _, row in ipairs(ask("XINFO", "GROUPS", stream)) do
    local group = record(row)
    if group.name == name then return group end
  end
end
-- The consumers of a group; none where there is no group.
local function consumersOf(stream, group)
  local consumers = {}
  for i, row in ipairs(ask("XINFO", "CONSUMERS", stream, group)) do consumers[i] = record(row) end
  return consumers
end

-- Wakes whoever waits at the bell, by a message that says what for: "new" entries; others that were "given" back, retried or
-- moved; or something that is "due" before all that was known. What was moved before stands, so a failure here must not
-- look like one of the move. The bell's key is the mark of messages that nobody has heard yet: one of a kind is enough, and
-- a lost one is not for ever. \`told\` is what the key holds, where it was asked already.
local bellKind = "string"
local function ring(bell, what, told)
  if told == nil then told = redis.pcall("GET", bell) end
  -- one that does not go by itself is somebody else's
  if type(told) ~= "string" or redis.pcall("PTTL", bell) == -1 then
    redis.pcall("SET", bell, what, "PX", 1000)
  elseif string.find(told, what, 1, true) then
    return
  else
    redis.pcall("SET", bell, told .. " " .. what, "KEEPTTL")
  end
  redis.pcall("PUBLISH", bell, what)
end
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
`,
  rest: `-- rest: says that a worker wants no share of the logs until it asks for the roster again.
--
-- KEYS    1 state, 2 owners
-- ARGV    1 consumer, 2 holder (nonce of its first join; "" asks nothing of the name)
-- RETURNS 1
-- CALLER  Worker.rest
-- ORDER   A few bytes are written. Works while memory is full.

-- The error for the first key, of those given as kind, key, kind, key, …, that holds another kind of value; nil if all
-- fit. Asked before the first write: an error in the middle would leave half of a move behind.
local function mistyped(...)
  local wanted = { ... }
  for i = 1, #wanted, 2 do
    local kind = redis.call("TYPE", wanted[i + 1]).ok
    if kind ~= "none" and kind ~= wanted[i] then
      local told = wanted[i + 1] .. " holds a " .. kind .. ", and a " .. wanted[i] .. " is wanted"
      return redis.error_reply("WRONGTYPE " .. told)
    end
  end
end

-- Begins to write without writing anything. A server whose memory is full refuses a script's first write if it can
-- grow, but none behind a write that was let through. Only for steps that free as much as they take, or take a few
-- bytes.
local function begin(hash)
  redis.call("HDEL", hash, "")
end

-- All that the state hash tells, by field.
local function toldBy(state)
  return record(redis.call("HGETALL", state))
end
-- For how many more ms a worker is taken to be alive: its visibility timeout after its last sign of life. Not above 0
-- where it is not.
local function lease(told, name, time)
  local timeout, seen = tonumber(told["v:" .. name] or ""), tonumber(told["h:" .. name] or "")
  return timeout and seen and seen + timeout - time or 0
end
-- By the nonce of its first join, the member that has a name; nil where nobody has.
local function holderOf(told, name)
  return string.match(told["j:" .. name] or "", "^(%S+) ")
end
-- Whether the name is another's than this one's ("" asks nothing).
local function isOther(told, name, holder)
  local known = holderOf(told, name)
  return holder ~= "" and known ~= nil and known ~= holder
end
-- Gives a member the name, beside whose join nothing is to be undone.
local function entitle(state, told, name, holder)
  if holder ~= "" and holderOf(told, name) ~= holder then
    redis.call("HSET", state, "j:" .. name, holder .. " 0000000 -")
  end
end
-- Who owns the log, whether or not it is alive; nil where nobody does.
local function ownerOf(told)
  return string.match(told.owner or "", "^(%S+) %S+$")
end

-- Wakes whoever waits at the bell, by a message that says what for: "new" entries; others that were "given" back, retried or
-- moved; or something that is "due" before all that was known. What was moved before stands, so a failure here must not
-- look like one of the move. The bell's key is the mark of messages that nobody has heard yet: one of a kind is enough, and
-- a lost one is not for ever. \`told\` is what the key holds, where it was asked already.
local bellKind = "string"
local function ring(bell, what, told)
  if told == nil then told = redis.pcall("GET", bell) end
  -- one that does not go by itself is somebody else's
  if type(told) ~= "string" or redis.pcall("PTTL", bell) == -1 then
    redis.pcall("SET", bell, what, "PX", 1000)
  elseif string.find(told, what, 1, true) then
    return
  else
    redis.pcall("SET", bell, told .. " " .. what, "KEEPTTL")
  end
  redis.pcall("PUBLISH", bell, what)
end
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
`,
  rollback: `-- rollback: undoes a join as if it had never been, as far as nobody else has begun to use what it created.
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

-- The error for the first key, of those given as kind, key, kind, key, …, that holds another kind of value; nil if all
-- fit. Asked before the first write: an error in the middle would leave half of a move behind.
local function mistyped(...)
  local wanted = { ... }
  for i = 1, #wanted, 2 do
    local kind = redis.call("TYPE", wanted[i + 1]).ok
    if kind ~= "none" and kind ~= wanted[i] then
      local told = wanted[i + 1] .. " holds a " .. kind .. ", and a " .. wanted[i] .. " is wanted"
      return redis.error_reply("WRONGTYPE " .. told)
    end
  end
end

-- Begins to write without writing anything. A server whose memory is full refuses a script's first write if it can
-- grow, but none behind a write that was let through. Only for steps that free as much as they take, or take a few
-- bytes.
local function begin(hash)
  redis.call("HDEL", hash, "")
end

-- What the server says of a stream or a group, with \`err\` and no rows where there is none. Any other error is the caller's
-- to see, as the server words it.
local function ask(...)
  local reply = redis.pcall(...)
  local function isAbsent(words) return string.find(reply.err, words, 1, true) end
  if reply.err and not isAbsent("NOGROUP") and not isAbsent("no such key") then redis.call(...) end
  return reply
end
-- A flat list of names and values, as XINFO answers, by name.
local function record(flat)
  local named = {}
  for i = 1, #flat, 2 do named[flat[i]] = flat[i + 1] end
  return named
end
-- What XINFO says of a consumer group; nil if there is none, or no stream.
local function groupOf(stream, name)
  for _, row in ipairs(ask("XINFO", "GROUPS", stream)) do
    local group = record(row)
    if group.name == name then return group end
  end
end
-- The consumers of a group; none where there is no group.
local function consumersOf(stream, group)
  local consumers = {}
  for i, row in ipairs(ask("XINFO", "CONSUMERS", stream, group)) do consumers[i] = record(row) end
  return consumers
end

-- Wakes whoever waits at the bell, by a message that says what for: "new" entries; others that were "given" back, retried or
-- moved; or something that is "due" before all that was known. What was moved before stands, so a failure here must not
-- look like one of the move. The bell's key is the mark of messages that nobody has heard yet: one of a kind is enough, and
-- a lost one is not for ever. \`told\` is what the key holds, where it was asked already.
local bellKind = "string"
local function ring(bell, what, told)
  if told == nil then told = redis.pcall("GET", bell) end
  -- one that does not go by itself is somebody else's
  if type(told) ~= "string" or redis.pcall("PTTL", bell) == -1 then
    redis.pcall("SET", bell, what, "PX", 1000)
  elseif string.find(told, what, 1, true) then
    return
  else
    redis.pcall("SET", bell, told .. " " .. what, "KEEPTTL")
  end
  redis.pcall("PUBLISH", bell, what)
end
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
`,
  roster: `-- roster: shows that a worker lives and does not rest, and says who else does and who owns the log.
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

-- The error for the first key, of those given as kind, key, kind, key, …, that holds another kind of value; nil if all
-- fit. Asked before the first write: an error in the middle would leave half of a move behind.
local function mistyped(...)
  local wanted = { ... }
  for i = 1, #wanted, 2 do
    local kind = redis.call("TYPE", wanted[i + 1]).ok
    if kind ~= "none" and kind ~= wanted[i] then
      local told = wanted[i + 1] .. " holds a " .. kind .. ", and a " .. wanted[i] .. " is wanted"
      return redis.error_reply("WRONGTYPE " .. told)
    end
  end
end

-- The server's clock in milliseconds, and a number of milliseconds as text: Lua's own would turn large ones into 1e+14.
local function now()
  local time = redis.call("TIME")
  return time[1] * 1000 + math.floor(time[2] / 1000)
end
local function digits(number)
  return string.format("%.0f", number)
end

-- Begins to write without writing anything. A server whose memory is full refuses a script's first write if it can
-- grow, but none behind a write that was let through. Only for steps that free as much as they take, or take a few
-- bytes.
local function begin(hash)
  redis.call("HDEL", hash, "")
end

-- What the server says of a stream or a group, with \`err\` and no rows where there is none. Any other error is the caller's
-- to see, as the server words it.
local function ask(...)
  local reply = redis.pcall(...)
  local function isAbsent(words) return string.find(reply.err, words, 1, true) end
  if reply.err and not isAbsent("NOGROUP") and not isAbsent("no such key") then redis.call(...) end
  return reply
end
-- A flat list of names and values, as XINFO answers, by name.
local function record(flat)
  local named = {}
  for i = 1, #flat, 2 do named[flat[i]] = flat[i + 1] end
  return named
end
-- What XINFO says of a consumer group; nil if there is none, or no stream.
local function groupOf(stream, name)
  for _, row in ipairs(ask("XINFO", "GROUPS", stream)) do
    local group = record(row)
    if group.name == name then return group end
  end
end
-- The consumers of a group; none where there is no group.
local function consumersOf(stream, group)
  local consumers = {}
  for i, row in ipairs(ask("XINFO", "CONSUMERS", stream, group)) do consumers[i] = record(row) end
  return consumers
end

-- All that the state hash tells, by field.
local function toldBy(state)
  return record(redis.call("HGETALL", state))
end
-- For how many more ms a worker is taken to be alive: its visibility timeout after its last sign of life. Not above 0
-- where it is not.
local function lease(told, name, time)
  local timeout, seen = tonumber(told["v:" .. name] or ""), tonumber(told["h:" .. name] or "")
  return timeout and seen and seen + timeout - time or 0
end
-- By the nonce of its first join, the member that has a name; nil where nobody has.
local function holderOf(told, name)
  return string.match(told["j:" .. name] or "", "^(%S+) ")
end
-- Whether the name is another's than this one's ("" asks nothing).
local function isOther(told, name, holder)
  local known = holderOf(told, name)
  return holder ~= "" and known ~= nil and known ~= holder
end
-- Gives a member the name, beside whose join nothing is to be undone.
local function entitle(state, told, name, holder)
  if holder ~= "" and holderOf(told, name) ~= holder then
    redis.call("HSET", state, "j:" .. name, holder .. " 0000000 -")
  end
end
-- Who owns the log, whether or not it is alive; nil where nobody does.
local function ownerOf(told)
  return string.match(told.owner or "", "^(%S+) %S+$")
end

-- Wakes whoever waits at the bell, by a message that says what for: "new" entries; others that were "given" back, retried or
-- moved; or something that is "due" before all that was known. What was moved before stands, so a failure here must not
-- look like one of the move. The bell's key is the mark of messages that nobody has heard yet: one of a kind is enough, and
-- a lost one is not for ever. \`told\` is what the key holds, where it was asked already.
local bellKind = "string"
local function ring(bell, what, told)
  if told == nil then told = redis.pcall("GET", bell) end
  -- one that does not go by itself is somebody else's
  if type(told) ~= "string" or redis.pcall("PTTL", bell) == -1 then
    redis.pcall("SET", bell, what, "PX", 1000)
  elseif string.find(told, what, 1, true) then
    return
  else
    redis.pcall("SET", bell, told .. " " .. what, "KEEPTTL")
  end
  redis.pcall("PUBLISH", bell, what)
end
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
`,
  take: `-- take: delivers what waits for anybody of the group: released by its consumer, or reclaimed from a dead one.
--
-- KEYS    1 main, 2 retry, 3 state
-- ARGV    1 mainGroup, 2 retryGroup, 3 consumer, 4 limit (entries), 5 bytes (roughly; a first entry is taken whatever
--         its size), 6 alone ("1": one suspect and nothing else), 7 maxAttempts ("" without a limit)
-- RETURNS {suspects wait that were not taken, more may wait, trimmed (settled, since nothing of them is left), of main
--         {{id, delivery count, fields} …}, of retry the same}
-- CALLER  Consumer.fetch
-- ORDER   Each delivery is one XCLAIM, which counts it and gives its content, and needs no memory. A reply that is lost
--         leaves entries pending for the consumer, as after XREADGROUP: it finds them in its pending list.
--
-- A suspect is taken alone, so that a message that kills its process takes no other with it.

-- The error for the first key, of those given as kind, key, kind, key, …, that holds another kind of value; nil if all
-- fit. Asked before the first write: an error in the middle would leave half of a move behind.
local function mistyped(...)
  local wanted = { ... }
  for i = 1, #wanted, 2 do
    local kind = redis.call("TYPE", wanted[i + 1]).ok
    if kind ~= "none" and kind ~= wanted[i] then
      local told = wanted[i + 1] .. " holds a " .. kind .. ", and a " .. wanted[i] .. " is wanted"
      return redis.error_reply("WRONGTYPE " .. told)
    end
  end
end

-- What the server says of a stream or a group, with \`err\` and no rows where there is none. Any other error is the caller's
-- to see, as the server words it.
local function ask(...)
  local reply = redis.pcall(...)
  local function isAbsent(words) return string.find(reply.err, words, 1, true) end
  if reply.err and not isAbsent("NOGROUP") and not isAbsent("no such key") then redis.call(...) end
  return reply
end
-- Up to \`limit\` rows {id, consumer, idle, count} of what a consumer has pending from \`from\` on; none where there is no
-- group.
local function pendingOf(stream, group, consumer, from, limit)
  return ask("XPENDING", stream, group, from, "+", limit, consumer)
end

-- A delivery count: how often an entry was delivered, and how often it was given back at no cost, in millions. So no two
-- deliveries of an entry have the same count, and what is said of one is never taken for another.
local million = 1000000
local function delivered(count)
  return count % million
end
-- The count of a delivery that cost nothing.
local function free(count)
  return count + million - math.min(delivered(count), 1)
end
-- Suspects: entries that consumers died of or beside, to be taken alone. \`looked\` counts the bytes that were read to
-- tell them from others.
local looked = 0
-- attempts made before this entry was written; what cannot be read counts as none, and is dead-lettered by who takes it
local function attemptsOf(stream, id)
  local entry = redis.call("XRANGE", stream, id, id)[1]
  local fields = entry and entry[2] or {}
  for _, part in ipairs(fields) do looked = looked + #part end
  for i = 1, #fields, 2 do
    if fields[i] == "clutch" then
      local read, clutch = pcall(cjson.decode, fields[i + 1])
      return read and type(clutch) == "table" and tonumber(clutch.attempt) or 0
    end
  end
  return 0
end
-- Whether it was held by consumers that died: twice, or once where its next attempt is the last.
local function suspected(stream, id, count, isRetry, maxAttempts)
  count = delivered(count)
  if count >= 2 then return true end
  if count == 0 or not maxAttempts then return false end
  return (isRetry and attemptsOf(stream, id) or 0) + count + 1 >= maxAttempts
end

local main, retry, state = KEYS[1], KEYS[2], KEYS[3]
local mainGroup, retryGroup, consumer, limit, maxBytes, alone, maxAttempts = unpack(ARGV)
local wrong = mistyped("stream", main, "stream", retry, "hash", state)
if wrong then return wrong end
limit, maxBytes, alone, maxAttempts = tonumber(limit), tonumber(maxBytes), alone == "1", tonumber(maxAttempts)

local suspects, more, trimmed, taken, bytes = 0, 0, 0, 0, 0

local function full()
  return taken >= limit or (taken > 0 and bytes >= maxBytes)
end

local function from(stream, group)
  local entries, touched = {}, false
  -- more than is wanted, so that suspects in front do not hide what lies behind them
  local rows = pendingOf(stream, group, "-released", "-", limit + 256)
  if #rows == limit + 256 then more = 1 end
  for _, row in ipairs(rows) do
    local id, count = row[1], row[4]
    if delivered(count) < 2 and (full() or looked >= 4194304) then
      more = 1
    else
      local suspect = suspected(stream, id, count, stream == retry, maxAttempts)
      if suspect == alone and not full() then
        local entry = redis.call("XCLAIM", stream, group, consumer, 0, id)[1]
        touched = true
        if entry then
          entries[#entries + 1] = { id, count + 1, entry[2] }
          taken = taken + 1
          for _, part in ipairs(entry[2]) do bytes = bytes + #part end
          if alone then limit = 1 end
        else
          -- Redis 7 has dropped it from the pending list by now, Redis 6.2 has not
          redis.call("XACK", stream, group, id)
          trimmed = trimmed + 1
        end
      elseif suspect then
        suspects = 1
      else
        more = 1
      end
    end
  end
  if touched and #pendingOf(stream, group, "-released", "-", 1) == 0 then
    redis.call("XGROUP", "DELCONSUMER", stream, group, "-released")
  end
  return entries
end

local ofMain = from(main, mainGroup)
local ofRetry = from(retry, retryGroup)
return { suspects, more, trimmed, ofMain, ofRetry }
`,
  tend: `-- tend: moves retries that are due, takes deliveries from dead consumers, and removes dead consumers that hold nothing.
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
-- goes with it, and so does the log where it owned that; \`fence\` stays for ever.
--
-- A consumer is judged by its own visibility timeout, 30 s if it has recorded none. Of what it holds, the entries that
-- its mark does not cover were not started, and lose the attempt that their delivery counted. An entry whose content was
-- trimmed lives in its consumer's memory: it is left alone while the consumer shows signs of life.

-- The error for the first key, of those given as kind, key, kind, key, …, that holds another kind of value; nil if all
-- fit. Asked before the first write: an error in the middle would leave half of a move behind.
local function mistyped(...)
  local wanted = { ... }
  for i = 1, #wanted, 2 do
    local kind = redis.call("TYPE", wanted[i + 1]).ok
    if kind ~= "none" and kind ~= wanted[i] then
      local told = wanted[i + 1] .. " holds a " .. kind .. ", and a " .. wanted[i] .. " is wanted"
      return redis.error_reply("WRONGTYPE " .. told)
    end
  end
end

-- The server's clock in milliseconds, and a number of milliseconds as text: Lua's own would turn large ones into 1e+14.
local function now()
  local time = redis.call("TIME")
  return time[1] * 1000 + math.floor(time[2] / 1000)
end
local function digits(number)
  return string.format("%.0f", number)
end

-- Begins to write without writing anything. A server whose memory is full refuses a script's first write if it can
-- grow, but none behind a write that was let through. Only for steps that free as much as they take, or take a few
-- bytes.
local function begin(hash)
  redis.call("HDEL", hash, "")
end

-- Whether entry id a is greater than b. Compared as text: the parts have 64 bits, and Lua's numbers 53.
local function after(a, b)
  local ams, aseq = string.match(a, "^(%d+)%-(%d+)$")
  local bms, bseq = string.match(b, "^(%d+)%-(%d+)$")
  if not ams or not bms then return false end
  if ams == bms then ams, bms = aseq, bseq end
  return #ams > #bms or (#ams == #bms and ams > bms)
end

-- What the server says of a stream or a group, with \`err\` and no rows where there is none. Any other error is the caller's
-- to see, as the server words it.
local function ask(...)
  local reply = redis.pcall(...)
  local function isAbsent(words) return string.find(reply.err, words, 1, true) end
  if reply.err and not isAbsent("NOGROUP") and not isAbsent("no such key") then redis.call(...) end
  return reply
end
-- A flat list of names and values, as XINFO answers, by name.
local function record(flat)
  local named = {}
  for i = 1, #flat, 2 do named[flat[i]] = flat[i + 1] end
  return named
end
-- What XINFO says of a consumer group; nil if there is none, or no stream.
local function groupOf(stream, name)
  for _, row in ipairs(ask("XINFO", "GROUPS", stream)) do
    local group = record(row)
    if group.name == name then return group end
  end
end
-- The consumers of a group; none where there is no group.
local function consumersOf(stream, group)
  local consumers = {}
  for i, row in ipairs(ask("XINFO", "CONSUMERS", stream, group)) do consumers[i] = record(row) end
  return consumers
end

-- Up to \`limit\` rows {id, consumer, idle, count} of what a consumer has pending from \`from\` on; none where there is no
-- group.
local function pendingOf(stream, group, consumer, from, limit)
  return ask("XPENDING", stream, group, from, "+", limit, consumer)
end

-- A function that tells whether an entry still has its content. It must be asked before XCLAIM, which drops a trimmed
-- entry from the pending list without a word. Redis 7 names the greatest id ever deleted: what lies above it, and not
-- below the first entry, is there, and need not be read. \`looked\` counts the bytes that were read to find out.
local looked = 0
local function presence(stream)
  local info = ask("XINFO", "STREAM", stream)
  local first, deleted
  for i = 1, #info, 2 do
    if info[i] == "first-entry" then first = info[i + 1] and info[i + 1][1] end
    if info[i] == "max-deleted-entry-id" then deleted = info[i + 1] end
  end
  return function(id)
    if not first or after(first, id) then return false end
    if deleted and after(id, deleted) then return true end
    local entry = redis.call("XRANGE", stream, id, id)[1]
    if not entry then return false end
    for _, part in ipairs(entry[2]) do looked = looked + #part end
    return true
  end
end

-- A delivery count: how often an entry was delivered, and how often it was given back at no cost, in millions. So no two
-- deliveries of an entry have the same count, and what is said of one is never taken for another.
local million = 1000000
local function delivered(count)
  return count % million
end
-- The count of a delivery that cost nothing.
local function free(count)
  return count + million - math.min(delivered(count), 1)
end
-- Gives a delivery to whoever takes it next: pending for \`-released\` with this delivery count, and idle for a day, so
-- that no minimum of anybody's holds it back. XCLAIM may do so while memory is full.
local function give(stream, group, id, count)
  redis.call("XCLAIM", stream, group, "-released", 0, id, "IDLE", 86400000, "RETRYCOUNT", count, "JUSTID")
end

-- Whether a mark (nil where there is none) shows that an entry was not started: a function of its id.
local function unstartedBy(mark)
  if not mark then
    return function() return false end
  end
  if string.sub(mark, 1, 1) ~= "=" then
    return function(id) return after(id, mark) end
  end
  local started = {}
  for id in string.gmatch(mark, " (%S+)") do started[id] = true end
  return function(id) return not started[id] end
end
-- A decimal number as text, less one. Not as a number: the parts of an id have 64 bits.
local function decrement(number)
  local head, digit, zeros = string.match(number, "^(%d-)([1-9])(0*)$")
  local less = head .. (digit - 1) .. string.rep("9", #zeros)
  return (string.gsub(less, "^0+(%d)", "%1"))
end
-- The last id before this one.
local function before(id)
  local ms, seq = string.match(id, "^(%d+)%-(%d+)$")
  if seq ~= "0" then return ms .. "-" .. decrement(seq) end
  if ms ~= "0" then return decrement(ms) .. "-18446744073709551615" end
  return id
end
-- Where a group would have to begin so that nothing unsettled is missed; nil if there is no group.
local function positionOf(stream, group)
  local pending = ask("XPENDING", stream, group)
  if pending.err then return nil end
  if pending[1] > 0 then return before(pending[2]) end
  return groupOf(stream, group)["last-delivered-id"]
end

-- Fields as one string of bytes, a netstring each, and back; nil where the bytes are none, or are no pairs.
local function netstring(bytes)
  return #bytes .. ":" .. bytes .. ","
end
local function parse(encoded)
  local fields, at = {}, 1
  while at <= #encoded do
    local length, from = string.match(encoded, "^(%d+):()", at)
    if not from or #length > 10 then return nil end
    local comma = from + length
    if string.byte(encoded, comma) ~= 44 then return nil end
    fields[#fields + 1] = string.sub(encoded, from, comma - 1)
    at = comma + 1
  end
  if #fields == 0 or #fields % 2 == 1 then return nil end
  return fields
end
-- More than this many names and values cannot be handed to one command: \`unpack\` ends at 7,990.
local maxFields = 7000

-- XADD: the id of the new entry, or the error, with the stream's name: the server's own words for a stream that takes no
-- more ids have none.
local function append(stream, ...)
  local added = redis.pcall("XADD", stream, "*", ...)
  if type(added) == "table" then added.err = string.gsub(added.err, "^-", "") .. " (" .. stream .. ")" end
  return added
end
-- Keeps a member of a set that nothing can be made of, as it is and out of the way of those behind it.
local function deadLetter(member, set, deadLetters)
  local told = '{"original":"0-0","reason":"poison","cause":"a member of the ' .. set
    .. ' set cannot be read","attempts":0,"failed":' .. digits(now()) .. "}"
  return append(deadLetters, "data", member, "clutch", told)
end

-- The prefix of a key's members in the set of parked messages, without its colon. In hexadecimal, so that no key holds
-- a colon, and the order of members is the order of ids within a key.
local function hex(key)
  return (string.gsub(key, ".", function(char) return string.format("%02x", string.byte(char)) end))
end
-- Members are searched by their order, which scores come before: one that somebody added with a score of its own would
-- hide others. It gets that of all; whether there was one, up to 100 of either side at a time.
local function align(parked)
  if redis.call("EXISTS", parked) == 0 then return false end
  local any = false
  for low, high in pairs({ ["-inf"] = "(0", ["(0"] = "+inf" }) do
    for _, member in ipairs(redis.call("ZRANGEBYSCORE", parked, low, high, "LIMIT", 0, 100)) do
      redis.call("ZADD", parked, 0, member)
      any = true
    end
  end
  return any
end
-- Of a key whose message in front is settled: the first that is parked behind it becomes a retry that is due, or the key
-- is held back no longer, which is what it answers. Needs no more memory than it frees, but for what cannot be read: that
-- becomes a dead letter.
local function advance(key, retry, due, deadLetters, blocked, parked)
  local prefix = hex(key)
  while true do
    local member
    repeat
      member = redis.call("ZRANGEBYLEX", parked, "[" .. prefix .. ":", "(" .. prefix .. ";", "LIMIT", 0, 1)[1]
    until member or not align(parked)
    if not member then
      redis.call("ZREM", blocked, key)
      return true
    end
    local at = #prefix + 2
    local ms = tonumber(string.sub(member, at, at + 15), 16)
    local encoded = string.sub(member, at + 34)
    local fields = ms and parse(encoded)
    if fields and #fields <= maxFields then
      local added = append(retry, unpack(fields))
      -- a stream that takes no more ids: due, it is not lost, and whoever moves it says what is wrong
      if type(added) == "table" then redis.call("ZADD", due, digits(now()), encoded) end
      redis.call("ZREM", parked, member)
      redis.call("ZADD", blocked, digits(ms), key)
      return false
    end
    -- kept nowhere, it stays where it is, and is found again when no key is held back
    if type(deadLetter(member, "parked", deadLetters)) == "table" then
      redis.call("ZREM", blocked, key)
      return true
    end
    redis.call("ZREM", parked, member)
  end
end

-- The error for the first command, of those given as lists of it and its arguments, that the user may not call; nil where
-- all may be. Asked before the first write, as for \`mistyped\`: an error in the middle would leave half of a move behind.
-- Not by calling them: behind a write, even of nothing, others are let through while memory is full. Redis before 7 cannot
-- tell.
local function forbidden(...)
  local allowed = redis.acl_check_cmd
  for _, command in ipairs(allowed and { ... } or {}) do
    if not allowed(unpack(command)) then
      return redis.error_reply("NOPERM this user may not call '" .. command[1] .. "' on " .. command[2])
    end
  end
end
-- Mends what an operator, or a lost write of the server's, has left of an ordered group: keys that are held back though
-- no retry of them is left, and parked messages of keys that are not held back. Up to 100 keys; how many there were.
local function mend(retry, due, deadLetters, blocked, parked)
  local held, mended = redis.call("ZCARD", blocked), 0
  if held == 0 then
    align(parked)
    local from = "-"
    while mended < 100 do
      local member = redis.call("ZRANGEBYLEX", parked, from, "+", "LIMIT", 0, 1)[1]
      if not member then return mended end
      local prefix = string.match(member, "^(%x*):")
      local key = prefix and string.gsub(prefix, "%x%x", function(two) return string.char(tonumber(two, 16)) end)
      -- written in any other way, nothing would find it
      if key and hex(key) == prefix then
        advance(key, retry, due, deadLetters, blocked, parked)
        from = "(" .. prefix .. ";"
      else
        if type(deadLetter(member, "parked", deadLetters)) == "table" then return mended end
        redis.call("ZREM", parked, member)
      end
      mended = mended + 1
    end
    return mended
  end
  local fronts = redis.call("ZCARD", due) + redis.call("XLEN", retry)
  -- each key that is held back has one retry of its own; among too many, those without are not looked for
  if held <= fronts or fronts > 256 then return 0 end
  local has = {}
  local function note(fields)
    for i = 1, #fields, 2 do
      if fields[i] == "clutch" then
        local read, clutch = pcall(cjson.decode, fields[i + 1])
        if read and type(clutch) == "table" and type(clutch.key) == "string" then has[clutch.key] = true end
      end
    end
  end
  for _, member in ipairs(redis.call("ZRANGE", due, 0, -1)) do note(parse(member) or {}) end
  for _, entry in ipairs(redis.call("XRANGE", retry, "-", "+")) do note(entry[2]) end
  for _, key in ipairs(redis.call("ZRANGE", blocked, 0, fronts + 100)) do
    if not has[key] and mended < 100 then
      advance(key, retry, due, deadLetters, blocked, parked)
      mended = mended + 1
    end
  end
  return mended
end

-- Wakes whoever waits at the bell, by a message that says what for: "new" entries; others that were "given" back, retried or
-- moved; or something that is "due" before all that was known. What was moved before stands, so a failure here must not
-- look like one of the move. The bell's key is the mark of messages that nobody has heard yet: one of a kind is enough, and
-- a lost one is not for ever. \`told\` is what the key holds, where it was asked already.
local bellKind = "string"
local function ring(bell, what, told)
  if told == nil then told = redis.pcall("GET", bell) end
  -- one that does not go by itself is somebody else's
  if type(told) ~= "string" or redis.pcall("PTTL", bell) == -1 then
    redis.pcall("SET", bell, what, "PX", 1000)
  elseif string.find(told, what, 1, true) then
    return
  else
    redis.pcall("SET", bell, told .. " " .. what, "KEEPTTL")
  end
  redis.pcall("PUBLISH", bell, what)
end
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
`,
  trim: `-- trim: drops entries from the head of a log, up to what every group on it has settled.
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
-- \`groups\`, with the time.

-- The error for the first key, of those given as kind, key, kind, key, …, that holds another kind of value; nil if all
-- fit. Asked before the first write: an error in the middle would leave half of a move behind.
local function mistyped(...)
  local wanted = { ... }
  for i = 1, #wanted, 2 do
    local kind = redis.call("TYPE", wanted[i + 1]).ok
    if kind ~= "none" and kind ~= wanted[i] then
      local told = wanted[i + 1] .. " holds a " .. kind .. ", and a " .. wanted[i] .. " is wanted"
      return redis.error_reply("WRONGTYPE " .. told)
    end
  end
end

-- The server's clock in milliseconds, and a number of milliseconds as text: Lua's own would turn large ones into 1e+14.
local function now()
  local time = redis.call("TIME")
  return time[1] * 1000 + math.floor(time[2] / 1000)
end
local function digits(number)
  return string.format("%.0f", number)
end

-- Begins to write without writing anything. A server whose memory is full refuses a script's first write if it can
-- grow, but none behind a write that was let through. Only for steps that free as much as they take, or take a few
-- bytes.
local function begin(hash)
  redis.call("HDEL", hash, "")
end

-- Whether entry id a is greater than b. Compared as text: the parts have 64 bits, and Lua's numbers 53.
local function after(a, b)
  local ams, aseq = string.match(a, "^(%d+)%-(%d+)$")
  local bms, bseq = string.match(b, "^(%d+)%-(%d+)$")
  if not ams or not bms then return false end
  if ams == bms then ams, bms = aseq, bseq end
  return #ams > #bms or (#ams == #bms and ams > bms)
end

-- What the server says of a stream or a group, with \`err\` and no rows where there is none. Any other error is the caller's
-- to see, as the server words it.
local function ask(...)
  local reply = redis.pcall(...)
  local function isAbsent(words) return string.find(reply.err, words, 1, true) end
  if reply.err and not isAbsent("NOGROUP") and not isAbsent("no such key") then redis.call(...) end
  return reply
end
-- A flat list of names and values, as XINFO answers, by name.
local function record(flat)
  local named = {}
  for i = 1, #flat, 2 do named[flat[i]] = flat[i + 1] end
  return named
end
-- What XINFO says of a consumer group; nil if there is none, or no stream.
local function groupOf(stream, name)
  for _, row in ipairs(ask("XINFO", "GROUPS", stream)) do
    local group = record(row)
    if group.name == name then return group end
  end
end
-- The consumers of a group; none where there is no group.
local function consumersOf(stream, group)
  local consumers = {}
  for i, row in ipairs(ask("XINFO", "CONSUMERS", stream, group)) do consumers[i] = record(row) end
  return consumers
end

-- The first id after this one. Not as a number: the parts of an id have 64 bits.
local function increment(number)
  local head, digit, nines = string.match(number, "^(%d-)([0-8]?)(9*)$")
  return head .. ((tonumber(digit) or 0) + 1) .. string.rep("0", #nines)
end
local function following(id)
  local ms, seq = string.match(id, "^(%d+)%-(%d+)$")
  if seq == "18446744073709551615" then return increment(ms) .. "-0" end
  return ms .. "-" .. increment(seq)
end
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
    local foreign = string.find(name, "[\\128-\\255]")
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

-- what is left lies in the node where \`keep\` is, or in one with more entries than the limit: a part of that is dropped
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
`
} as const
