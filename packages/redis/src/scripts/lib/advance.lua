-- The prefix of a key's members in the set of parked messages, without its colon. In hexadecimal, so that no key holds
-- a colon, and the order of members is the order of ids within a key.
local function hex(key)
  return (string.gsub(key, ".", function(char) return string.format("%02x", string.byte(char)) end))
end
-- Members are searched by their order, which scores come before: one that somebody added with a score of its own would
-- hide others. It gets that of all; whether there was one, up to 100 of either side at a time.
local function align(parked)
  if redis.call("EXISTS", parked) == 0 then return false end
  local any = false
  for low, high in pairs({ ["-inf"] = "(0", ["(0"] = "+inf" }) do
    for _, member in ipairs(redis.call("ZRANGEBYSCORE", parked, low, high, "LIMIT", 0, 100)) do
      redis.call("ZADD", parked, 0, member)
      any = true
    end
  end
  return any
end
-- Of a key whose message in front is settled: the first that is parked behind it becomes a retry that is due, or the key
-- is held back no longer, which is what it answers. Needs no more memory than it frees, but for what cannot be read: that
-- becomes a dead letter.
local function advance(key, retry, due, deadLetters, blocked, parked)
  local prefix = hex(key)
  while true do
    local member
    repeat
      member = redis.call("ZRANGEBYLEX", parked, "[" .. prefix .. ":", "(" .. prefix .. ";", "LIMIT", 0, 1)[1]
    until member or not align(parked)
    if not member then
      redis.call("ZREM", blocked, key)
      return true
    end
    local at = #prefix + 2
    local ms = tonumber(string.sub(member, at, at + 15), 16)
    local encoded = string.sub(member, at + 34)
    local fields = ms and parse(encoded)
    if fields and #fields <= maxFields then
      local added = append(retry, unpack(fields))
      -- a stream that takes no more ids: due, it is not lost, and whoever moves it says what is wrong
      if type(added) == "table" then redis.call("ZADD", due, digits(now()), encoded) end
      redis.call("ZREM", parked, member)
      redis.call("ZADD", blocked, digits(ms), key)
      return false
    end
    -- kept nowhere, it stays where it is, and is found again when no key is held back
    if type(deadLetter(member, "parked", deadLetters)) == "table" then
      redis.call("ZREM", blocked, key)
      return true
    end
    redis.call("ZREM", parked, member)
  end
end

