-- What the server says of a stream or a group, with `err` and no rows where there is none. Any other error is the caller's
-- to see, as the server words it.
local function ask(...)
  local reply = redis.pcall(...)
  local function isAbsent(words) return string.find(reply.err, words, 1, true) end
  if reply.err and not isAbsent("NOGROUP") and not isAbsent("no such key") then redis.call(...) end
  return reply
end
