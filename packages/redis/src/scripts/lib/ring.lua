-- Wakes whoever waits at the bell, by a message that says what for: "new" entries; others that were "given" back, retried or
-- moved; or something that is "due" before all that was known. What was moved before stands, so a failure here must not
-- look like one of the move. The bell's key is the mark of messages that nobody has heard yet: one of a kind is enough, and
-- a lost one is not for ever. `told` is what the key holds, where it was asked already.
local bellKind = "string"
local function ring(bell, what, told)
  if told == nil then told = redis.pcall("GET", bell) end
  -- one that does not go by itself is somebody else's
  if type(told) ~= "string" or redis.pcall("PTTL", bell) == -1 then
    redis.pcall("SET", bell, what, "PX", 1000)
  elseif string.find(told, what, 1, true) then
    return
  else
    redis.pcall("SET", bell, told .. " " .. what, "KEEPTTL")
  end
  redis.pcall("PUBLISH", bell, what)
end
