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
-- By the nonce of its first join, the member that has a name; nil where nobody has.
local function holderOf(told, name)
  return string.match(told["j:" .. name] or "", "^(%S+) ")
end
-- Whether the name is another's than this one's ("" asks nothing).
local function isOther(told, name, holder)
  local known = holderOf(told, name)
  return holder ~= "" and known ~= nil and known ~= holder
end
-- Gives a member the name, beside whose join nothing is to be undone.
local function entitle(state, told, name, holder)
  if holder ~= "" and holderOf(told, name) ~= holder then
    redis.call("HSET", state, "j:" .. name, holder .. " 0000000 -")
  end
end
-- Who owns the log, whether or not it is alive; nil where nobody does.
local function ownerOf(told)
  return string.match(told.owner or "", "^(%S+) %S+$")
end

