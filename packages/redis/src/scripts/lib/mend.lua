-- Mends what an operator, or a lost write of the server's, has left of an ordered group: keys that are held back though
-- no retry of them is left, and parked messages of keys that are not held back. Up to 100 keys; how many there were.
local function mend(retry, due, deadLetters, blocked, parked)
  local held, mended = redis.call("ZCARD", blocked), 0
  if held == 0 then
    align(parked)
    local from = "-"
    while mended < 100 do
      local member = redis.call("ZRANGEBYLEX", parked, from, "+", "LIMIT", 0, 1)[1]
      if not member then return mended end
      local prefix = string.match(member, "^(%x*):")
      local key = prefix and string.gsub(prefix, "%x%x", function(two) return string.char(tonumber(two, 16)) end)
      -- written in any other way, nothing would find it
      if key and hex(key) == prefix then
        advance(key, retry, due, deadLetters, blocked, parked)
        from = "(" .. prefix .. ";"
      else
        if type(deadLetter(member, "parked", deadLetters)) == "table" then return mended end
        redis.call("ZREM", parked, member)
      end
      mended = mended + 1
    end
    return mended
  end
  local fronts = redis.call("ZCARD", due) + redis.call("XLEN", retry)
  -- each key that is held back has one retry of its own; among too many, those without are not looked for
  if held <= fronts or fronts > 256 then return 0 end
  local has = {}
  local function note(fields)
    for i = 1, #fields, 2 do
      if fields[i] == "clutch" then
        local read, clutch = pcall(cjson.decode, fields[i + 1])
        if read and type(clutch) == "table" and type(clutch.key) == "string" then has[clutch.key] = true end
      end
    end
  end
  for _, member in ipairs(redis.call("ZRANGE", due, 0, -1)) do note(parse(member) or {}) end
  for _, entry in ipairs(redis.call("XRANGE", retry, "-", "+")) do note(entry[2]) end
  for _, key in ipairs(redis.call("ZRANGE", blocked, 0, fronts + 100)) do
    if not has[key] and mended < 100 then
      advance(key, retry, due, deadLetters, blocked, parked)
      mended = mended + 1
    end
  end
  return mended
end

