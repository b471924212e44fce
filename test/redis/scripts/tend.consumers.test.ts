import * as Scripts from "@clutch/redis/Scripts"
import { assert, describe, test } from "vitest"
import {
  add,
  addRetry,
  consumers,
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
  run,
  rung,
  state,
  useServer
} from "./harness.ts"
import { dies, quiet, tend } from "./tend.support.ts"

describe("tend reclaims", () => {
  useServer()

  test("what a dead consumer held, counts the attempt, deletes its nonce, and rings", async () => {
    await add(2)
    await addRetry(1, "1-0")
    await join("a", { visibilityTimeout: 1000 })
    await join("b", { visibilityTimeout: 1000 })
    await read("a")
    await read("a", 9, "retry")
    await dies("a", 1500, ["1-0", "2-0"], ["1-0"])
    assert.isTrue(
      await rung(async () => {
        assert.deepInclude(await tend(), { reclaimed: 3, trimmed: 0, removed: 0, more: false, cursor: undefined })
      })
    )
    assert.deepStrictEqual(await pending(keys.main, keys.mainGroup), [
      ["1-0", "-released", 1],
      ["2-0", "-released", 1]
    ])
    assert.deepStrictEqual(await pending(keys.retry, keys.retryGroup), [["1-0", "-released", 1]])
    assert.deepStrictEqual(await state("n:"), { "n:b": "nonce-of-b" })
  })

  test("twice is as good as once: what waits for anybody is not reclaimed again", async () => {
    await add(1)
    await join("a", { visibilityTimeout: 1000 })
    await read("a")
    await dies("a", 1500, ["1-0"])
    await tend()
    const before = await everything()
    assert.deepInclude(await tend(), { reclaimed: 0, next: undefined })
    assert.deepStrictEqual(await everything(), before)
  })

  test("judges each consumer by its own timeout, 30 s where it has none, and foresees the next end", async () => {
    await add(4)
    await join("fast", { visibilityTimeout: 1000 })
    await join("slow", { visibilityTimeout: 60_000 })
    await read("fast", 1)
    await read("slow", 1)
    await read("foreign", 1)
    await read("dead", 1)
    await dies("fast", 1500, ["1-0"])
    await dies("slow", 40_000, ["2-0"])
    await idle("main", "foreign", 25_000, "3-0")
    await idle("main", "dead", 31_000, "4-0")
    const { next, reclaimed } = await tend()
    assert.strictEqual(reclaimed, 2)
    assert.approximately(next ?? 0, 5000, 500)
    assert.deepStrictEqual(
      (await pending(keys.main, keys.mainGroup)).map(([, consumer]) => consumer),
      ["-released", "slow", "foreign", "-released"]
    )
  })

  test("what lies behind the mark was not started, and loses the attempt; without a mark everything counts", async () => {
    await add(3)
    await addRetry(1, "1-0", "2-0")
    await join("a", { visibilityTimeout: 1000 })
    await read("a")
    await read("a", 9, "retry")
    await run(Scripts.mark, { keys, consumer: "a", origin: "main", started: "2-0" })
    await dies("a", 1500, ["1-0", "2-0", "3-0"], ["1-0", "2-0"])
    await tend()
    assert.deepStrictEqual(
      (await pending(keys.main, keys.mainGroup)).map(([, , count]) => count),
      [1, 1, 0]
    )
    assert.deepStrictEqual(
      (await pending(keys.retry, keys.retryGroup)).map(([, , count]) => count),
      [1, 1]
    )
  })

  test("where a mark names what was started, nothing else counts", async () => {
    await add(3)
    await join("a", { visibilityTimeout: 1000 })
    await read("a")
    await run(Scripts.mark, { keys, consumer: "a", origin: "main", started: ["3-0"] })
    await dies("a", 1500, ["1-0", "2-0", "3-0"])
    await tend()
    assert.deepStrictEqual(
      (await pending(keys.main, keys.mainGroup)).map(([, , count]) => count),
      [0, 0, 1]
    )
  })

  test("marks are compared as ids, not as text", async () => {
    for (const id of ["9-5", "9-18", "10-2"]) await redis.xadd(keys.main, id, "data", "1")
    await join("a", { visibilityTimeout: 1000 })
    await read("a")
    await run(Scripts.mark, { keys, consumer: "a", origin: "main", started: "9-18" })
    await dies("a", 1500, ["9-5", "9-18", "10-2"])
    await tend()
    assert.deepStrictEqual(
      (await pending(keys.main, keys.mainGroup)).map(([, , count]) => count),
      [1, 1, 0]
    )
  })

  test("a garbage mark, timeout or sign of life is none", async () => {
    await add(1)
    await join("a")
    await read("a")
    await redis.hset(keys.state, "m:a", "x", "v:a", "y", "h:a", "z")
    await idle("main", "a", 31_000, "1-0")
    assert.deepInclude(await tend(), { reclaimed: 1 })
    assert.deepStrictEqual(await pending(keys.main, keys.mainGroup), [["1-0", "-released", 1]])
  })

  test("deaths add up: reclaim, take, reclaim is two attempts", async () => {
    await add(1)
    await join("a", { visibilityTimeout: 1000 })
    await read("a")
    const counts: Array<number | undefined> = []
    for (let i = 0; i < 3; i++) {
      await dies("a", 1500, ["1-0"])
      await tend()
      const { entries } = await run(Scripts.take, {
        keys,
        consumer: "a",
        count: 1,
        bytes: 1,
        alone: i > 0,
        maxAttempts: 9
      })
      counts.push(entries[0]?.count)
    }
    assert.deepStrictEqual(counts, [2, 3, 4])
  })

  test("a trimmed entry is left to its live consumer's memory, and settled once that is dead", async () => {
    await add(2)
    await join("a", { visibilityTimeout: 1000 })
    await read("a")
    await idle("main", "a", 5000, "1-0", "2-0")
    await redis.xtrim(keys.main, "MINID", "2-0")
    await run(Scripts.extend, { ...member("a"), main: held(["1-0", "2-0"]), retry: [] })
    const { next, reclaimed, trimmed } = await tend()
    assert.deepStrictEqual([reclaimed, trimmed], [0, 0])
    assert.isAbove(next ?? 0, 500)
    assert.strictEqual((await state("n:"))["n:a"], "nonce-of-a")
    // `idle` would take the trimmed entry off the list: only the sign of life grows old
    await redis.hset(keys.state, "h:a", (await now()) - 2000)
    await idle("main", "a", 5000, "2-0")
    assert.deepInclude(await tend(), { reclaimed: 1, trimmed: 1 })
    assert.deepStrictEqual(await pending(keys.main, keys.mainGroup), [["2-0", "-released", 1]])
    assert.deepStrictEqual(await state("n:"), {})
  })

  test("foresees when a consumer would be dead whose entries were all trimmed", async () => {
    await add(1)
    await join("a", { visibilityTimeout: 1000 })
    await read("a")
    await idle("main", "a", 5000, "1-0")
    await redis.xtrim(keys.main, "MAXLEN", 0)
    await redis.hset(keys.state, "h:a", (await now()) - 400)
    const { next, trimmed } = await tend()
    assert.strictEqual(trimmed, 0)
    assert.approximately(next ?? 0, 600, 200)
  })

  test("works through a long pending list in bounded rounds", async () => {
    await add(2500)
    await join("a", { visibilityTimeout: 1000 })
    await join("b", { visibilityTimeout: 1000 })
    await read("a", 1200)
    await read("b", 1300)
    const all = (await redis.xrange(keys.main, "-", "+")).map(([id]) => id)
    await dies("a", 1500, all.slice(0, 1200))
    await dies("b", 1500, all.slice(1200))
    const rounds: Array<number> = []
    let cursor: string | undefined
    do {
      const round = await tend({ cursor })
      assert.strictEqual(round.more, round.cursor !== undefined)
      rounds.push(round.reclaimed)
      cursor = round.cursor
    } while (cursor !== undefined)
    assert.deepStrictEqual(rounds, [1000, 1000, 500])
  })

  test("a live consumer's long pending list does not hide the dead behind it", async () => {
    await add(1501)
    await join("a")
    await join("b", { visibilityTimeout: 1000 })
    await read("a", 1500)
    await read("b", 1)
    await dies("b", 1500, ["1501-0"])
    const first = await tend()
    assert.deepStrictEqual([first.reclaimed, first.more], [0, true])
    assert.deepInclude(await tend({ cursor: first.cursor }), { reclaimed: 1, more: false })
  })

  test("a scan goes on behind what it has seen, over several consumers", async () => {
    await add(1801)
    for (const name of ["a", "b"]) await join(name)
    await join("c", { visibilityTimeout: 1000 })
    await read("a", 900)
    await read("b", 900)
    await read("c", 1)
    await dies("c", 1500, ["1801-0"])
    const first = await tend()
    assert.deepStrictEqual([first.reclaimed, first.more], [0, true])
    assert.deepInclude(await tend({ cursor: first.cursor }), { reclaimed: 1, more: false })
  })

  test.each(["1 5-0 gone", "nonsense", "7 x y", "2 - zz"])(
    "a cursor %j that fits nothing ends the scan without harm",
    async (cursor) => {
      await add(1)
      await join("a")
      await read("a")
      const { cursor: next, problem } = await tend({ cursor })
      assert.isUndefined(next)
      assert.isUndefined(problem)
    }
  )

  test("records the position", async () => {
    await add(2)
    await join("a")
    await read("a")
    await run(Scripts.ack, { ...member("a"), origin: "main", held: held(["1-0", "2-0"]), repeated: false })
    await tend()
    assert.deepStrictEqual(await state("position"), { position: "2-0" })
  })

  test("without scan it does not look at consumers", async () => {
    await add(1)
    await join("a", { visibilityTimeout: 1000 })
    await read("a")
    await dies("a", 1500, ["1-0"])
    assert.deepStrictEqual(await tend({ scan: false }), quiet)
  })

  test("works while memory is full", async () => {
    await add(1)
    await join("a", { visibilityTimeout: 1000 })
    await read("a")
    await dies("a", 1500, ["1-0"])
    await fillMemory()
    assert.isTrue(
      await rung(async () => {
        assert.deepInclude(await tend(), { reclaimed: 1 })
      })
    )
  })
})

