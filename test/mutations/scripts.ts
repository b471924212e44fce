/** Breaks of the Lua scripts. */
import type { Guard, Mutation } from "./mutation.ts"

const guard = (file: string, test: string): Guard => ({
  project: "redis",
  file: `test/redis/scripts/${file}.test.ts`,
  test
})
const edit = (file: string, find: string, replace: string) => ({
  file: `packages/redis/src/scripts/${file}.lua`,
  find,
  replace
})

export const scripts: ReadonlyArray<Mutation> = [
  {
    name: "join-namesake-not-seen",
    edits: [edit("join", `if isForeign and lease(told, consumer, now()) > 0 then`, `if isForeign and false then`)],
    killedBy: guard("join", "of an ordered group, a name is the worker's that has it, while that one lives")
  },
  {
    name: "leave-namesake-not-seen",
    edits: [edit("leave", `isOther(joined, consumer, holder) then`, `false then`)],
    killedBy: guard("claim", "a worker whose name is another's leaves nothing of that one's")
  },
  {
    name: "mark-claim-not-checked",
    edits: [edit("mark", `if ARGV[4] ~= "" and`, `if false and`)],
    killedBy: guard("claim", "an owner's mark is none once its claim is over")
  },
  {
    name: "roster-namesake-not-seen",
    edits: [edit("roster", `if isOther(told, consumer, holder) then return { 0 } end\n`, ``)],
    killedBy: guard("claim", "a worker whose name is another's is to join again, and ends nothing")
  },
  {
    name: "ack-lease-not-checked",
    edits: [edit("ack", `redis.call("HGET", state, "n:" .. consumer) == nonce`, `true`)],
    killedBy: guard("ack", "what was reclaimed and delivered to another is refused")
  },
  {
    name: "ack-retry-not-deleted",
    edits: [
      edit("ack", `  if origin == "retry" then redis.call("XDEL", stream, unpack(ids)) end\n  return`, `  return`)
    ],
    killedBy: guard("ack", "deletes what it settles from the retry stream")
  },
  {
    name: "standing-count-not-compared",
    edits: [edit("lib/standing", `found[i] = count == tonumber(counts[i]) and 1 or 2`, `found[i] = 1`)],
    killedBy: guard("ack", "what was reclaimed and delivered to the same consumer again is refused by its count")
  },
  {
    name: "fail-lease-not-checked",
    edits: [
      edit(
        "fail",
        `for n, how in ipairs(found) do\n  if how == 1 then`,
        `for n, how in ipairs(found) do\n  if how then`
      )
    ],
    killedBy: guard("fail", "what is another's, was delivered again or is not pending is not stored")
  },
  {
    name: "fail-removed-before-what-can-fail",
    edits: [
      edit("fail", `if #mine > 0 then\n`, `if #mine > 0 then\n  redis.call("XACK", stream, group, unpack(mine))\n`)
    ],
    killedBy: guard("fail", "where the dead letters can have no further entry, nothing is stored")
  },
  {
    name: "fail-left-pending",
    edits: [edit("fail", `  redis.call("XACK", stream, group, unpack(mine))\n`, ``)],
    killedBy: guard("fail", "a retry leaves the pending list and is due after its delay")
  },
  {
    name: "fail-types-not-checked",
    edits: [
      edit(
        "fail",
        `local wrong = mistyped("stream", stream, "zset", due, "stream", deadLetters, bellKind, bell)`,
        `local wrong`
      )
    ],
    killedBy: guard("fail", "changes nothing where")
  },
  {
    name: "fail-rings-for-the-first-only",
    edits: [edit("fail", `if at < nearest then nearest = at end`, `if nearest == earliest then nearest = at end`)],
    killedBy: guard("fail", "rings for the nearest of a batch, wherever it stands")
  },
  {
    name: "fail-by-the-caller-s-delay-alone",
    edits: [edit("fail", `local at = time + delay`, `local at = tonumber(delay)`)],
    killedBy: guard("fail", "a retry leaves the pending list and is due after its delay")
  },
  {
    name: "release-counted",
    edits: [edit("release", `give(stream, group, ids[i], free(counts[i]))`, `give(stream, group, ids[i], counts[i])`)],
    killedBy: guard("release", "gives back at no cost of an attempt, and rings")
  },
  {
    name: "given-back-and-delivered-alike",
    edits: [edit("lib/delivered", `return count + million - math.min`, `return count - math.min`)],
    killedBy: guard("release", "what is said of a delivery that was given back is not taken for the next one's")
  },
  {
    name: "release-drops-what-was-trimmed",
    edits: [edit("release", `if present(ids[i]) then`, `if present then`)],
    killedBy: guard("release", "what was trimmed is told and not touched")
  },
  {
    name: "release-wakes-nobody",
    edits: [edit("release", `if released then ring(bell, "given") end`, ``)],
    killedBy: guard("release", "gives back at no cost of an attempt, and rings")
  },
  {
    name: "tend-marks-ignored",
    edits: [edit("tend", `unstarted(id) and free(count) or count`, `count`)],
    killedBy: guard("tend.consumers", "what lies behind the mark was not started, and loses the attempt")
  },
  {
    name: "tend-death-not-counted",
    edits: [edit("tend", `unstarted(id) and free(count) or count`, `free(count)`)],
    killedBy: guard("tend.consumers", "deaths add up: reclaim, take, reclaim is two attempts")
  },
  {
    name: "tend-nonce-of-the-dead-stands",
    edits: [edit("tend", `if not taken then redis.call("HDEL", state, "n:" .. name) end`, ``)],
    killedBy: guard("tend.consumers", "what a dead consumer held, counts the attempt, deletes its nonce, and rings")
  },
  {
    name: "tend-one-timeout-for-all",
    edits: [edit("tend", `return tonumber(told["v:" .. name] or "") or 30000 end`, `return 30000 end`)],
    killedBy: guard("tend.consumers", "judges each consumer by its own timeout")
  },
  {
    name: "tend-trimmed-taken-from-the-living",
    edits: [
      edit(
        "tend",
        `elseif silence(name) >= limit then\n          redis.call("XACK"`,
        `elseif true then\n          redis.call("XACK"`
      )
    ],
    killedBy: guard("tend.consumers", "a trimmed entry is left to its live consumer's memory")
  },
  {
    name: "tend-removes-with-what-is-held",
    edits: [edit("tend", `removed < 100 and one.pending == 0 and`, `removed < 100 and`)],
    killedBy: guard("tend.consumers", "one that is silent and holds something on the retry stream alone stays")
  },
  {
    name: "tend-moves-what-is-not-due",
    edits: [edit("tend", `due, "-inf", digits(time), "LIMIT"`, `due, "-inf", "+inf", "LIMIT"`)],
    killedBy: guard("tend.due", "a retry goes to the retry stream when it is due, not before, and rings")
  },
  {
    name: "tend-removed-before-it-is-stored",
    edits: [
      edit("tend", `local function move(member)\n`, `local function move(member)\n  redis.call("ZREM", due, member)\n`)
    ],
    killedBy: guard("tend.due", "an error of the server stops the moving, loses nothing, and not the rest")
  },
  {
    name: "begin-writes-nothing",
    edits: [edit("lib/begin", `  redis.call("HDEL", hash, "")\n`, ``)],
    killedBy: guard("tend.due", "works while memory is full: what is moved was stored before")
  },
  {
    name: "take-suspect-in-company",
    edits: [
      edit(
        "take",
        `local suspect = suspected(stream, id, count, stream == retry, maxAttempts)`,
        `local suspect = false`
      )
    ],
    killedBy: guard("take", "suspects are taken one at a time, and the others flow past them")
  },
  {
    name: "extend-takes-what-is-another-s",
    edits: [edit("extend", `if how ~= 1 then`, `if how == 0 then`)],
    killedBy: guard("extend", "never takes what is another's, was released or was delivered again")
  },
  {
    name: "mark-moved-in-one-write",
    edits: [
      edit("mark", `redis.call("HDEL", state, field)\n`, `if ARGV[3] == "" then redis.call("HDEL", state, field) end\n`)
    ],
    killedBy: guard("extend", "works while memory is full")
  },
  {
    name: "join-retries-from-now-on",
    edits: [
      edit(
        "join",
        `redis.call("XGROUP", "CREATE", retry, retryGroup, "0-0", "MKSTREAM")`,
        `redis.call("XGROUP", "CREATE", retry, retryGroup, "$", "MKSTREAM")`
      )
    ],
    killedBy: guard("join", "the retry group begins at the beginning")
  },
  {
    name: "join-position-forgotten",
    edits: [edit("join", `begins, remembered = position, 1`, `begins = start == "$" and last or start`)],
    killedBy: guard("join", "a lost group begins at the remembered position")
  },
  {
    name: "join-nonces-survive-the-group",
    edits: [edit("join", `if not mainThere or not retryThere then\n  -- as many`, `if false then\n  -- as many`)],
    killedBy: guard("join", "a created group makes every nonce invalid")
  },
  {
    name: "rollback-of-what-others-use",
    edits: [edit("rollback", `groupMade and now and others == 0 and`, `groupMade and now and`)],
    killedBy: guard("join", "keeps a group that another consumer has joined")
  },
  {
    name: "leave-before-all-is-given-back",
    edits: [edit("leave", `if more == 0 then\n`, `if more >= 0 then\n`)],
    killedBy: guard("leave", "releases a bounded number a call, and is removed by the last")
  },
  {
    name: "redrive-keeps-attempts",
    edits: [
      edit(
        "redrive",
        `'","attempt":0,"redriven":"'`,
        `'","attempt":' .. (clutch and clutch.attempts or 0) .. ',"redriven":"'`
      )
    ],
    killedBy: guard("redrive", "a dead letter becomes a retry of no attempts")
  },
  {
    name: "redrive-leaves-the-letter",
    edits: [edit("redrive", `    redis.call("XDEL", deadLetters, id)\n`, ``)],
    killedBy: guard("redrive", "ids that are not found are passed over, and twice is as good as once")
  },
  {
    name: "publish-rings-for-nobody",
    edits: [edit("publish", `ring(bell, "new", told)\nreturn`, `return`)],
    killedBy: guard("publish", "rings for what is new")
  },
  {
    name: "trim-past-pending",
    edits: [edit("trim", `if first then hold(first[1]) end`, ``)],
    killedBy: guard("trim", "a group of another program holds back what it has not settled, read or not")
  },
  {
    name: "trim-by-the-quickest-group",
    edits: [edit("trim", `not settled or after(settled, delivered)`, `not settled or after(delivered, settled)`)],
    killedBy: guard("trim", "a group of another program holds back what it has not settled, read or not")
  },
  {
    name: "trim-disappeared-group-forgotten",
    edits: [edit("trim", `if keep and string.find(position, "^%d+%-%d+$") then hold(following(position)) end`, ``)],
    killedBy: guard("trim", "a group of ours that has disappeared holds back what follows its remembered position")
  },
  {
    name: "ids-compared-as-text",
    edits: [edit("lib/ids", `return #ams > #bms or (#ams == #bms and ams > bms)`, `return ams > bms`)],
    killedBy: guard("tend.consumers", "marks are compared as ids, not as text")
  },
  {
    name: "remove-while-a-member-lives",
    edits: [edit("remove", `if count > 0 then return { count, 0, 0 } end`, ``)],
    killedBy: guard("remove", "is refused while a member lives, and then nothing has changed")
  },
  {
    name: "claim-beside-a-living-owner",
    edits: [edit("claim", `and lease(told, other, time) > 0 then`, `and lease(told, other, time) > 3600000 then`)],
    killedBy: guard("claim", "a log has one owner: another is refused while its lease lasts")
  },
  {
    name: "claim-fence-by-the-clock-alone",
    edits: [edit("claim", `math.max(tonumber(fence) + 1, time)`, `time`)],
    killedBy: guard("claim", "the fence grows also where the last one was lost, or the server's clock went back")
  },
  {
    name: "claim-leaves-other-nonces",
    edits: [edit("claim", `if string.sub(field, 1, 2) == "n:" then redis.call("HDEL", state, field) end`, ``)],
    killedBy: guard("claim", "every other nonce goes, in the step that claims")
  },
  {
    name: "claim-leaves-what-others-hold",
    edits: [
      edit(
        "claim",
        `local done = takeAll(main, mainGroup, "m:") and takeAll(retry, retryGroup, "r:")`,
        `local done = true`
      )
    ],
    killedBy: guard("claim", "what anybody holds is taken, whatever its age")
  },
  {
    name: "cede-nonce-goes-last",
    edits: [edit("cede", `redis.call("HDEL", state, "n:" .. consumer)\nlocal`, `local`)],
    killedBy: guard("claim", "from its first step on nothing is fetched under the claim")
  },
  {
    name: "owned-claim-not-checked",
    edits: [edit("lib/owned", `known[1] == consumer .. " " .. nonce and known[2] == nonce`, `known[1] ~= nil`)],
    killedBy: guard("order", "without the claim nothing is done, the acks neither")
  },
  {
    name: "owned-nonce-not-checked",
    edits: [edit("lib/owned", ` and known[2] == nonce`, ``)],
    killedBy: guard("draw", "a reclaim from the owner ends its claim")
  },
  {
    name: "draw-passes-a-suspect",
    edits: [
      edit(
        "draw",
        `      if suspect then suspects = 1 end\n      cut = true\n`,
        `      if suspect then suspects = 1 end\n`
      )
    ],
    killedBy: guard("draw", "where a suspect waits, in either log, nothing is taken from behind it")
  },
  {
    name: "draw-new-before-retries",
    edits: [edit("draw", `if not more then\n  for`, `if true then\n  for`)],
    killedBy: guard("draw", "as many unread ones as asked for of each, and new ones only where no retry was left")
  },
  {
    name: "order-key-not-held-back",
    edits: [
      edit(
        "order",
        `  if at < earliest then rung, earliest = rung or "due", at end\n  if key then redis.call("ZADD", blocked, digits(tonumber(string.sub(original, 1, 16), 16)), key) end\n`,
        `  if at < earliest then rung, earliest = rung or "due", at end\n`
      )
    ],
    killedBy: guard("order", "holds its key back from then on, scored by its own time")
  },
  {
    name: "order-parked-by-time-of-parking",
    edits: [
      edit(
        "order",
        `hex(key) .. ":" .. original .. ":" .. entry`,
        `hex(key) .. ":" .. string.format("%033.0f", time * 1000 + i) .. ":" .. entry`
      )
    ],
    killedBy: guard(
      "order",
      "waits behind its key's, in the order of ids, whatever the order of parking and the size of ids"
    )
  },
  {
    name: "order-acks-first",
    edits: [
      edit(
        "order",
        `local problem = ""\n`,
        `local problem = ""\nif acks > 0 then redis.call("XACK", main, mainGroup, unpack(ARGV, 6, 5 + acks)) end\n`
      )
    ],
    killedBy: guard("order", "the first that cannot be stored stops the others, and acks of main go on")
  },
  {
    name: "order-goes-on-behind-an-error",
    edits: [edit("order", `        problem = err\n`, `        problem = problem\n`)],
    killedBy: guard("order", "the first that cannot be stored stops the others")
  },
  {
    name: "advance-parked-lost-on-unpark",
    edits: [edit("lib/advance", `local added = append(retry, unpack(fields))`, `local added = "0-0"`)],
    killedBy: guard("order", "comes when the one before it is acked, in the same step, one after the other")
  },
  {
    name: "advance-key-freed-too-early",
    edits: [
      edit(
        "lib/advance",
        `      redis.call("ZADD", blocked, digits(ms), key)\n      return false`,
        `      redis.call("ZREM", blocked, key)\n      return true`
      )
    ],
    killedBy: guard("order", "comes when the one before it is acked, in the same step, one after the other")
  },
  {
    name: "advance-lost-where-the-stream-is-full",
    edits: [
      edit(
        "lib/advance",
        `      if type(added) == "table" then redis.call("ZADD", due, digits(now()), encoded) end\n`,
        ``
      )
    ],
    killedBy: guard("order", "where the retry stream takes no more ids, what comes is due")
  },
  {
    name: "partitions-last-word-wins",
    edits: [edit("partitions", `if not known and count ~= "1" then`, `if count ~= "1" then`)],
    killedBy: guard("partitions", "the first that asks for a new topic decides, and everybody after learns it")
  }
]
