-- The error for the first command, of those given as lists of it and its arguments, that the user may not call; nil where
-- all may be. Asked before the first write, as for `mistyped`: an error in the middle would leave half of a move behind.
-- Not by calling them: behind a write, even of nothing, others are let through while memory is full. Redis before 7 cannot
-- tell.
local function forbidden(...)
  local allowed = redis.acl_check_cmd
  for _, command in ipairs(allowed and { ... } or {}) do
    if not allowed(unpack(command)) then
      return redis.error_reply("NOPERM this user may not call '" .. command[1] .. "' on " .. command[2])
    end
  end
end
