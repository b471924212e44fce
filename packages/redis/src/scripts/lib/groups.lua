-- A flat list of names and values, as XINFO answers, by name.
local function record(flat)
  local named = {}
  for i = 1, #flat, 2 do named[flat[i]] = flat[i + 1] end
  return named
end
-- What XINFO says of a consumer group; nil if there is none, or no stream.
local function groupOf(stream, name)
  local rows = redis.pcall("XINFO", "GROUPS", stream)
  -- any other error is the caller's to see, as the server words it
  if rows.err and not string.find(rows.err, "no such key", 1, true) then redis.call("XINFO", "GROUPS", stream) end
  for _, row in ipairs(rows) do
    local group = record(row)
    if group.name == name then return group end
  end
end
-- The consumers of a group; none where there is no group.
local function consumersOf(stream, group)
  local consumers, rows = {}, redis.pcall("XINFO", "CONSUMERS", stream, group)
  if rows.err and not string.find(rows.err, "NOGROUP", 1, true) and not string.find(rows.err, "no such key", 1, true) then
    redis.call("XINFO", "CONSUMERS", stream, group)
  end
  for i, row in ipairs(rows) do consumers[i] = record(row) end
  return consumers
end

