-- The server's clock in milliseconds, and a number of milliseconds as text: Lua's own would turn large ones into 1e+14.
local function now()
  local time = redis.call("TIME")
  return time[1] * 1000 + math.floor(time[2] / 1000)
end
local function digits(number)
  return string.format("%.0f", number)
end

