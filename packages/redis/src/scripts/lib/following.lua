-- The first id after this one. Not as a number: the parts of an id have 64 bits.
local function increment(number)
  local head, digit, nines = string.match(number, "^(%d-)([0-8]?)(9*)$")
  return head .. ((tonumber(digit) or 0) + 1) .. string.rep("0", #nines)
end
local function following(id)
  local ms, seq = string.match(id, "^(%d+)%-(%d+)$")
  if seq == "18446744073709551615" then return increment(ms) .. "-0" end
  return ms .. "-" .. increment(seq)
end
