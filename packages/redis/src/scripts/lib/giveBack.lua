-- Gives back what a consumer holds, at no cost of an attempt, at most `limit` entries of each stream, which are given with
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
