-- Up to `limit` rows {id, consumer, idle, count} of what a consumer has pending from `from` on; none where there is no
-- group.
local function pendingOf(stream, group, consumer, from, limit)
  return ask("XPENDING", stream, group, from, "+", limit, consumer)
end

