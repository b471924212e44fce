-- Gives a delivery to whoever takes it next: pending for `-released`, as delivered `count` times before, and idle for a
-- day, so that no minimum of anybody's holds it back. XCLAIM may do so while memory is full.
local function give(stream, group, id, count)
  redis.call("XCLAIM", stream, group, "-released", 0, id, "IDLE", 86400000, "RETRYCOUNT", math.max(count, 0), "JUSTID")
end

