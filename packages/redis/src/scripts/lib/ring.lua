-- Wakes whoever waits at the bell. What was moved before stands, so a failure here must not look like one of the move.
-- The bell is a stream that readers wait on. Where they wait for messages instead (on a cluster, where this line says
-- "string"), it is the mark of a message that nobody has heard yet: one is enough, and a lost one is not for ever.
local bellKind = "stream"
local function ring(bell)
  if bellKind == "stream" then
    redis.pcall("XADD", bell, "MAXLEN", 1, "*", "", "")
  elseif redis.pcall("SET", bell, "", "NX", "PX", 1000) then
    redis.pcall("PUBLISH", bell, "")
  end
end
