-- Begins to write without writing anything. A server whose memory is full refuses a script's first write if it can
-- grow, but none behind a write that was let through. Only for steps that free as much as they take, or take a few
-- bytes.
local function begin(hash)
  redis.call("HDEL", hash, "")
end

