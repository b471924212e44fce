-- A sign of life, which is what a lease of the log is counted from.
local function alive(state, consumer)
  begin(state)
  redis.call("HSET", state, "h:" .. consumer, digits(now()))
end

