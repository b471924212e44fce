-- Suspects: entries that consumers died of or beside, to be taken alone. `looked` counts the bytes that were read to
-- tell them from others.
local looked = 0
-- attempts made before this entry was written; what cannot be read counts as none, and is dead-lettered by who takes it
local function attemptsOf(stream, id)
  local entry = redis.call("XRANGE", stream, id, id)[1]
  local fields = entry and entry[2] or {}
  for _, part in ipairs(fields) do looked = looked + #part end
  for i = 1, #fields, 2 do
    if fields[i] == "clutch" then
      local read, clutch = pcall(cjson.decode, fields[i + 1])
      return read and type(clutch) == "table" and tonumber(clutch.attempt) or 0
    end
  end
  return 0
end
-- Whether it was held by consumers that died: twice, or once where its next attempt is the last.
local function suspected(stream, id, count, isRetry, maxAttempts)
  count = delivered(count)
  if count >= 2 then return true end
  if count == 0 or not maxAttempts then return false end
  return (isRetry and attemptsOf(stream, id) or 0) + count + 1 >= maxAttempts
end

