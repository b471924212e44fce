-- A flat list of names and values, as XINFO answers, by name.
local function record(flat)
  local named = {}
  for i = 1, #flat, 2 do named[flat[i]] = flat[i + 1] end
  return named
end
-- What XINFO says of a consumer group; nil if there is none, or no stream.
local function groupOf(stream, name)
  for _, row in ipairs(ask("XINFO", "GROUPS", stream)) do
    local group = record(row)
    if group.name == name then return group end
  end
end
-- The consumers of a group; none where there is no group.
local function consumersOf(stream, group)
  local consumers = {}
  for i, row in ipairs(ask("XINFO", "CONSUMERS", stream, group)) do consumers[i] = record(row) end
  return consumers
end

