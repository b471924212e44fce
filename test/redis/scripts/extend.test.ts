import * as Scripts from "@clutch/redis/Scripts"
import { assert, describe, test } from "vitest"
import {
  add,
  addRetry,
  everything,
  fillMemory,
  held,
  idle,
  join,
  keys,
  member,
  now,
  pending,
  read,
  redis,
  refused,
  run,
  state,
  useServer
} from "./harness.ts"

const extend = (
  consumer: string,
  main: ReadonlyArray<string>,
  retry: ReadonlyArray<string> = [],
  nonce = `nonce-of-${consumer}`
) =>
  run(Scripts.extend, {
    ...member(consumer, nonce),
    main: main.length === 0 ? [] : held(main),
    retry: retry.length === 0 ? [] : held(retry)
  })

/** Whether each entry was touched within the last second. */
const fresh = async (origin: "main" | "retry"): Promise<ReadonlyArray<boolean>> => {
  const group = origin === "main" ? keys.mainGroup : keys.retryGroup
  const rows = (await redis.xpending(keys[origin], group, "-", "+", 100)) as ReadonlyArray<
    [string, string, number, number]
  >
  return rows.map(([, , idle]) => idle < 1000)
}

describe("extend", () => {
  useServer()

  test("extends the leases of both streams, and counts no delivery", async () => {
    await add(3)
    await addRetry(1, "1-0")
    await join("a")
    await read("a")
    await read("a", 9, "retry")
    await idle("main", "a", 20_000, "1-0", "2-0", "3-0")
    await idle("retry", "a", 20_000, "1-0")
    assert.deepStrictEqual(await extend("a", ["1-0", "3-0"], ["1-0"]), {
      fenced: true,
      lost: { main: [], retry: [] }
    })
    assert.deepStrictEqual(await fresh("main"), [true, false, true])
    assert.deepStrictEqual(await fresh("retry"), [true])
    assert.deepStrictEqual(
      (await pending(keys.main, keys.mainGroup)).map(([, , count]) => count),
      [1, 1, 1]
    )
  })

  test("never takes what is another's, was released or was delivered again, and tells which", async () => {
    await add(5)
    await join("a")
    await join("b")
    await read("a", 3)
    await read("b", 1)
    await run(Scripts.release, { keys, consumer: "a", origin: "main", held: held(["2-0"]) })
    await redis.xclaim(keys.main, keys.mainGroup, "a", 0, "3-0", "RETRYCOUNT", 2, "JUSTID")
    const before = await pending(keys.main, keys.mainGroup)
    const result = await extend("a", ["1-0", "2-0", "3-0", "4-0", "5-0"], ["9-0"])
    assert.deepStrictEqual(result.lost, { main: ["2-0", "3-0", "4-0", "5-0"], retry: ["9-0"] })
    assert.deepStrictEqual(await pending(keys.main, keys.mainGroup), before)
  })

  test("an entry that was trimmed stays pending, and is not lost", async () => {
    await add(3)
    await join("a")
    await read("a")
    await idle("main", "a", 20_000, "1-0", "2-0", "3-0")
    await redis.xdel(keys.main, "3-0")
    await redis.xtrim(keys.main, "MINID", "2-0")
    assert.deepStrictEqual((await extend("a", ["1-0", "2-0", "3-0"])).lost.main, [])
    assert.strictEqual((await pending(keys.main, keys.mainGroup)).length, 3)
    assert.deepStrictEqual(await fresh("main"), [false, true, false])
  })

  test("shows a sign of life, also with nothing to extend", async () => {
    await join("a")
    await redis.hset(keys.state, "h:a", 1)
    await extend("a", [])
    assert.approximately(Number((await state("h:"))["h:a"]), await now(), 1000)
  })

  test("says whether the nonce stands", async () => {
    await join("a")
    assert.isTrue((await extend("a", [])).fenced)
    assert.isFalse((await extend("a", [], [], "another")).fenced)
    await redis.hdel(keys.state, "n:a")
    assert.isFalse((await extend("a", [])).fenced)
  })

  test("of a consumer that was removed no trace comes back", async () => {
    assert.isFalse((await extend("a", [])).fenced)
    assert.deepStrictEqual(await everything(), [])
  })

  test("the position is before the lowest pending entry, else the last that was delivered", async () => {
    await add(5)
    await redis.xadd(keys.main, "5-1", "data", "1")
    await join("a")
    await read("a", 3)
    await run(Scripts.ack, { ...member("a"), origin: "main", held: held(["1-0"]), repeated: false })
    await extend("a", ["2-0"])
    assert.deepStrictEqual(await state("position"), { position: "1-18446744073709551615" })
    await run(Scripts.ack, { ...member("a"), origin: "main", held: held(["2-0", "3-0"]), repeated: false })
    await extend("a", ["2-0"])
    assert.deepStrictEqual(await state("position"), { position: "3-0" })
  })

  test("a group re-created at the position misses nothing that was unsettled, and repeats nothing before it", async () => {
    for (const id of ["7-0", "7-10", "10-0", "10-18446744073709551615", "100-0"])
      await redis.xadd(keys.main, id, "data", "1")
    await join("a")
    const ids = await read("a")
    for (const [i, id] of ids.entries()) {
      await extend("a", ids)
      await redis.xgroup("DESTROY", keys.main, keys.mainGroup)
      await join("a", { mode: "again" })
      assert.deepStrictEqual(await read("a"), ids.slice(i))
      await run(Scripts.ack, { ...member("a"), origin: "main", held: held([id]), repeated: false })
    }
  })

  test("a position has no leading zeros: it is compared as text", async () => {
    for (const id of ["10-0", "10-10"]) await redis.xadd(keys.main, id, "data", "1")
    await join("a")
    await read("a")
    await extend("a", ["10-0"])
    assert.deepStrictEqual(await state("position"), { position: "9-18446744073709551615" })
    await redis.xack(keys.main, keys.mainGroup, "10-0")
    await extend("a", ["10-10"])
    assert.deepStrictEqual(await state("position"), { position: "10-9" })
  })

  test("works while memory is full", async () => {
    await add(2)
    await join("a")
    await read("a", 1)
    await idle("main", "a", 20_000, "1-0")
    await redis.hset(keys.state, "h:a", 1)
    await fillMemory()
    assert.deepStrictEqual((await extend("a", ["1-0", "2-0"])).lost.main, ["2-0"])
    assert.deepStrictEqual(await fresh("main"), [true])
    assert.isAbove(Number((await state("h:"))["h:a"]), 1)
  })

  test.each([
    ["nothing", []],
    ["nothing of its own", ["2-0"]]
  ] as const)("shows a sign of life while memory is full, with %s to extend", async (_, ids) => {
    await add(2)
    await join("a")
    await redis.hset(keys.state, "h:a", 1)
    await fillMemory()
    await extend("a", ids)
    assert.isAbove(Number((await state("h:"))["h:a"]), 1)
  })

  test("without a group or a stream everything is lost", async () => {
    await join("a")
    await redis.del(keys.main)
    await redis.xgroup("DESTROY", keys.retry, keys.retryGroup)
    assert.deepStrictEqual((await extend("a", ["1-0"], ["2-0"])).lost, { main: ["1-0"], retry: ["2-0"] })
    assert.strictEqual(await redis.exists(keys.main), 0)
  })

  test.each(["main", "retry", "state"] as const)("changes nothing where %s is of another type", async (name) => {
    await add(1)
    await join("a")
    await read("a")
    await redis.del(keys[name])
    await redis.set(keys[name], "x")
    const before = await everything()
    assert.match(await refused(Scripts.extend, { ...member("a"), main: held(["1-0"]), retry: [] }), /^WRONGTYPE/)
    assert.deepStrictEqual(await everything(), before)
  })

  test("1,000 deliveries are one call", async () => {
    await add(Scripts.maxIds)
    await join("a")
    const ids = await read("a", Scripts.maxIds)
    await redis.xdel(keys.main, "999-0")
    assert.deepStrictEqual((await extend("a", ids)).lost.main, [])
  })
})

describe("mark", () => {
  useServer()
  const mark = (origin: "main" | "retry", id: string | undefined) =>
    run(Scripts.mark, { keys, consumer: "a", origin, started: id })

  test("sets, moves and clears, for each stream by itself", async () => {
    await mark("main", "1-0")
    await mark("main", "2-0")
    await mark("retry", "3-0")
    assert.deepStrictEqual(await state(), { "m:a": "2-0", "r:a": "3-0" })
    await mark("main", undefined)
    assert.deepStrictEqual(await state(), { "r:a": "3-0" })
    await mark("retry", undefined)
    assert.deepStrictEqual(await everything(), [])
  })

  test("works while memory is full", async () => {
    await mark("main", "1-0")
    await fillMemory()
    await mark("main", "2-0")
    await mark("retry", "3-0")
    assert.deepStrictEqual(await state(), { "m:a": "2-0", "r:a": "3-0" })
  })

  test("changes nothing where the state is of another type", async () => {
    await redis.set(keys.state, "x")
    assert.match(await refused(Scripts.mark, { keys, consumer: "a", origin: "main", started: "1-0" }), /WRONGTYPE/)
    assert.strictEqual(await redis.get(keys.state), "x")
  })
})
