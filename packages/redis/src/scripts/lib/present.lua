-- A function that tells whether an entry still has its content. It must be asked before XCLAIM, which drops a trimmed
-- entry from the pending list without a word. Redis 7 names the greatest id ever deleted: what lies above it, and not
-- below the first entry, is there, and need not be read. `looked` counts the bytes that were read to find out.
local looked = 0
local function presence(stream)
  local info = ask("XINFO", "STREAM", stream)
  local first, deleted
  for i = 1, #info, 2 do
    if info[i] == "first-entry" then first = info[i + 1] and info[i + 1][1] end
    if info[i] == "max-deleted-entry-id" then deleted = info[i + 1] end
  end
  return function(id)
    if not first or after(first, id) then return false end
    if deleted and after(id, deleted) then return true end
    local entry = redis.call("XRANGE", stream, id, id)[1]
    if not entry then return false end
    for _, part in ipairs(entry[2]) do looked = looked + #part end
    return true
  end
end