describe("tend removes dead consumers", () => {
  useServer()

  const names = async () => (await consumers(keys.main, keys.mainGroup)).map((_) => _["name"])

  test("a consumer that shows no sign of life is removed by its own measure once its commands are as old", async () => {
    await join("a", { visibilityTimeout: 1000 })
    await redis.hset(keys.state, "h:a", (await now()) - 301_000)
    // its last command was just now
    assert.deepInclude(await tend(), { removed: 0 })
    assert.deepStrictEqual(await names(), ["a"])
  })

  // nobody can wait five minutes, nor make a server believe that they have passed
  const soon = { ...Scripts.tend, lua: Scripts.tend.lua.replace("300000", "50") }
  const later = async (silent: string) => {
    await redis.hset(keys.state, "v:a", "1", "h:a", silent)
    await new Promise((resolve) => setTimeout(resolve, 100))
    return run(soon, { keys, scan: true, cursor: undefined })
  }

  test.each([false, true])(
    "one that is silent and holds nothing goes, with all that is remembered of it (memory full: %s)",
    async (full) => {
      assert.notStrictEqual(soon.lua, Scripts.tend.lua)
      await join("a")
      await join("b")
      await run(Scripts.mark, { keys, consumer: "a", origin: "main", started: "1-0" })
      if (full) await redis.hset(keys.state, "v:a", "1", "h:a", "1")
      const before = Object.keys(await state()).length
      if (full) {
        await new Promise((resolve) => setTimeout(resolve, 100))
        await fillMemory()
        assert.deepInclude(await run(soon, { keys, scan: true, cursor: undefined }), { removed: 1 })
      } else {
        assert.deepInclude(await later("1"), { removed: 1 })
      }
      assert.deepStrictEqual(await names(), ["b"])
      assert.deepStrictEqual(
        (await consumers(keys.retry, keys.retryGroup)).map((_) => _["name"]),
        ["b"]
      )
      assert.strictEqual(Object.keys(await state()).length, before - 5)
    }
  )

  test("one that is silent and holds something on the retry stream alone stays", async () => {
    await addRetry(1, "1-0")
    await join("a")
    await read("a", 1, "retry")
    await redis.hset(keys.state, "v:a", "1000000")
    await new Promise((resolve) => setTimeout(resolve, 100))
    await redis.hset(keys.state, "h:a", "1")
    const lua = soon.lua.replace("10 * timeout(name)", "50")
    assert.deepInclude(await run({ ...soon, lua }, { keys, scan: true, cursor: undefined }), { removed: 0 })
    assert.strictEqual((await consumers(keys.retry, keys.retryGroup)).length, 1)
  })

  test("one whose commands are old but that shows signs of life stays", async () => {
    await join("a")
    assert.deepInclude(await later(`${(await now()) + 100}`), { removed: 0 })
    assert.deepStrictEqual(await names(), ["a"])
  })

  test("one with anything pending on either stream is not, nor one that shows signs of life", async () => {
    await add(1)
    await join("a")
    await read("a")
    await redis.hset(keys.state, "h:a", 1)
    assert.deepInclude(await tend(), { removed: 0 })
    assert.deepStrictEqual(await names(), ["a"])
  })

  test("what is remembered of consumers that are in no group goes with time", async () => {
    await join("a")
    await redis.hset(
      keys.state,
      "v:old",
      1000,
      "n:old",
      "x",
      "h:old",
      1,
      "m:old",
      "1-0",
      "r:lost",
      "2-0",
      "v:new",
      1,
      "h:new",
      await now()
    )
    await tend()
    assert.sameMembers(Object.keys(await state()), ["v:a", "n:a", "h:a", "j:a", "position", "v:new", "h:new"])
  })
})
