import * as Scripts from "@clutch/redis/Scripts"
import * as RedisKeys from "@clutch/redis/RedisKeys"
import { assert, describe, test } from "vitest"
import { add, everything, fillMemory, join, keys, read, redis, refused, run, useServer } from "./harness.ts"

const none = { trimmed: 0, more: false, unnamed: [] }

/** As the transport calls it: with the names that it was told, until there is no more. */
const trim = async (): Promise<number> => {
  let sum = 0
  let names: ReadonlyArray<string> = []
  for (;;) {
    const missing = names.map((name) => ({
      name,
      state: RedisKeys.group("clutch", { topic: "orders", partition: 0, subscription: name }).state
    }))
    const { more, trimmed, unnamed } = await run(Scripts.trim, { keys, missing })
    sum += trimmed
    if (unnamed.length > 0) names = [...names, ...unnamed]
    else if (!more) return sum
  }
}

const ids = async () => (await redis.xrange(keys.main, "-", "+")).map(([id]) => id)
const ack = (...entries: ReadonlyArray<string>) => redis.xack(keys.main, keys.mainGroup, ...entries)

describe("trim", () => {
  useServer()

  test("what the group has settled goes, to the last entry, and what is pending or unread stays", async () => {
    await add(7)
    await join("a")
    await read("a", 5)
    await ack("1-0", "2-0", "4-0")
    assert.strictEqual(await trim(), 2)
    assert.deepStrictEqual(await ids(), ["3-0", "4-0", "5-0", "6-0", "7-0"])
    await ack("3-0", "5-0")
    assert.strictEqual(await trim(), 3)
    assert.deepStrictEqual(await ids(), ["6-0", "7-0"])
    assert.strictEqual(await trim(), 0)
  })

  test("a group of another program holds back what it has not settled, read or not", async () => {
    await add(4)
    await join("a")
    await ack(...(await read("a")))
    await redis.xgroup("CREATE", keys.main, "foreign", "1-0")
    assert.strictEqual(await trim(), 1)
    await redis.xreadgroup("GROUP", "foreign", "x", "COUNT", 2, "STREAMS", keys.main, ">")
    assert.strictEqual(await trim(), 0)
    await redis.xack(keys.main, "foreign", "2-0")
    assert.strictEqual(await trim(), 1)
    assert.deepStrictEqual(await ids(), ["3-0", "4-0"])
    await redis.xgroup("DESTROY", keys.main, "foreign")
    assert.strictEqual(await trim(), 2)
    assert.notInclude(Object.keys(await redis.hgetall(keys.groups)), "foreign")
  })

  test("thousands of groups that have disappeared hold nothing back, and are forgotten", async () => {
    await add(2)
    const noted = Array.from({ length: 9000 }, (_, i) => [`gone-${i}`, "1"]).flat()
    await redis.hset(keys.groups, ...noted)
    await join("a")
    await redis.xack(keys.main, keys.mainGroup, ...(await read("a", 2)))
    assert.strictEqual(await trim(), 2)
    assert.strictEqual(await redis.hlen(keys.groups), 1)
  })

  test("what somebody has set a group back to read again stays, though something behind it is pending", async () => {
    await add(4)
    await join("a")
    await read("a", 4)
    await ack("1-0", "2-0", "3-0")
    await redis.xgroup("SETID", keys.main, keys.mainGroup, "1-0")
    assert.strictEqual(await trim(), 1)
    assert.deepStrictEqual(await ids(), ["2-0", "3-0", "4-0"])
  })

  test("without a group, and without a stream, nothing is dropped and nothing written", async () => {
    assert.deepStrictEqual(await run(Scripts.trim, { keys, missing: [] }), none)
    await add(3)
    const before = await everything()
    assert.deepStrictEqual(await run(Scripts.trim, { keys, missing: [] }), none)
    assert.deepStrictEqual(await everything(), before)
  })

  test("a group of ours that has disappeared holds back what follows its remembered position", async () => {
    await add(4)
    await join("a")
    await redis.xgroup("CREATE", keys.main, "other", "4-0")
    await read("a", 2)
    await ack("1-0")
    await redis.hset(keys.state, "position", "1-0")
    assert.strictEqual(await trim(), 1)
    await redis.xgroup("DESTROY", keys.main, keys.mainGroup)
    // it is known by name from the round before, and its state must be named
    const unnamed = await run(Scripts.trim, { keys, missing: [] })
    assert.deepStrictEqual(unnamed, { ...none, unnamed: [keys.mainGroup] })
    assert.strictEqual(await trim(), 0)
    assert.deepStrictEqual(await ids(), ["2-0", "3-0", "4-0"])
    // and it finds all of it when it is created again
    assert.deepInclude(await join("a", { mode: "again" }), { start: "1-0" })
    assert.deepStrictEqual(await read("a"), ["2-0", "3-0", "4-0"])
  })

  test("one that has disappeared and remembers nothing is forgotten; a position of another stream holds nothing", async () => {
    await add(2)
    await join("a")
    await redis.xgroup("CREATE", keys.main, "other", "2-0")
    await trim()
    await redis.xgroup("DESTROY", keys.main, keys.mainGroup)
    await redis.hset(keys.state, "position", "900-0")
    assert.strictEqual(await trim(), 2)
    await redis.hdel(keys.state, "position")
    await trim()
    assert.deepStrictEqual(Object.keys(await redis.hgetall(keys.groups)), ["other"])
  })

  test("ids of 64 bits are compared and followed exactly", async () => {
    const big = [
      "9007199254740993-0",
      "9007199254740993-18446744073709551615",
      "9007199254740994-0",
      "9007199254740999-9",
      "9007199254740999-10",
      "9007199254740999-18446744073709551615",
      "9007199254741000-0"
    ]
    for (const id of big) await redis.xadd(keys.main, id, "data", "{}")
    for (const [i, id] of big.entries()) {
      await redis.xgroup("CREATE", keys.main, "g", id)
      assert.strictEqual(await trim(), 1, id)
      assert.deepStrictEqual(await ids(), big.slice(i + 1))
      await redis.xgroup("DESTROY", keys.main, "g")
    }
  })

  test("many go in bounded rounds, exactly; also where the server keeps thousands of entries in a node", async () => {
    for (const size of [100, 5000]) {
      await redis.flushall()
      await redis.config("SET", "stream-node-max-entries", String(size))
      await redis.config("SET", "stream-node-max-bytes", "0")
      try {
        await redis.eval(`for i = 1, 4321 do redis.call("XADD", KEYS[1], i .. "-0", "data", "{}") end`, 1, keys.main)
        await redis.xgroup("CREATE", keys.main, "g", "4300-0")
        const first = await run(Scripts.trim, { keys, missing: [] })
        assert.isTrue(size === 100 ? first.trimmed > 4000 : first.more && first.trimmed < 104, JSON.stringify(first))
        assert.strictEqual(first.trimmed + (await trim()), 4300)
        assert.strictEqual((await ids())[0], "4301-0")
      } finally {
        await redis.config("SET", "stream-node-max-entries", "100")
        await redis.config("SET", "stream-node-max-bytes", "4096")
      }
    }
  })

  test("a round that drops large entries is short: about 10 MB", async () => {
    await redis.eval(
      `local big = string.rep("x", 100000) for i = 1, 1000 do redis.call("XADD", KEYS[1], i .. "-0", "data", big) end`,
      1,
      keys.main
    )
    await redis.xgroup("CREATE", keys.main, "g", "1000-0")
    const { more, trimmed } = await run(Scripts.trim, { keys, missing: [] })
    assert.isTrue(more)
    assert.isAtMost(trimmed, 100)
    assert.strictEqual(trimmed + (await trim()), 1000)
  })

  test("works while memory is full: it frees some", async () => {
    await add(3)
    await join("a")
    await ack(...(await read("a")))
    await fillMemory()
    assert.strictEqual(await trim(), 3)
  })

  test("another kind of value in a key is named, and nothing is dropped", async () => {
    await add(1)
    await redis.xgroup("CREATE", keys.main, "g", "1-0")
    await redis.set(keys.groups, "x")
    assert.include(await refused(Scripts.trim, { keys, missing: [] }), `${keys.groups} holds a string`)
    assert.deepStrictEqual(await ids(), ["1-0"])
  })
})
