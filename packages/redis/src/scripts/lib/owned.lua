-- Whether a claim of the log stands: nobody claimed it since, and nothing was taken from its owner.
local function owned(state, consumer, nonce)
  local known = redis.call("HMGET", state, "owner", "n:" .. consumer)
  return known[1] == consumer .. " " .. nonce and known[2] == nonce
end
