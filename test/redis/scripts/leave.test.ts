import * as Scripts from "@clutch/redis/Scripts"
import { assert, describe, test } from "vitest"
import {
  add,
  addRetry,
  consumers,
  everything,
  fillMemory,
  join,
  keys,
  member,
  pending,
  read,
  redis,
  refused,
  run,
  rung,
  state,
  useServer
} from "./harness.ts"

const leave = (consumer: string, nonce?: string) => run(Scripts.leave, member(consumer, nonce))

describe("leave", () => {
  useServer()

  test("gives back everything at no cost of an attempt, removes the consumer, and rings", async () => {
    await add(2)
    await addRetry(1, "1-0")
    await join("a")
    await read("a")
    await read("a", 10, "retry")
    assert.isTrue(
      await rung(async () => {
        assert.deepStrictEqual(await leave("a"), { released: 3, trimmed: 0, more: false, removed: true })
      })
    )
    assert.deepStrictEqual(await pending(keys.main, keys.mainGroup), [
      ["1-0", "-released", 0],
      ["2-0", "-released", 0]
    ])
    assert.deepStrictEqual(await pending(keys.retry, keys.retryGroup), [["1-0", "-released", 0]])
    assert.deepStrictEqual(
      (await consumers(keys.main, keys.mainGroup)).map((_) => _["name"]),
      ["-released"]
    )
    assert.deepStrictEqual(Object.keys(await state()), ["position"])
  })

  test("the position stays before what was given back", async () => {
    await add(2)
    await join("a")
    await read("a", 1)
    await leave("a")
    assert.deepStrictEqual(await state("position"), { position: "0-18446744073709551615" })
  })

  test("an attempt counted before is kept", async () => {
    await add(1)
    await join("a")
    await read("a")
    await redis.xclaim(keys.main, keys.mainGroup, "a", 0, "1-0", "RETRYCOUNT", 3, "JUSTID")
    await leave("a")
    assert.deepStrictEqual(await pending(keys.main, keys.mainGroup), [["1-0", "-released", 2]])
  })

  test("what was trimmed is settled and counted", async () => {
    await add(3)
    await join("a")
    await read("a")
    await redis.xtrim(keys.main, "MINID", "3-0")
    assert.deepStrictEqual(await leave("a"), { released: 1, trimmed: 2, more: false, removed: true })
    assert.deepStrictEqual(await pending(keys.main, keys.mainGroup), [["3-0", "-released", 0]])
  })

  test("releases a bounded number a call, and is removed by the last", async () => {
    await add(1500)
    await join("a")
    await read("a", 2000)
    assert.deepStrictEqual(await leave("a"), { released: 1000, trimmed: 0, more: true, removed: false })
    assert.strictEqual((await state("n:"))["n:a"], "nonce-of-a")
    assert.deepStrictEqual(await leave("a"), { released: 500, trimmed: 0, more: false, removed: true })
  })

  test("twice is as good as once, and does not ring", async () => {
    await add(1)
    await join("a")
    await read("a")
    await leave("a")
    const before = await everything()
    assert.isFalse(await rung(() => leave("a")))
    assert.deepStrictEqual(await everything(), before)
  })

  test("leaves alone what belongs to another incarnation of the name", async () => {
    await add(1)
    await join("a", { nonce: "old" })
    await join("a", { nonce: "new" })
    await read("a")
    const before = await everything()
    assert.deepStrictEqual(await leave("a", "old"), { released: 0, trimmed: 0, more: false, removed: true })
    assert.deepStrictEqual(await everything(), before)
  })

  test("leaves after its nonce was deleted", async () => {
    await join("a")
    await redis.hdel(keys.state, "n:a")
    assert.isTrue((await leave("a")).removed)
    assert.deepStrictEqual(await consumers(keys.main, keys.mainGroup), [])
  })

  test("leaves a group or a stream that is gone", async () => {
    await join("a")
    await redis.del(keys.main)
    assert.isTrue((await leave("a")).removed)
    await join("a")
    await redis.flushall()
    assert.isTrue((await leave("a")).removed)
    assert.deepStrictEqual(await everything(), [])
  })

  test("works while memory is full", async () => {
    await add(1)
    await join("a")
    await read("a")
    await fillMemory()
    assert.strictEqual((await leave("a")).released, 1)
  })

  test("works while memory is full, with nothing to release", async () => {
    await join("a")
    await fillMemory()
    assert.isTrue((await leave("a")).removed)
    assert.deepStrictEqual(await consumers(keys.main, keys.mainGroup), [])
  })

  test.each(["main", "retry", "state", "bell"] as const)(
    "changes nothing where %s is of another type",
    async (name) => {
      await add(1)
      await join("a")
      await read("a")
      await redis.del(keys[name])
      await redis.sadd(keys[name], "x")
      const before = await everything()
      assert.match(await refused(Scripts.leave, member("a")), /^WRONGTYPE/)
      assert.deepStrictEqual(await everything(), before)
    }
  )
})
