import * as Scripts from "@clutch/redis/Scripts"
import { assert, describe, test } from "vitest"
import {
  add,
  addRetry,
  entries,
  everything,
  fillMemory,
  held,
  join,
  keys,
  delivered,
  pending,
  read,
  redis,
  refused,
  run,
  rung,
  useServer
} from "./harness.ts"

const release = (consumer: string, ids: ReadonlyArray<string>, count = 1, origin: "main" | "retry" = "main") =>
  run(Scripts.release, { keys, consumer, origin, held: held(ids, count) })

describe("release", () => {
  useServer()

  test("gives back at no cost of an attempt, and rings", async () => {
    await add(3)
    await join("a")
    await read("a")
    assert.isTrue(
      await rung(async () => {
        assert.deepStrictEqual(await release("a", ["1-0", "3-0"]), ["done", "done"])
      })
    )
    assert.deepStrictEqual(await pending(keys.main, keys.mainGroup), [
      ["1-0", "-released", 0],
      ["2-0", "a", 1],
      ["3-0", "-released", 0]
    ])
  })

  test("release and take, any number of times, count one attempt", async () => {
    await addRetry(2, "1-0")
    await join("a")
    await read("a", 1, "retry")
    let count = 1
    for (let i = 0; i < 5; i++) {
      assert.deepStrictEqual(await release("a", ["1-0"], count, "retry"), ["done"])
      const { entries } = await run(Scripts.take, {
        keys,
        consumer: "a",
        count: 9,
        bytes: 1,
        alone: false,
        maxAttempts: 6
      })
      assert.deepStrictEqual(
        entries.map(({ count, id, origin }) => [origin, id, delivered(count)]),
        [["retry", "1-0", 1]]
      )
      count = entries[0]?.count ?? 0
    }
  })

  test("what is said of a delivery that was given back is not taken for the next one's", async () => {
    await add(1)
    await join("a")
    await read("a")
    await release("a", ["1-0"])
    const take = { keys, consumer: "a", count: 9, bytes: 1, alone: false, maxAttempts: 6 }
    const [again] = (await run(Scripts.take, take)).entries
    assert.deepStrictEqual(await release("a", ["1-0"]), ["other"])
    const stale = { keys, consumer: "a", origin: "main", nonce: "", repeated: false, held: held(["1-0"]) } as const
    assert.deepStrictEqual((await run(Scripts.ack, stale)).settled, ["other"])
    const mine = { ...stale, held: held(["1-0"], again?.count) }
    assert.deepStrictEqual((await run(Scripts.ack, mine)).settled, ["done"])
  })

  test("attempts that were counted before it was held stay counted", async () => {
    await add(1)
    await join("a")
    await read("a")
    await redis.xclaim(keys.main, keys.mainGroup, "a", 0, "1-0", "RETRYCOUNT", 2, "JUSTID")
    assert.deepStrictEqual(await release("a", ["1-0"], 2), ["done"])
    assert.deepStrictEqual(await pending(keys.main, keys.mainGroup), [["1-0", "-released", 1]])
  })

  test("what was trimmed is told and not touched: its only copy is in the caller's memory", async () => {
    await add(3)
    await join("a")
    await read("a")
    await redis.xdel(keys.main, "3-0")
    await redis.xtrim(keys.main, "MINID", "2-0")
    assert.deepStrictEqual(await release("a", ["1-0", "2-0", "3-0"]), ["trimmed", "done", "trimmed"])
    assert.deepStrictEqual(await pending(keys.main, keys.mainGroup), [
      ["1-0", "a", 1],
      ["2-0", "-released", 0],
      ["3-0", "a", 1]
    ])
  })

  test("an entry that was trimmed by length is told from those that were not", async () => {
    await add(3)
    await join("a")
    await read("a")
    await redis.xtrim(keys.main, "MAXLEN", 1)
    assert.deepStrictEqual(await release("a", ["1-0", "2-0", "3-0"]), ["trimmed", "trimmed", "done"])
    await redis.xtrim(keys.main, "MAXLEN", 0)
    assert.deepStrictEqual(await release("a", ["1-0"]), ["trimmed"])
    assert.strictEqual((await pending(keys.main, keys.mainGroup)).length, 3)
  })

  test("an entry below one that was deleted is still there", async () => {
    await addRetry(1, "1-0", "2-0", "3-0")
    await join("a")
    await read("a", 9, "retry")
    await redis.xdel(keys.retry, "2-0")
    assert.deepStrictEqual(await release("a", ["1-0", "2-0", "3-0"], 1, "retry"), ["done", "trimmed", "done"])
    assert.deepStrictEqual(
      (await entries(keys.retry)).map(([id]) => id),
      ["1-0", "3-0"]
    )
  })

  test("what is another's, was delivered again or is not pending is left alone", async () => {
    await add(4)
    await join("a")
    await join("b")
    await read("a", 1)
    await read("b", 1)
    await read("a", 1)
    await redis.xclaim(keys.main, keys.mainGroup, "a", 0, "3-0", "RETRYCOUNT", 2, "JUSTID")
    assert.deepStrictEqual(await release("a", ["2-0", "3-0", "4-0"]), ["other", "other", "gone"])
    assert.deepStrictEqual(
      (await pending(keys.main, keys.mainGroup)).map(([, consumer]) => consumer),
      ["a", "b", "a"]
    )
  })

  test("twice is as good as once, and does not ring", async () => {
    await add(1)
    await join("a")
    await read("a")
    await release("a", ["1-0"])
    const before = await everything()
    assert.isFalse(
      await rung(async () => {
        assert.deepStrictEqual(await release("a", ["1-0"]), ["other"])
      })
    )
    assert.deepStrictEqual(await everything(), before)
  })

  test("without a group or a stream nothing is pending", async () => {
    assert.deepStrictEqual(await release("a", ["1-0"]), ["gone"])
    assert.deepStrictEqual(await everything(), [])
  })

  test("works while memory is full", async () => {
    await add(1)
    await join("a")
    await read("a")
    await fillMemory()
    assert.isTrue(
      await rung(async () => {
        assert.deepStrictEqual(await release("a", ["1-0"]), ["done"])
      })
    )
  })

  test.each(["main", "bell"] as const)("changes nothing where %s is of another type", async (name) => {
    await add(1)
    await join("a")
    await read("a")
    await redis.del(keys[name])
    await redis.sadd(keys[name], "x")
    const before = await everything()
    const input = { keys, consumer: "a", origin: "main", held: held(["1-0"]) } as const
    assert.match(await refused(Scripts.release, input), /^WRONGTYPE/)
    assert.deepStrictEqual(await everything(), before)
  })

  test("1,000 deliveries are one call", async () => {
    await add(Scripts.maxIds)
    await join("a")
    const found = await release("a", await read("a", Scripts.maxIds))
    assert.isTrue(found.length === Scripts.maxIds && found.every((_) => _ === "done"))
  })
})
