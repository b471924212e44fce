import * as Scripts from "@clutch/redis/Scripts"
import * as DateTime from "effect/DateTime"
import { assert, describe, test } from "vitest"
import {
  add,
  consumers,
  everything,
  fillMemory,
  groups,
  join,
  keys,
  member,
  now,
  read,
  redis,
  refused,
  run,
  state,
  useServer
} from "./harness.ts"

const destroy = () => redis.xgroup("DESTROY", keys.main, keys.mainGroup)

describe("join", () => {
  useServer()

  test("creates both groups, the consumer in both, and records what it is judged by", async () => {
    const time = await now()
    const joined = await join("a", { visibilityTimeout: 5000 })
    assert.deepStrictEqual(joined, {
      created: { main: true, retry: true },
      start: "0-0",
      repeats: { count: 0, more: false },
      taken: false
    })
    assert.deepStrictEqual(
      (await consumers(keys.main, keys.mainGroup)).map((_) => _["name"]),
      ["a"]
    )
    assert.deepStrictEqual(
      (await consumers(keys.retry, keys.retryGroup)).map((_) => _["name"]),
      ["a"]
    )
    const fields = await state()
    assert.strictEqual(fields["v:a"], "5000")
    assert.strictEqual(fields["n:a"], "nonce-of-a")
    assert.approximately(Number(fields["h:a"]), time, 1000)
  })

  test("a group that exists goes on where it was, whatever is asked", async () => {
    await add(3)
    await join("a")
    await read("a", 2)
    const joined = await join("b", { from: "new" })
    assert.deepStrictEqual(joined.created, { main: false, retry: false })
    assert.isUndefined(joined.start)
    assert.deepStrictEqual(await read("b"), ["3-0"])
  })

  test.each([
    ["new", "new" as const, []],
    ["beginning", "beginning" as const, ["1-0", "2-0", "3-0"]],
    ["an id, exclusive", { id: "2-0" }, ["3-0"]],
    ["a time, inclusive", { time: DateTime.makeUnsafe(2) }, ["2-0", "3-0"]],
    ["the epoch", { time: DateTime.makeUnsafe(0) }, ["1-0", "2-0", "3-0"]]
  ] as const)("starts at %s", async (_, from, ids) => {
    await add(3)
    await join("a", { from })
    assert.deepStrictEqual(await read("a"), [...ids])
  })

  test("the retry group begins at the beginning: no retry that was written before it is missed", async () => {
    await redis.xadd(keys.retry, "7-0", "data", "{}")
    await join("a", { from: "new" })
    assert.deepStrictEqual(await read("a", 10, "retry"), ["7-0"])
  })

  test("a malformed start changes nothing", async () => {
    const before = await everything()
    assert.match(
      await refused(Scripts.join, { ...member("a"), visibilityTimeout: 1, from: { id: "x" }, mode: "first" }),
      /Invalid stream ID/
    )
    assert.deepStrictEqual(await everything(), before)
  })

  test("a lost group begins at the remembered position, and says how many entries may repeat", async () => {
    await add(5)
    await join("a")
    await redis.hset(keys.state, "position", "3-0")
    await destroy()
    const joined = await join("a", { mode: "again", from: "new", nonce: "n2" })
    assert.strictEqual(joined.start, "3-0")
    assert.deepStrictEqual(joined.repeats, { count: 2, more: false })
    assert.deepStrictEqual(await read("a"), ["4-0", "5-0"])
  })

  test("counting what may repeat is bounded", async () => {
    await add(2500)
    await join("a")
    await redis.hset(keys.state, "position", "3-0")
    await destroy()
    const { repeats } = await join("a", { mode: "again" })
    assert.isTrue(repeats.more)
    assert.isAtMost(repeats.count, 1016)
  })

  test("a first join goes by the remembered position, too", async () => {
    await add(5)
    await redis.hset(keys.state, "position", "3-0")
    assert.strictEqual((await join("a", { from: "beginning" })).start, "3-0")
  })

  test("a position above the stream's last id belongs to a stream that is no more", async () => {
    await redis.hset(keys.state, "position", "99-0")
    await add(2)
    assert.strictEqual((await join("a", { mode: "again", from: "new" })).start, "0-0")
    await destroy()
    await redis.hset(keys.state, "position", "99-0")
    assert.strictEqual((await join("b", { mode: "first", from: "new" })).start, "2-0")
  })

  test("positions are compared as 64-bit numbers", async () => {
    await redis.xadd(keys.main, "5-18446744073709551614", "data", "1")
    await redis.hset(keys.state, "position", "5-18446744073709551615")
    assert.strictEqual((await join("a", { from: "beginning" })).start, "0-0")
  })

  test("a garbage position is passed over", async () => {
    await add(1)
    await redis.hset(keys.state, "position", "somewhere")
    assert.strictEqual((await join("a", { from: "new" })).start, "1-0")
  })

  test("without a position a lost group begins at the beginning if the stream has entries, else where it was asked", async () => {
    await add(2)
    const joined = await join("a", { mode: "again", from: "new" })
    assert.strictEqual(joined.start, "0-0")
    assert.deepStrictEqual(joined.repeats, { count: 2, more: false })
    await redis.flushall()
    assert.strictEqual((await join("a", { mode: "again", from: "new" })).start, "0-0")
    assert.strictEqual(await redis.xlen(keys.main), 0)
    await redis.flushall()
    await redis.xadd(keys.main, "9-0", "data", "1")
    await redis.xdel(keys.main, "9-0")
    assert.strictEqual((await join("a", { mode: "again", from: "new" })).start, "9-0")
  })

  test("a created group makes every nonce invalid", async () => {
    await join("a")
    await join("b")
    await destroy()
    await join("b", { mode: "again", nonce: "n2" })
    assert.deepStrictEqual(await state("n:"), { "n:b": "n2" })
    await redis.del(keys.retry)
    await join("a", { mode: "again", nonce: "n3" })
    assert.deepStrictEqual(await state("n:"), { "n:a": "n3" })
    // nothing was lost: nothing is invalid
    await join("b", { mode: "again", nonce: "n4" })
    assert.deepStrictEqual(await state("n:"), { "n:a": "n3", "n:b": "n4" })
  })

  test("a first join clears the marks of a former incarnation; a later one keeps them while the group stands", async () => {
    await join("a")
    for (const origin of ["main", "retry"] as const) {
      await run(Scripts.mark, { keys, consumer: "a", origin, started: "1-0" })
    }
    await join("a", { mode: "again" })
    assert.deepStrictEqual({ ...(await state("m:")), ...(await state("r:")) }, { "m:a": "1-0", "r:a": "1-0" })
    await destroy()
    await join("a", { mode: "again" })
    assert.deepStrictEqual({ ...(await state("m:")), ...(await state("r:")) }, { "r:a": "1-0" })
    await join("a", { mode: "first" })
    assert.deepStrictEqual(await state("r:"), {})
  })

  test("of an ordered group, a name is the worker's that has it, while that one lives", async () => {
    const named = (holder: string, options: Partial<Scripts.Join> = {}) =>
      join("a", { ordered: true, nonce: holder, holder, visibilityTimeout: 5000, ...options })
    assert.isFalse((await named("one")).taken)
    const before = await everything()
    assert.isTrue((await named("two")).taken)
    assert.isTrue((await named("two", { mode: "again", nonce: "later" })).taken)
    assert.deepStrictEqual(await everything(), before)
    // itself is not in its own way
    assert.isFalse((await named("one")).taken)
    assert.isFalse((await named("one", { mode: "again", nonce: "later" })).taken)
    await redis.hset(keys.state, "h:a", (await now()) - 5001)
    assert.isFalse((await named("two")).taken)
    assert.isTrue((await named("one", { mode: "again", nonce: "later" })).taken)
    await redis.hset(keys.state, "h:a", (await now()) - 5001)
    assert.isFalse((await named("one", { mode: "again", nonce: "later" })).taken)
    assert.isTrue((await named("two")).taken)
    // what was taken over was not made by this one: nothing of it is undone
    await run(Scripts.rollback, { ...member("a"), nonce: "one", ordered: true })
    assert.lengthOf(await groups(keys.main), 1)
  })

  test("whoever joins again where nothing is left has its name to itself", async () => {
    await join("a", { ordered: true, nonce: "one", holder: "one" })
    await redis.flushall()
    await join("a", { ordered: true, mode: "again", nonce: "later", holder: "one" })
    assert.isTrue((await join("a", { ordered: true, nonce: "two", holder: "two" })).taken)
  })

  test("of a group without an order, a name is the last one's", async () => {
    await join("a", { nonce: "one", holder: "one" })
    assert.isFalse((await join("a", { nonce: "two", holder: "two" })).taken)
    assert.strictEqual((await state())["n:a"], "two")
  })

  test("works while memory is full", async () => {
    await add(1)
    await join("a")
    await fillMemory()
    await join("b")
    assert.strictEqual((await consumers(keys.main, keys.mainGroup)).length, 2)
  })

  test.each(["main", "retry", "state"] as const)("changes nothing where %s is of another type", async (name) => {
    await redis.set(keys[name], "x")
    const before = await everything()
    const input = { ...member("a"), visibilityTimeout: 1, from: "new", mode: "first" } as const
    assert.match(await refused(Scripts.join, input), /^WRONGTYPE/)
    assert.deepStrictEqual(await everything(), before)
  })
})

