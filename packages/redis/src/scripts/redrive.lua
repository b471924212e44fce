-- redrive: schedules dead letters as retries of the same subscription, with no attempts made, and removes them.
--
-- KEYS    1 deadLetters, 2 due, 3 retry, 4 bell
-- ARGV    1 delay (ms; 0 goes to the retry stream at once), 2.. id (of each dead letter)
-- RETURNS {redriven, how many of the ids were looked at: up to 4 MiB are moved a call}
-- CALLER  Transport.deadLetters.redrive
-- ORDER   Each is stored, then removed. The first write stores something, so where memory is full nothing changes. A
--         repeated call, or one for the ids behind a crash, finds no dead letter where one was moved.

--@include mistyped
--@include now
--@include netstrings
--@include ring
--@include append
--@include forbidden
local deadLetters, due, retry, bell = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local wrong = mistyped("stream", deadLetters, "zset", due, "stream", retry, bellKind, bell)
  or forbidden({ "XDEL", deadLetters, "0-0" }, { "ZADD", due, "0", "" })
if wrong then return wrong end

local delay = tonumber(ARGV[1])
local time = now()
local earliest = tonumber(redis.call("ZRANGE", due, 0, 0, "WITHSCORES")[2] or "inf")
local redriven, processed, bytes = 0, 0, 0

for i = 2, #ARGV do
  local id = ARGV[i]
  local entry = redis.call("XRANGE", deadLetters, id, id)[1]
  if entry then
    local fields, kept, clutch = entry[2], {}, nil
    for f = 1, #fields, 2 do
      if fields[f] == "clutch" then
        local read, told = pcall(cjson.decode, fields[f + 1])
        clutch = read and type(told) == "table" and told or nil
      else
        kept[#kept + 1] = fields[f]
        kept[#kept + 1] = fields[f + 1]
      end
    end
    -- of a foreign dead letter nothing is known but its own id
    local original = clutch and clutch.original
    if type(original) ~= "string" or not string.find(original, "^%d+%-%d+$") then original = id end
    local told = '{"original":"' .. original .. '","attempt":0,"redriven":"' .. id .. '"'
    if clutch and type(clutch.first) == "number" then told = told .. ',"first":' .. digits(clutch.first) end
    kept[#kept + 1] = "clutch"
    kept[#kept + 1] = told .. "}"
    for _, part in ipairs(kept) do bytes = bytes + #part end

    if delay == 0 and #kept <= maxFields then
      local added = append(retry, unpack(kept))
      if type(added) == "table" then return added end
    else
      for k, part in ipairs(kept) do kept[k] = netstring(part) end
      redis.call("ZADD", due, digits(time + delay), table.concat(kept))
    end
    redis.call("XDEL", deadLetters, id)
    redriven = redriven + 1
  end
  processed = processed + 1
  if bytes >= 4194304 then break end
end

if redriven > 0 and (delay == 0 or time + delay < earliest) then ring(bell, delay == 0 and "given" or "due") end
return { redriven, processed }
