-- partitions: says how many partitions a topic has, recording the number where nothing is known yet; or changes it.
--
-- KEYS    1 main, 2 meta
-- ARGV    1 count, 2 from (what the number is now, for it to become the count; "" to ask)
-- RETURNS {the number of partitions, 1 where it is recorded (0 where only its first log tells that there is one)}
-- CALLER  Transport.partitions, Transport.repartition
-- ORDER   One write. A repeated call finds the number that the first one wrote.
--
-- A topic that is used without a record has one partition, and that one is never recorded without need: only where there
-- were more, or are to be, so that it is not taken for a record that was lost.

--@include mistyped
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
