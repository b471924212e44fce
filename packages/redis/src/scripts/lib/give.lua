-- Gives a delivery to whoever takes it next: pending for `-released` with this delivery count, and idle for a day, so
-- that no minimum of anybody's holds it back. XCLAIM may do so while memory is full.
local function give(stream, group, id, count)
  redis.call("XCLAIM", stream, group, "-released", 0, id, "IDLE", 86400000, "RETRYCOUNT", count, "JUSTID")
end

