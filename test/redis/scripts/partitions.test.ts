import * as RedisKeys from "@clutch/redis/RedisKeys"
import * as Scripts from "@clutch/redis/Scripts"
import { assert, describe, test } from "vitest"
import { everything, fillMemory, redis, refused, run, useServer } from "./harness.ts"

const keys = RedisKeys.topic("clutch", "orders")
const recorded = (count: number) => ({ count, recorded: true })
const ask = (count: number) => run(Scripts.partitions, { keys, count, from: undefined })
const change = (from: number, to: number) => run(Scripts.partitions, { keys, count: to, from })

describe("partitions", () => {
  useServer()

  test("the first that asks for a new topic decides, and everybody after learns it", async () => {
    assert.deepStrictEqual(await ask(4), recorded(4))
    assert.deepStrictEqual(await ask(8), recorded(4))
    assert.deepStrictEqual(await ask(1), recorded(4))
    assert.deepStrictEqual(await redis.hgetall(keys.meta), { partitions: "4" })
  })

  test("one partition is not worth a record", async () => {
    assert.deepStrictEqual(await ask(1), { count: 1, recorded: false })
    assert.deepStrictEqual(await redis.keys("*"), [])
  })

  test("a topic that is used without a record has one", async () => {
    await redis.xadd(keys.main, "*", "data", "1")
    assert.deepStrictEqual(await ask(4), { count: 1, recorded: false })
    assert.strictEqual(await redis.exists(keys.meta), 0)
  })

  test("another number is recorded only where it is what was thought", async () => {
    await redis.xadd(keys.main, "*", "data", "1")
    assert.deepStrictEqual(await change(2, 4), { count: 1, recorded: false })
    assert.deepStrictEqual(await change(1, 4), recorded(4))
    assert.deepStrictEqual(await change(1, 8), recorded(4))
    assert.deepStrictEqual(await ask(1), recorded(4))
    assert.deepStrictEqual(await change(4, 1), recorded(1), "and is known to have been said")
    assert.deepStrictEqual(await ask(4), recorded(1))
  })

  test("what cannot be recorded, or read, is refused, and nothing has changed", async () => {
    await fillMemory()
    const before = await everything()
    assert.match(await refused(Scripts.partitions, { keys, count: 2, from: undefined }), /OOM/)
    assert.deepStrictEqual(await everything(), before)
    await redis.config("SET", "maxmemory", "0")
    await redis.hset(keys.meta, "partitions", "-1")
    assert.match(await refused(Scripts.partitions, { keys, count: 2, from: undefined }), /WRONGTYPE.*meta/)
    await redis.del(keys.meta)
    await redis.set(keys.meta, "x")
    assert.match(await refused(Scripts.partitions, { keys, count: 2, from: 1 }), /WRONGTYPE.*meta/)
  })
})
