-- All that the state hash tells, by field.
local function toldBy(state)
  return record(redis.call("HGETALL", state))
end
-- For how many more ms a worker is taken to be alive: its visibility timeout after its last sign of life. Not above 0
-- where it is not.
local function lease(told, name, time)
  local timeout, seen = tonumber(told["v:" .. name] or ""), tonumber(told["h:" .. name] or "")
  return timeout and seen and seen + timeout - time or 0
end
-- Whether a name is another's than that of the member whose first join had this nonce ("" is anybody's).
local function isOther(told, name, first)
  local holder = string.match(told["j:" .. name] or "", "^(%S+) ")
  return first ~= "" and holder ~= nil and holder ~= first
end
-- Who owns the log, whether or not it is alive; nil where nobody does.
local function ownerOf(told)
  return string.match(told.owner or "", "^(%S+) %S+$")
end

