-- Whether a mark (nil where there is none) shows that an entry was not started: a function of its id.
local function unstartedBy(mark)
  if not mark then
    return function() return false end
  end
  if string.sub(mark, 1, 1) ~= "=" then
    return function(id) return after(id, mark) end
  end
  local started = {}
  for id in string.gmatch(mark, " (%S+)") do started[id] = true end
  return function(id) return not started[id] end
end
