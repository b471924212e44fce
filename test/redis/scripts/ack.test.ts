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
  pending,
  read,
  redis,
  refused,
  run,
  useServer
} from "./harness.ts"

const ack = (consumer: string, ids: ReadonlyArray<string>, options: Partial<Scripts.Ack> = {}) =>
  run(Scripts.ack, { ...member(consumer), origin: "main", held: held(ids), repeated: false, ...options })

describe("ack", () => {
  useServer()

  test("settles a batch the short way while the nonce stands", async () => {
    await add(3)
    await join("a")
    await read("a")
    assert.deepStrictEqual(await ack("a", ["1-0", "3-0"]), { fenced: true, settled: ["done", "done"] })
    assert.deepStrictEqual(await pending(keys.main, keys.mainGroup), [["2-0", "a", 1]])
    assert.strictEqual(await redis.xlen(keys.main), 3)
  })

  test.each([false, true])("deletes what it settles from the retry stream (long way: %s)", async (long) => {
    await addRetry(1, "1-0", "2-0")
    await join("a")
    await read("a", 10, "retry")
    const result = await ack("a", ["1-0"], { origin: "retry", ...(long ? { nonce: "" } : {}) })
    assert.deepStrictEqual(result, { fenced: !long, settled: ["done"] })
    assert.strictEqual(await redis.xlen(keys.retry), 1)
    assert.deepStrictEqual(await pending(keys.retry, keys.retryGroup), [["2-0", "a", 1]])
  })

  test("the long way settles what is the caller's, and tells the rest apart", async () => {
    await add(6)
    await join("a")
    await join("b")
    await read("a", 4)
    await read("b", 1)
    await redis.xack(keys.main, keys.mainGroup, "2-0")
    await redis.xclaim(keys.main, keys.mainGroup, "a", 0, "4-0", "RETRYCOUNT", 2, "JUSTID")
    const result = await ack("a", ["1-0", "2-0", "3-0", "4-0", "5-0", "6-0"], { nonce: "another" })
    assert.deepStrictEqual(result, { fenced: false, settled: ["done", "gone", "done", "other", "other", "gone"] })
    assert.deepStrictEqual(await pending(keys.main, keys.mainGroup), [
      ["4-0", "a", 2],
      ["5-0", "b", 1]
    ])
  })

  test("the order of ids does not matter to the answers", async () => {
    await add(4)
    await join("a")
    await read("a", 3)
    const { settled } = await ack("a", ["3-0", "4-0", "1-0"], { nonce: "" })
    assert.deepStrictEqual(settled, ["done", "gone", "done"])
    await redis.xclaim(keys.main, keys.mainGroup, "a", 0, "2-0", "RETRYCOUNT", 2, "JUSTID")
    assert.deepStrictEqual((await ack("a", ["4-0", "2-0"], { nonce: "" })).settled, ["gone", "other"])
  })

  test("what was reclaimed and delivered to another is refused", async () => {
    await add(1)
    await join("a", { visibilityTimeout: 1000 })
    await join("b")
    await read("a")
    await idle("main", "a", 2000, "1-0")
    await run(Scripts.tend, { keys, scan: true, cursor: undefined })
    await run(Scripts.take, { keys, consumer: "b", count: 1, bytes: 1, alone: false, maxAttempts: Infinity })
    assert.deepStrictEqual(await ack("a", ["1-0"]), { fenced: false, settled: ["other"] })
    assert.deepStrictEqual(await pending(keys.main, keys.mainGroup), [["1-0", "b", 2]])
  })

  test("what was reclaimed and delivered to the same consumer again is refused by its count", async () => {
    await add(1)
    await join("a", { visibilityTimeout: 1000 })
    await read("a")
    await idle("main", "a", 2000, "1-0")
    await run(Scripts.tend, { keys, scan: true, cursor: undefined })
    await run(Scripts.take, { keys, consumer: "a", count: 1, bytes: 1, alone: false, maxAttempts: Infinity })
    assert.deepStrictEqual((await ack("a", ["1-0"])).settled, ["other"])
    assert.deepStrictEqual((await ack("a", ["1-0"], { held: held(["1-0"], 2) })).settled, ["done"])
  })

  test("after a re-created group nothing of before is settled, also after joining again", async () => {
    await add(2)
    await join("a")
    await join("b")
    await read("a")
    await redis.xgroup("DESTROY", keys.main, keys.mainGroup)
    await join("b", { mode: "again", nonce: "n2" })
    await read("b")
    await join("a", { mode: "again", nonce: "n3" })
    assert.deepStrictEqual(await ack("a", ["1-0", "2-0"]), { fenced: false, settled: ["other", "other"] })
    assert.strictEqual((await pending(keys.main, keys.mainGroup)).length, 2)
  })

  test("asked again without a reply, finds what is settled gone and settles the rest", async () => {
    await add(2)
    await join("a")
    await read("a")
    await ack("a", ["1-0"])
    assert.deepStrictEqual(await ack("a", ["1-0", "2-0"], { repeated: true }), {
      fenced: true,
      settled: ["gone", "done"]
    })
    assert.deepStrictEqual(await pending(keys.main, keys.mainGroup), [])
  })

  test("without a group, a stream or a state nothing is pending, and nothing is created", async () => {
    assert.deepStrictEqual(await ack("a", ["1-0"]), { fenced: false, settled: ["gone"] })
    await add(1)
    assert.deepStrictEqual(await ack("a", ["1-0"]), { fenced: false, settled: ["gone"] })
    assert.deepStrictEqual(await redis.keys("*"), [keys.main])
  })

  test("what was trimmed is settled like anything else", async () => {
    await add(2)
    await join("a")
    await read("a")
    await redis.xtrim(keys.main, "MAXLEN", 0)
    assert.deepStrictEqual((await ack("a", ["1-0"])).settled, ["done"])
    assert.deepStrictEqual((await ack("a", ["2-0"], { nonce: "" })).settled, ["done"])
    assert.deepStrictEqual(await pending(keys.main, keys.mainGroup), [])
  })

  test("works while memory is full", async () => {
    await add(2)
    await addRetry(1, "1-0")
    await join("a")
    await read("a")
    await read("a", 1, "retry")
    await fillMemory()
    assert.deepStrictEqual((await ack("a", ["1-0"])).settled, ["done"])
    assert.deepStrictEqual((await ack("a", ["2-0"], { nonce: "" })).settled, ["done"])
    assert.deepStrictEqual((await ack("a", ["1-0"], { origin: "retry" })).settled, ["done"])
    assert.strictEqual(await redis.xlen(keys.retry), 0)
  })

  test.each(["main", "state"] as const)("changes nothing where %s is of another type", async (name) => {
    await add(1)
    await join("a")
    await read("a")
    await redis.del(keys[name])
    await redis.set(keys[name], "x")
    const before = await everything()
    const input = { ...member("a"), origin: "main", held: held(["1-0"]), repeated: false } as const
    assert.match(await refused(Scripts.ack, input), /WRONGTYPE/)
    assert.match(await refused(Scripts.ack, { ...input, nonce: "" }), /WRONGTYPE/)
    assert.deepStrictEqual(await everything(), before)
  })

  test.each(["nonce-of-a", ""])("1,000 deliveries are one call (nonce %j)", async (nonce) => {
    await add(Scripts.maxIds)
    await join("a")
    const ids = await read("a", Scripts.maxIds)
    const { settled } = await ack("a", ids, { nonce })
    assert.isTrue(settled.length === Scripts.maxIds && settled.every((_) => _ === "done"))
    assert.deepStrictEqual(await pending(keys.main, keys.mainGroup), [])
  })
})
