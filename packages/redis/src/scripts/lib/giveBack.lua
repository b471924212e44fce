-- Gives back what a consumer holds of a stream, at no cost of an attempt, at most `limit` entries: how many, how many were
-- settled, since nothing of them is left, and whether it holds more.
local function giveBack(stream, group, consumer, limit)
  local rows = pendingOf(stream, group, consumer, "-", limit)
  if #rows == 0 then return 0, 0, false end
  local released, trimmed = 0, 0
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
  return released, trimmed, #rows == tonumber(limit) and #pendingOf(stream, group, consumer, "-", 1) > 0
end
