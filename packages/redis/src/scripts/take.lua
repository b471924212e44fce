-- take: delivers what waits for anybody of the group: released by its consumer, or reclaimed from a dead one.
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

--@include mistyped
--@include ask
--@include pending
--@include delivered
--@include suspects
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
