-- The error for the first key, of those given as kind, key, kind, key, …, that holds another kind of value; nil if all
-- fit. Asked before the first write: an error in the middle would leave half of a move behind.
local function mistyped(...)
  local wanted = { ... }
  for i = 1, #wanted, 2 do
    local kind = redis.call("TYPE", wanted[i + 1]).ok
    if kind ~= "none" and kind ~= wanted[i] then
      local told = wanted[i + 1] .. " holds a " .. kind .. ", and a " .. wanted[i] .. " is wanted"
      return redis.error_reply("WRONGTYPE " .. told)
    end
  end
end

