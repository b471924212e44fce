-- Keeps a member of a set that nothing can be made of, as it is and out of the way of those behind it.
local function deadLetter(member, set, deadLetters)
  local told = '{"original":"0-0","reason":"poison","cause":"a member of the ' .. set
    .. ' set cannot be read","attempts":0,"failed":' .. digits(now()) .. "}"
  return append(deadLetters, "data", member, "clutch", told)
end

