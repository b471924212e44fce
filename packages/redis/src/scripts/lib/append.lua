-- XADD: the id of the new entry, or the error, with the stream's name: the server's own words for a stream that takes no
-- more ids have none.
local function append(stream, ...)
  local added = redis.pcall("XADD", stream, "*", ...)
  if type(added) == "table" then added.err = string.gsub(added.err, "^-", "") .. " (" .. stream .. ")" end
  return added
end
