import * as Scripts from "@clutch/redis/Scripts"
import { assert, beforeEach, describe, test } from "vitest"
import {
  add,
  addRetry,
  claim,
  claimed,
  draw,
  drawn,
  everything,
  fillMemory,
  join,
  keys,
  now,
  pending,
  read,
  redis,
  refused,
  run,
  state,
  useServer
} from "./harness.ts"

describe("draw", () => {
  useServer()

  beforeEach(async () => {
    await join("a", { ordered: true })
    await claim("a")
  })

  /** Deliveries that came back `times` times from consumers that died. */
  const died = async (origin: "main" | "retry", id: string, times: number) => {
    const [stream, group] = origin === "main" ? [keys.main, keys.mainGroup] : [keys.retry, keys.retryGroup]
    await redis.xclaim(stream, group, "-released", 0, id, "RETRYCOUNT", times, "JUSTID")
  }

  test("what was given back comes before retries, these before what is new, each in the order of ids", async () => {
    await add(4)
    await addRetry(1, "1-0", "2-0", "3-0")
    await read("a", 2)
    await read("a", 1, "retry")
    await run(Scripts.cede, claimed("a"))
    await claim("a")
    assert.deepStrictEqual(await drawn("a"), {
      given: ["1-0", "2-0", "retry 1-0"],
      unread: ["retry 2-0", "retry 3-0", "3-0", "4-0"],
      suspects: false
    })
    assert.deepStrictEqual(await pending(keys.main, keys.mainGroup), [
      ["1-0", "a", 1],
      ["2-0", "a", 1],
      ["3-0", "a", 1],
      ["4-0", "a", 1]
    ])
  })

  test("contents and delivery counts come with what was given back", async () => {
    await add(1)
    await read("a")
    await claim("a", "2")
    const answer = await draw("a", { nonce: "2" })
    if (typeof answer === "string") return assert.fail(answer)
    assert.deepStrictEqual(
      answer.given.main.map((row) =>
        JSON.stringify(row, (_, value) => (value?.type === "Buffer" ? String(Buffer.from(value)) : value))
      ),
      ['["1-0","2",["data","{\\"n\\":1}"]]']
    )
  })

  test("the count of what was given back thousands of times is exact", async () => {
    await add(1)
    await read("a")
    await died("main", "1-0", 5_000_000_000)
    const answer = await draw("a")
    if (typeof answer === "string") return assert.fail(answer)
    const [row] = answer.given.main
    assert.strictEqual(String(Array.isArray(row) ? row[1] : row), "5000000001")
  })

  test("never more than asked for, and nothing from behind what was left", async () => {
    await add(5)
    await read("a", 3)
    await run(Scripts.cede, claimed("a"))
    await claim("a")
    assert.deepStrictEqual(await drawn("a", { count: 2 }), { given: ["1-0", "2-0"], unread: [], suspects: false })
    assert.deepStrictEqual(await drawn("a", { count: 2 }), { given: ["3-0"], unread: ["4-0"], suspects: false })
    assert.deepStrictEqual(await drawn("a", { count: 2 }), { given: [], unread: ["5-0"], suspects: false })
  })

  test("bytes bound it; a first entry is taken whatever its size", async () => {
    await add(4)
    await read("a", 3)
    await run(Scripts.cede, claimed("a"))
    await claim("a")
    // 11 bytes each
    assert.deepStrictEqual(await drawn("a", { bytes: 1 }), { given: ["1-0"], unread: [], suspects: false })
    assert.deepStrictEqual(await drawn("a", { bytes: 12 }), { given: ["2-0", "3-0"], unread: [], suspects: false })
  })

  test("as many unread ones as asked for of each, and new ones only where no retry was left", async () => {
    await add(3)
    await addRetry(1, "1-0", "2-0")
    assert.deepStrictEqual((await drawn("a", { retries: 1 })).unread, ["retry 1-0"])
    assert.deepStrictEqual((await drawn("a", { mains: 0 })).unread, ["retry 2-0"])
    assert.deepStrictEqual((await drawn("a", { mains: 0 })).unread, [])
    assert.deepStrictEqual((await drawn("a", { mains: 2 })).unread, ["1-0", "2-0"])
  })

  test("without the claim nothing is delivered, and nothing changes", async () => {
    await add(2)
    await read("a", 1)
    await run(Scripts.cede, claimed("a"))
    await claim("a")
    await join("b", { ordered: true })
    await claim("b").then((answer) => assert.strictEqual(answer, "taken"))
    await redis.hset(keys.state, "h:a", 5)
    await claim("b")
    const before = await everything()
    assert.strictEqual(await draw("a"), "lost")
    assert.deepStrictEqual(await everything(), before)
    assert.notStrictEqual(await draw("b"), "lost")
  })

  test("a reclaim from the owner ends its claim", async () => {
    await add(2)
    await drawn("a", { count: 1 })
    await redis.hdel(keys.state, "n:a")
    assert.strictEqual(await draw("a"), "lost")
  })

  test("drawing is a sign of life", async () => {
    await redis.hset(keys.state, "h:a", 5)
    await drawn("a")
    assert.approximately(Number((await state("h:"))["h:a"]), await now(), 500)
  })

  test("where a suspect waits, in either log, nothing is taken from behind it, nor it before what lies in front", async () => {
    await add(3)
    await addRetry(1, "1-0")
    await read("a", 2)
    await died("main", "1-0", 0)
    await died("main", "2-0", 2)
    assert.deepStrictEqual(await drawn("a", { alone: true }), { given: [], unread: [], suspects: false })
    assert.deepStrictEqual(await drawn("a"), { given: ["1-0"], unread: [], suspects: true })
    assert.deepStrictEqual(await drawn("a"), { given: [], unread: [], suspects: true })
    assert.deepStrictEqual(await drawn("a", { alone: true }), { given: ["2-0"], unread: [], suspects: false })
    await read("a", 1, "retry")
    await died("retry", "1-0", 2)
    assert.deepStrictEqual(await drawn("a"), { given: [], unread: [], suspects: true })
    assert.deepStrictEqual(await drawn("a", { alone: true }), { given: ["retry 1-0"], unread: [], suspects: false })
    assert.deepStrictEqual(await drawn("a"), { given: [], unread: ["3-0"], suspects: false })
  })

  test("alone takes one, and says whether more wait; without any, nothing", async () => {
    await add(3)
    await read("a", 2)
    await died("main", "1-0", 2)
    await died("main", "2-0", 2)
    assert.deepStrictEqual(await drawn("a", { alone: true }), { given: ["1-0"], unread: [], suspects: true })
    assert.deepStrictEqual(await drawn("a", { alone: true }), { given: ["2-0"], unread: [], suspects: false })
    assert.deepStrictEqual(await drawn("a", { alone: true }), { given: [], unread: [], suspects: false })
  })

  test("one whose next attempt is the last is a suspect once its consumer died", async () => {
    await addRetry(4, "1-0")
    await read("a", 1, "retry")
    await died("retry", "1-0", 1)
    assert.isTrue((await drawn("a", { maxAttempts: 6 })).suspects)
    assert.deepStrictEqual((await drawn("a", { maxAttempts: 7 })).given, ["retry 1-0"])
  })

  test("what was trimmed while it waited is settled and told", async () => {
    await add(2)
    await read("a", 2)
    await run(Scripts.cede, claimed("a"))
    await claim("a")
    await redis.xdel(keys.main, "1-0")
    const answer = await draw("a")
    assert.isTrue(typeof answer !== "string" && answer.trimmed === 1)
    assert.deepStrictEqual(await pending(keys.main, keys.mainGroup), [["2-0", "a", 1]])
  })

  test("the consumer that holds what waits for anybody goes when nothing does", async () => {
    await add(1)
    await read("a")
    await run(Scripts.cede, claimed("a"))
    await claim("a")
    await drawn("a")
    const names = (await redis.xinfo("CONSUMERS", keys.main, keys.mainGroup)) as ReadonlyArray<ReadonlyArray<unknown>>
    assert.deepStrictEqual(
      names.map((one) => one[1]),
      ["a"]
    )
  })

  test("a group that is gone is told", async () => {
    await redis.xgroup("DESTROY", keys.retry, keys.retryGroup)
    const before = await everything()
    assert.strictEqual(await draw("a"), "gone")
    assert.deepStrictEqual(await everything(), before)
    await redis.flushall()
    assert.strictEqual(await draw("a"), "lost")
    assert.deepStrictEqual(await redis.keys("*"), [])
  })

  test("works while memory is full", async () => {
    await add(3)
    await addRetry(1, "1-0")
    await read("a", 1)
    await run(Scripts.cede, claimed("a"))
    await claim("a")
    await fillMemory()
    assert.deepStrictEqual((await drawn("a")).unread, ["retry 1-0", "2-0", "3-0"])
  })

  test.each(["main", "retry", "state"] as const)(
    "a key of another type is refused before anything changes: %s",
    async (key) => {
      await add(1)
      await redis.del(keys[key])
      await redis.set(keys[key], "x")
      const before = await everything()
      assert.match(
        await refused(Scripts.draw, {
          ...claimed("a"),
          count: 1,
          bytes: 1,
          alone: false,
          maxAttempts: 6,
          retries: 1,
          mains: 1
        }),
        /WRONGTYPE/
      )
      assert.deepStrictEqual(await everything(), before)
    }
  )

  test("a retry of 4 MiB that came back from a worker that died does not stop its log", async () => {
    const clutch = JSON.stringify({ original: "1-0", attempt: 1, first: 5, key: "k" })
    await redis.xadd(keys.retry, "1-0", "data", `"${"x".repeat(4 * 1024 * 1024)}"`, "clutch", clutch)
    await add(1)
    const large = { bytes: 16 * 1024 * 1024 }
    const taken = await drawn("a", { ...large, retries: 1, mains: 0 })
    assert.deepStrictEqual(taken, { given: [], unread: ["retry 1-0"], suspects: false })
    await join("b", { ordered: true })
    await redis.hset(keys.state, "h:a", 5)
    await claim("b")
    assert.deepStrictEqual(await drawn("b", large), { given: ["retry 1-0"], unread: ["1-0"], suspects: false })
  })
})
