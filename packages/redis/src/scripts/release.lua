-- release: gives deliveries back to their group at once, at no cost of an attempt.
--
-- KEYS    1 stream, 2 bell
-- ARGV    1 group, 2 consumer, 3.. id (of each), count (of each, behind all ids)
-- RETURNS for each: 1 done, 2 another's, 0 not pending, 3 its content was trimmed and nothing was done
-- CALLER  Consumer.settle
-- ORDER   Owner and count are compared, then each moves by itself. XCLAIM needs no memory. What was trimmed is not
--         touched: XCLAIM would drop it from the pending list, and the caller holds its only copy. A repeated call
--         finds it with another owner, or delivered again.

--@include mistyped
--@include ids
--@include ask
--@include standing
--@include present
--@include delivered
--@include give
--@include ring
local stream, bell = KEYS[1], KEYS[2]
local group, consumer = ARGV[1], ARGV[2]
local wrong = mistyped("stream", stream, bellKind, bell)
if wrong then return wrong end

local n = (#ARGV - 2) / 2
local ids, counts = {}, {}
for i = 1, n do
  ids[i] = ARGV[2 + i]
  counts[i] = ARGV[2 + n + i]
end
local found = standing(stream, group, consumer, ids, counts)

local present = presence(stream)
local released = false
for i, how in ipairs(found) do
  if how == 1 then
    if present(ids[i]) then
      give(stream, group, ids[i], free(counts[i]))
      released = true
    else
      found[i] = 3
    end
  end
end
if released then ring(bell, "given") end
return found
