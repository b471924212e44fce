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

