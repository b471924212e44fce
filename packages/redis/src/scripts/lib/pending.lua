-- Up to `limit` rows {id, consumer, idle, count} of what a consumer has pending from `from` on; none where there is no
-- group.
local function pendingOf(stream, group, consumer, from, limit)
  local rows = redis.pcall("XPENDING", stream, group, from, "+", limit, consumer)
  -- any other error is the caller's to see, as the server words it
  if rows.err and not string.find(rows.err, "NOGROUP", 1, true) then redis.call("XPENDING", stream, group) end
  return rows
end

