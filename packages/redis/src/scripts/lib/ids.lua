-- Whether entry id a is greater than b. Compared as text: the parts have 64 bits, and Lua's numbers 53.
local function after(a, b)
  local ams, aseq = string.match(a, "^(%d+)%-(%d+)$")
  local bms, bseq = string.match(b, "^(%d+)%-(%d+)$")
  if not ams or not bms then return false end
  if ams == bms then ams, bms = aseq, bseq end
  return #ams > #bms or (#ams == #bms and ams > bms)
end

