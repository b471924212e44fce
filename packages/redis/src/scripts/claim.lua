-- claim: makes a worker the owner of a log, and takes what anybody held of it, for the owner to fetch.
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
--@include workers
--@include ring
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
