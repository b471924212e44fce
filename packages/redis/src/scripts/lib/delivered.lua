-- A delivery count: how often an entry was delivered, and how often it was given back at no cost, in millions. So no two
-- deliveries of an entry have the same count, and what is said of one is never taken for another.
local million = 1000000
local function delivered(count)
  return count % million
end
-- The count of a delivery that cost nothing.
local function free(count)
  return count + million - math.min(delivered(count), 1)
end
