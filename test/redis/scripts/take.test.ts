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
  pending,
  read,
  redis,
  refused,
  run,
  useServer
} from "./harness.ts"

const take = (consumer: string, options: Partial<Scripts.Take> = {}) =>
  run(Scripts.take, { keys, consumer, count: 100, bytes: 1e6, alone: false, maxAttempts: Infinity, ...options })

/** Puts entries of a stream, already read, where they wait for anybody, as delivered `count` times. */
const waiting = async (origin: "main" | "retry", counts: Readonly<Record<string, number>>) => {
  const group = origin === "main" ? keys.mainGroup : keys.retryGroup
  for (const [id, count] of Object.entries(counts)) {
    await redis.xclaim(keys[origin], group, "-released", 0, id, "RETRYCOUNT", count, "JUSTID")
  }
}

const ids = ({ entries }: Scripts.Taken) => entries.map(({ id, origin }) => `${origin} ${id}`)

describe("take", () => {
  useServer()

  test("delivers what was released, with its content, and counts an attempt", async () => {
    await add(2)
    await addRetry(1, "1-0")
    await join("a")
    await read("a")
    await read("a", 9, "retry")
    await waiting("main", { "2-0": 1 })
    await waiting("retry", { "1-0": 0 })
    const taken = await take("b")
    assert.deepStrictEqual(
      taken.entries.map(({ count, fields, id, origin }) => [origin, id, count, fields.map(String).slice(0, 2)]),
      [
        ["main", "2-0", 2, ["data", '{"n":2}']],
        ["retry", "1-0", 1, ["data", "{}"]]
      ]
    )
    assert.deepStrictEqual(await pending(keys.main, keys.mainGroup), [
      ["1-0", "a", 1],
      ["2-0", "b", 2]
    ])
    assert.isFalse(taken.suspects || taken.more)
  })

  test("what nobody has released is not taken, and nothing is created", async () => {
    await add(1)
    await join("a")
    await read("a")
    const before = await everything()
    assert.deepStrictEqual(await take("b"), { entries: [], suspects: false, more: false, trimmed: 0 })
    assert.deepStrictEqual(await everything(), before)
    await redis.flushall()
    assert.deepStrictEqual(ids(await take("b")), [])
    assert.deepStrictEqual(await everything(), [])
  })

  test("bytes are delivered as they are", async () => {
    const bytes = Buffer.from([0, 255, 254, 10, 13])
    await redis.xadd(keys.main, "1-0", "data", bytes)
    await join("a")
    await read("a")
    await waiting("main", { "1-0": 0 })
    assert.isTrue((await take("b")).entries[0]?.fields[1]?.equals(bytes))
  })

  test("the consumer -released goes when nothing waits any more", async () => {
    await add(2)
    await join("a")
    await read("a")
    await waiting("main", { "1-0": 0, "2-0": 0 })
    const names = async () => (await consumers(keys.main, keys.mainGroup)).map((_) => String(_["name"])).toSorted()
    await take("a", { count: 1 })
    assert.deepStrictEqual(await names(), ["-released", "a"])
    await take("a")
    assert.deepStrictEqual(await names(), ["a"])
  })

  test("takes no more than asked, over both streams, and says that more waits", async () => {
    await add(3)
    await addRetry(1, "1-0", "2-0")
    await join("a")
    await read("a")
    await read("a", 9, "retry")
    await waiting("main", { "1-0": 0, "2-0": 0, "3-0": 0 })
    await waiting("retry", { "1-0": 0, "2-0": 0 })
    const first = await take("a", { count: 2 })
    assert.deepStrictEqual([ids(first), first.more], [["main 1-0", "main 2-0"], true])
    const second = await take("a", { count: 2 })
    assert.deepStrictEqual([ids(second), second.more], [["main 3-0", "retry 1-0"], true])
    const third = await take("a", { count: 2 })
    assert.deepStrictEqual([ids(third), third.more], [["retry 2-0"], false])
  })

  test("bytes bound what is taken, but a first entry comes whatever its size", async () => {
    for (let i = 1; i <= 3; i++) await redis.xadd(keys.main, `${i}-0`, "data", "x".repeat(1000))
    await join("a")
    await read("a")
    await waiting("main", { "1-0": 0, "2-0": 0, "3-0": 0 })
    const first = await take("a", { bytes: 1 })
    assert.deepStrictEqual([ids(first), first.more], [["main 1-0"], true])
    assert.deepStrictEqual(ids(await take("a", { bytes: 1500 })), ["main 2-0", "main 3-0"])
  })

  // attempts made before the entry, deliveries that ended with a dead consumer, most attempts; whether it is a suspect
  test.each([
    ["main", 0, 0, 6, false],
    ["main", 0, 1, 6, false],
    ["main", 0, 2, 6, true],
    ["main", 0, 2, Infinity, true],
    ["main", 0, 1, Infinity, false],
    ["main", 0, 1, 2, true],
    ["main", 0, 1, 3, false],
    ["main", 0, 0, 1, false],
    ["retry", 4, 0, 6, false],
    ["retry", 4, 0, 5, false],
    ["retry", 4, 1, 6, true],
    ["retry", 3, 1, 6, false],
    ["retry", 3, 2, 6, true],
    ["retry", 9, 1, Infinity, false]
  ] as const)(
    "%s, %i attempts before, %i with the dead, of %d at most: suspect %s",
    async (origin, base, count, maxAttempts, suspect) => {
      await (origin === "main" ? add(1) : addRetry(base, "1-0"))
      await join("a")
      await read("a", 1, origin)
      await waiting(origin, { "1-0": count })
      const plain = await take("b", { maxAttempts })
      assert.deepStrictEqual([ids(plain), plain.suspects], suspect ? [[], true] : [[`${origin} 1-0`], false])
      const alone = await take("b", { maxAttempts, alone: true })
      assert.deepStrictEqual([ids(alone), alone.suspects], suspect ? [[`${origin} 1-0`], false] : [[], false])
    }
  )

  test("suspects are taken one at a time, and the others flow past them", async () => {
    await add(4)
    await addRetry(1, "1-0")
    await join("a")
    await read("a")
    await read("a", 9, "retry")
    await waiting("main", { "1-0": 2, "2-0": 0, "3-0": 3, "4-0": 1 })
    await waiting("retry", { "1-0": 2 })
    const plain = await take("b")
    assert.deepStrictEqual([ids(plain), plain.suspects], [["main 2-0", "main 4-0"], true])
    const alone = []
    for (let i = 0; i < 4; i++) {
      const taken = await take("b", { alone: true })
      alone.push([ids(taken), taken.suspects])
    }
    assert.deepStrictEqual(alone, [
      [["main 1-0"], true],
      [["main 3-0"], true],
      [["retry 1-0"], false],
      [[], false]
    ])
  })

  test("alone takes nothing else, and says that more waits", async () => {
    await add(2)
    await join("a")
    await read("a")
    await waiting("main", { "1-0": 0, "2-0": 2 })
    const taken = await take("b", { alone: true })
    assert.deepStrictEqual([ids(taken), taken.more], [["main 2-0"], true])
  })

  test.each(["{", "[]", "7", '{"attempt":"x"}', "null"])(
    "a retry whose clutch is %j is taken like a first attempt",
    async (clutch) => {
      await redis.xadd(keys.retry, "1-0", "clutch", clutch)
      await join("a")
      await read("a", 1, "retry")
      await waiting("retry", { "1-0": 1 })
      assert.deepStrictEqual(ids(await take("b", { maxAttempts: 6 })), ["retry 1-0"])
    }
  )

  test("what was trimmed while it waited is settled and counted, and those behind it flow", async () => {
    await add(3)
    await join("a")
    await read("a")
    await waiting("main", { "1-0": 0, "2-0": 0, "3-0": 0 })
    await redis.xtrim(keys.main, "MINID", "3-0")
    const taken = await take("b")
    assert.deepStrictEqual([ids(taken), taken.trimmed], [["main 3-0"], 2])
    assert.deepStrictEqual(await pending(keys.main, keys.mainGroup), [["3-0", "b", 1]])
  })

  test("reads bounded bytes to tell suspects from others", async () => {
    const clutch = JSON.stringify({ original: "1-0", attempt: 0 })
    for (let i = 1; i <= 5; i++) await redis.xadd(keys.retry, `${i}-0`, "data", "x".repeat(1_500_000), "clutch", clutch)
    await join("a")
    await read("a", 9, "retry")
    await waiting("retry", { "1-0": 1, "2-0": 1, "3-0": 1, "4-0": 1, "5-0": 1 })
    const first = await take("b", { bytes: 1e9, maxAttempts: 6 })
    assert.deepStrictEqual([first.entries.length, first.more], [3, true])
    const second = await take("b", { bytes: 1e9, maxAttempts: 6 })
    assert.deepStrictEqual([second.entries.length, second.more], [2, false])
  })

  test("a crowd of suspects does not hide the others for long", async () => {
    await add(300)
    await join("a")
    await read("a", 300)
    await waiting("main", Object.fromEntries(Array.from({ length: 300 }, (_, i) => [`${i + 1}-0`, i < 200 ? 2 : 0])))
    const taken = await take("b", { count: 50 })
    assert.strictEqual(taken.entries.length, 50)
    assert.isTrue(taken.suspects && taken.more)
  })

  test("works while memory is full", async () => {
    await add(1)
    await join("a")
    await read("a")
    await waiting("main", { "1-0": 0 })
    await fillMemory()
    assert.deepStrictEqual(ids(await take("a")), ["main 1-0"])
  })

  test.each(["main", "retry", "state"] as const)("changes nothing where %s is of another type", async (name) => {
    await add(1)
    await join("a")
    await read("a")
    await waiting("main", { "1-0": 0 })
    await redis.del(keys[name])
    await redis.set(keys[name], "x")
    const before = await everything()
    const input = { keys, consumer: "b", count: 1, bytes: 1, alone: false, maxAttempts: 1 }
    assert.match(await refused(Scripts.take, input), /^WRONGTYPE/)
    assert.deepStrictEqual(await everything(), before)
  })
})
