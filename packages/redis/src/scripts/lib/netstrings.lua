-- Fields as one string of bytes, a netstring each, and back; nil where the bytes are none, or are no pairs.
local function netstring(bytes)
  return #bytes .. ":" .. bytes .. ","
end
local function parse(encoded)
  local fields, at = {}, 1
  while at <= #encoded do
    local length, from = string.match(encoded, "^(%d+):()", at)
    if not from or #length > 10 then return nil end
    local comma = from + length
    if string.byte(encoded, comma) ~= 44 then return nil end
    fields[#fields + 1] = string.sub(encoded, from, comma - 1)
    at = comma + 1
  end
  if #fields == 0 or #fields % 2 == 1 then return nil end
  return fields
end
-- More than this many names and values cannot be handed to one command: `unpack` ends at 7,990.
local maxFields = 7000

