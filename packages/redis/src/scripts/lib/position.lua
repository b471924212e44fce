-- A decimal number as text, less one. Not as a number: the parts of an id have 64 bits.
local function decrement(number)
  local head, digit, zeros = string.match(number, "^(%d-)([1-9])(0*)$")
  local less = head .. (digit - 1) .. string.rep("9", #zeros)
  return (string.gsub(less, "^0+(%d)", "%1"))
end
-- The last id before this one.
local function before(id)
  local ms, seq = string.match(id, "^(%d+)%-(%d+)$")
  if seq ~= "0" then return ms .. "-" .. decrement(seq) end
  if ms ~= "0" then return decrement(ms) .. "-18446744073709551615" end
  return id
end
-- Where a group would have to begin so that nothing unsettled is missed; nil if there is no group.
local function positionOf(stream, group)
  local pending = ask("XPENDING", stream, group)
  if pending.err then return nil end
  if pending[1] > 0 then return before(pending[2]) end
  return groupOf(stream, group)["last-delivered-id"]
end