const undo = (consumer: string, nonce?: string) => run(Scripts.rollback, member(consumer, nonce))

describe("rollback", () => {
  useServer()

  test("leaves nothing of a join that created everything", async () => {
    await join("a")
    assert.deepStrictEqual(await undo("a"), { found: true, consumers: 2, groups: 2, keys: 2 })
    assert.deepStrictEqual(await everything(), [])
  })

  test("twice is as good as once", async () => {
    await join("a")
    await undo("a")
    assert.deepStrictEqual(await undo("a"), { found: false, consumers: 0, groups: 0, keys: 0 })
    assert.deepStrictEqual(await everything(), [])
  })

  test("a join that was sent twice is undone wholly", async () => {
    await add(1)
    const before = await everything()
    await join("a")
    const again = await join("a")
    assert.deepStrictEqual(again.created, { main: true, retry: true })
    assert.strictEqual(again.start, "0-0")
    await undo("a")
    assert.deepStrictEqual(await everything(), before)
  })

  // every combination of what may have been there before
  const there = [
    ["nothing", []],
    ["the topic's stream", ["main"]],
    ["both streams", ["main", "retry"]],
    ["the main group", ["main", "mainGroup"]],
    ["the retry group alone", ["retry", "retryGroup"]],
    ["both groups", ["main", "mainGroup", "retry", "retryGroup"]],
    ["both groups and another consumer", ["main", "mainGroup", "retry", "retryGroup", "other"]],
    ["a consumer of this name", ["main", "mainGroup", "retry", "retryGroup", "same"]],
    ["a remembered position", ["main", "position"]],
    ["a group of another subscription", ["main", "foreign"]],
    ["an empty stream of somebody's", ["empty"]],
    ["a stream of somebody's that never had an entry", ["never"]]
  ] as const
  for (const from of ["new", "beginning"] as const) {
    test.each(there)(`restores the keyspace where there was %s (from ${from})`, async (_, what) => {
      const had = (name: string) => (what as ReadonlyArray<string>).includes(name)
      if (had("main")) await add(3)
      if (had("retry")) await redis.xadd(keys.retry, "1-0", "data", "{}")
      if (had("mainGroup")) await redis.xgroup("CREATE", keys.main, keys.mainGroup, "0")
      if (had("retryGroup")) await redis.xgroup("CREATE", keys.retry, keys.retryGroup, "0")
      if (had("other")) await join("other")
      if (had("same")) {
        await redis.xgroup("CREATECONSUMER", keys.main, keys.mainGroup, "a")
        await redis.xgroup("CREATECONSUMER", keys.retry, keys.retryGroup, "a")
        await redis.hset(keys.state, "v:a", "30000", "h:a", "1")
      }
      if (had("position")) await redis.hset(keys.state, "position", "2-0")
      if (had("foreign")) await redis.xgroup("CREATE", keys.main, "shipping", "0")
      if (had("empty")) {
        await redis.xadd(keys.main, "9-0", "data", "{}")
        await redis.xdel(keys.main, "9-0")
      }
      if (had("never")) {
        await redis.xgroup("CREATE", keys.main, "shipping", "0", "MKSTREAM")
        await redis.xgroup("DESTROY", keys.main, "shipping")
      }
      const before = await everything()
      await join("a", { from })
      assert.notDeepEqual(await everything(), before)
      await undo("a")
      const after = await everything()
      if (had("same")) {
        // a sign of life of the older incarnation cannot be brought back; that it is judged by its own timeout can
        assert.deepStrictEqual(await state("v:"), { "v:a": "30000" })
        const less = (lines: ReadonlyArray<string>) =>
          lines.filter((line) => !line.includes("h:a") && !line.includes(".state"))
        assert.deepStrictEqual(less(after), less(before))
      } else {
        assert.deepStrictEqual(after, before)
      }
    })
  }

  test("keeps a group that another consumer has joined, without a trace of this one", async () => {
    await join("a")
    await join("b")
    assert.deepStrictEqual(await undo("a"), { found: true, consumers: 2, groups: 0, keys: 0 })
    assert.deepStrictEqual(
      (await consumers(keys.main, keys.mainGroup)).map((_) => _["name"]),
      ["b"]
    )
    assert.deepStrictEqual(
      Object.keys(await state()).filter((field) => field.endsWith(":a")),
      []
    )
    assert.strictEqual((await state("v:"))["v:b"], "30000")
  })

  test("keeps a group whose position has moved, and its stream", async () => {
    await join("a")
    await add(1)
    await read("b")
    await redis.xack(keys.main, keys.mainGroup, "1-0")
    await redis.xgroup("DELCONSUMER", keys.main, keys.mainGroup, "b")
    assert.strictEqual((await undo("a")).groups, 1)
    assert.strictEqual((await groups(keys.main)).length, 1)
  })

  test("keeps a group of which something is pending, also for this consumer", async () => {
    await add(2)
    await join("a")
    await read("a")
    const result = await undo("a")
    assert.deepStrictEqual(result, { found: true, consumers: 1, groups: 1, keys: 1 })
    assert.deepStrictEqual(
      (await consumers(keys.main, keys.mainGroup)).map((_) => _["pending"]),
      [2]
    )
    assert.deepStrictEqual(await state("v:"), { "v:a": "30000" })
  })

  test("keeps a stream that this join created, once something was published", async () => {
    await join("a")
    await add(1)
    assert.strictEqual((await undo("a")).keys, 1)
    assert.strictEqual(await redis.xlen(keys.main), 1)
  })

  test("keeps an empty stream that had an entry: its ids must not begin again", async () => {
    await join("a")
    await add(1)
    await redis.xdel(keys.main, "1-0")
    await undo("a")
    assert.strictEqual(await redis.exists(keys.main), 1)
  })

  test("keeps a stream on which another subscription has its group", async () => {
    await join("a")
    await redis.xgroup("CREATE", keys.main, "shipping", "0")
    assert.strictEqual((await undo("a")).groups, 2)
    assert.deepStrictEqual(
      (await groups(keys.main)).map((_) => _["name"]),
      ["shipping"]
    )
  })

  test("does nothing once the name belongs to another incarnation", async () => {
    await join("a", { nonce: "old" })
    await join("a", { nonce: "new" })
    const before = await everything()
    assert.strictEqual((await undo("a", "old")).found, false)
    assert.deepStrictEqual(await everything(), before)
  })

  test("undoes its own join after its nonce was taken by a re-created group", async () => {
    await join("a")
    await redis.del(keys.main)
    await join("b", { mode: "again" })
    await undo("a")
    assert.deepStrictEqual(
      (await consumers(keys.retry, keys.retryGroup)).map((_) => _["name"]),
      ["b"]
    )
  })

  test("works while memory is full", async () => {
    await join("a")
    await fillMemory()
    await undo("a")
    assert.deepStrictEqual(await redis.keys("clutch*"), [])
  })

  test.each(["main", "retry", "state"] as const)("changes nothing where %s is of another type", async (name) => {
    await join("a")
    await redis.del(keys[name])
    await redis.set(keys[name], "x")
    const before = await everything()
    assert.match(await refused(Scripts.rollback, member("a")), /^WRONGTYPE/)
    assert.deepStrictEqual(await everything(), before)
  })
})
