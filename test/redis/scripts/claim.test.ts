import * as Scripts from "@clutch/redis/Scripts"
import { assert, beforeEach, describe, test } from "vitest"
import {
  add,
  addRetry,
  claim,
  claimed,
  everything,
  fillMemory,
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
  useServer,
  told
} from "./harness.ts"

const worker = (name: string, options: Partial<Scripts.Join> = {}) => join(name, { ordered: true, ...options })

/** The how-manieth claim of the server this is: fences are turned into ranks. */
const fences: Array<number> = []
const fenceOf = async (consumer: string, nonce?: string) => {
  const answer = await claim(consumer, nonce)
  if (typeof answer === "string") return answer
  const known = fences.indexOf(answer.fence)
  if (known >= 0) return known + 1
  assert.isTrue(
    fences.every((fence) => fence < answer.fence),
    "a fence that does not grow"
  )
  return fences.push(answer.fence)
}
beforeEach(() => {
  fences.length = 0
})

/** Whether the owners' bell was rung while `effect` ran. */
const rungOwners = async (effect: () => Promise<unknown>) => (await told(effect, keys.owners)) !== null

describe("roster", () => {
  useServer()

  const roster = (consumer: string, nonce = `claim-of-${consumer}`) => run(Scripts.roster, claimed(consumer, nonce))

  test("names those that live, by their own timeouts, and shows that the asking one does", async () => {
    await worker("a", { visibilityTimeout: 60_000 })
    await worker("b", { visibilityTimeout: 1000 })
    await worker("c", { visibilityTimeout: 1000 })
    await redis.hset(keys.state, "h:a", (await now()) - 2000, "h:b", (await now()) - 2000, "h:c", 5)
    const found = await roster("c")
    assert.sameMembers([...(found?.workers ?? [])], ["a", "c"])
    assert.isUndefined(found?.owner)
    assert.approximately(Number((await state("h:c"))["h:c"]), await now(), 500)
  })

  test("names the owner while its lease lasts, and for how long", async () => {
    await worker("a", { visibilityTimeout: 5000 })
    await worker("b")
    await claim("a")
    const found = await roster("b")
    assert.strictEqual(found?.owner?.name, "a")
    assert.approximately(found?.owner?.expires ?? 0, 5000, 500)
    await redis.hset(keys.state, "h:a", (await now()) - 5001)
    assert.isUndefined((await roster("b"))?.owner)
  })

  test("an owner that asks lives", async () => {
    await worker("a", { visibilityTimeout: 5000 })
    await claim("a")
    await redis.hset(keys.state, "h:a", (await now()) - 9000)
    assert.approximately((await roster("a"))?.owner?.expires ?? 0, 5000, 500)
  })

  test("a claim of its name that it does not know ends, and the others are told", async () => {
    await add(1)
    await worker("a")
    await worker("b")
    await claim("a", "of-a-process-that-died")
    await read("a")
    assert.isTrue(
      await rungOwners(async () => {
        assert.isUndefined((await roster("a", ""))?.owner)
      })
    )
    assert.isFalse(await rungOwners(() => roster("a", "")))
    assert.strictEqual(await fenceOf("b"), 1)
    assert.strictEqual((await roster("a", ""))?.owner?.name, "b")
    assert.deepStrictEqual(await pending(keys.main, keys.mainGroup), [["1-0", "-released", 1]])
  })

  test("a group that is gone, or a worker that was removed, is to join again", async () => {
    await worker("a")
    assert.isUndefined(await roster("stranger"))
    assert.deepStrictEqual(await state("h:stranger"), {})
    await redis.xgroup("DESTROY", keys.retry, keys.retryGroup)
    assert.isUndefined(await roster("a"))
    await worker("a", { mode: "again" })
    assert.isDefined(await roster("a"))
    await redis.flushall()
    assert.isUndefined(await roster("a"))
    assert.deepStrictEqual(await redis.keys("*"), [])
  })

  test("a name that is nobody's, since who took it was undone, is that of whoever lives by it", async () => {
    const named = (holder: string, options: Partial<Scripts.Join> = {}) =>
      worker("a", { nonce: holder, holder, visibilityTimeout: 5000, ...options })
    await add(1)
    await named("one")
    await claim("a")
    await read("a")
    await redis.hset(keys.state, "h:a", (await now()) - 5001)
    await named("two")
    await run(Scripts.rollback, { ...member("a"), nonce: "two", ordered: true })
    assert.isUndefined((await state())["j:a"])
    assert.isDefined(await run(Scripts.roster, { ...claimed("a", ""), holder: "one" }))
    await redis.hdel(keys.state, "j:a")
    assert.isTrue((await named("three")).taken)
    assert.notStrictEqual(await run(Scripts.claim, { ...claimed("a", "again"), holder: "one" }), "gone")
    assert.match((await state())["j:a"] ?? "", /^one /)
    assert.isTrue((await named("three")).taken)
  })

  test("an attempt that was undone is in nobody's way, though the name was known before", async () => {
    const named = (holder: string) => worker("a", { nonce: holder, holder, visibilityTimeout: 5000 })
    await add(1)
    await named("one")
    await claim("a")
    await read("a")
    await redis.hset(keys.state, "h:a", (await now()) - 5001)
    for (const holder of ["two", "three"]) {
      assert.isFalse((await named(holder)).taken, holder)
      await run(Scripts.rollback, { ...member("a"), nonce: holder, ordered: true })
    }
    assert.isFalse((await named("four")).taken)
  })

  test("a worker whose name is another's leaves nothing of that one's, though nobody has a nonce", async () => {
    await worker("a", { nonce: "one", holder: "one" })
    await redis.hset(keys.state, "h:a", 5)
    await worker("a", { nonce: "two", holder: "two" })
    await worker("b")
    await claim("b")
    const before = await everything()
    const left = await run(Scripts.leave, { ...member("a"), nonce: "one", ordered: true, holder: "one" })
    assert.deepStrictEqual(left, { released: 0, trimmed: 0, more: false, removed: true })
    assert.deepStrictEqual(await everything(), before)
  })

  test("a worker that rests is none to the others, and keeps what it owns, until it asks who is there", async () => {
    await worker("a")
    await worker("b")
    await claim("a")
    await run(Scripts.rest, { keys, consumer: "a" })
    const seen = await run(Scripts.roster, claimed("b", ""))
    assert.deepStrictEqual([seen?.workers, seen?.owner?.name], [["b"], "a"])
    const again = await run(Scripts.roster, claimed("a", "claim-of-a"))
    assert.sameMembers([...(again?.workers ?? [])], ["a", "b"])
    assert.isUndefined((await state())["p:a"])
  })

  test("no worker rests by the name of another, or by none's", async () => {
    await worker("a", { nonce: "two", holder: "two" })
    const before = await everything()
    await run(Scripts.rest, { keys, consumer: "a", holder: "one" })
    await run(Scripts.rest, { keys, consumer: "unknown" })
    assert.deepStrictEqual(await everything(), before)
  })

  test("an owner's mark is none once its claim is over", async () => {
    const mark = (nonce: string, id: string) =>
      run(Scripts.mark, { ...claimed("a", nonce), origin: "main", started: id })
    await worker("a")
    await claim("a", "first")
    assert.isTrue(await mark("first", "1-0"))
    assert.strictEqual((await state())["m:a"], "1-0")
    await claim("a", "second")
    assert.isFalse(await mark("first", "2-0"))
    assert.isUndefined((await state())["m:a"])
    assert.isTrue(await mark("second", "3-0"))
    assert.strictEqual((await state())["m:a"], "3-0")
    // as a reclaim does
    await redis.hdel(keys.state, "n:a")
    assert.isFalse(await mark("second", "4-0"))
    assert.strictEqual((await state())["m:a"], "3-0")
  })

  test("a worker whose name is another's is to join again, and ends nothing", async () => {
    await worker("a", { nonce: "two", holder: "two" })
    await claim("a")
    const before = await everything()
    assert.isUndefined(await run(Scripts.roster, { ...claimed("a", ""), holder: "one" }))
    assert.strictEqual(await run(Scripts.claim, { ...claimed("a", "another"), holder: "one" }), "gone")
    assert.deepStrictEqual(await everything(), before)
    assert.strictEqual((await run(Scripts.roster, { ...claimed("a"), holder: "two" }))?.owner?.name, "a")
  })

  test("works while memory is full, and leaves keys of another type alone", async () => {
    await worker("a")
    await redis.hset(keys.state, "h:a", 5)
    await fillMemory()
    assert.deepStrictEqual((await roster("a"))?.workers, ["a"])
    await redis.config("SET", "maxmemory", "0")
    await redis.del(keys.retry)
    await redis.set(keys.retry, "x")
    const before = await everything()
    assert.match(await refused(Scripts.roster, claimed("a")), /WRONGTYPE.*retry/)
    assert.deepStrictEqual(await everything(), before)
  })
})

describe("claim", () => {
  useServer()

  test("a log has one owner: another is refused while its lease lasts", async () => {
    await worker("a", { visibilityTimeout: 5000 })
    await worker("b")
    assert.strictEqual(await fenceOf("a"), 1)
    assert.strictEqual(await fenceOf("b"), "taken")
    assert.strictEqual((await state("owner"))["owner"], "a claim-of-a")
    await redis.hset(keys.state, "h:a", (await now()) - 5001)
    assert.strictEqual(await fenceOf("b"), 2)
    assert.strictEqual(await fenceOf("a"), "taken")
  })

  test("the fence only grows, whatever becomes of workers", async () => {
    await worker("a")
    assert.strictEqual(await fenceOf("a", "1"), 1)
    await run(Scripts.cede, claimed("a", "1"))
    await run(Scripts.leave, { ...claimed("a", "1"), ordered: true })
    await worker("b", { nonce: "j" })
    assert.strictEqual(await fenceOf("b", "2"), 2)
    await redis.hset(keys.state, "h:b", 5)
    await run(Scripts.tend, { keys, scan: true, cursor: undefined })
    await redis.xgroup("DESTROY", keys.main, keys.mainGroup)
    await worker("c")
    assert.strictEqual(await fenceOf("c", "3"), 3)
  })

  test("the fence grows also where the last one was lost, or the server's clock went back", async () => {
    await worker("a")
    assert.strictEqual(await fenceOf("a", "1"), 1)
    const claimedAt = await now()
    await redis.flushall()
    while ((await now()) <= claimedAt) await worker("a")
    await worker("a")
    assert.strictEqual(await fenceOf("a", "2"), 2)
    const ahead = (await now()) + 60_000
    await redis.hset(keys.state, "fence", ahead)
    assert.deepInclude(await claim("a", "3"), { fence: ahead + 1 })
  })

  test("a repeated call goes on with the same claim", async () => {
    await worker("a")
    assert.strictEqual(await fenceOf("a"), 1)
    assert.strictEqual(await fenceOf("a"), 1)
  })

  test("the same worker may claim anew: what it held before is taken from it", async () => {
    await add(2)
    await worker("a")
    await claim("a", "1")
    await read("a")
    assert.strictEqual(await fenceOf("a", "2"), 1)
    assert.deepStrictEqual(await pending(keys.main, keys.mainGroup), [
      ["1-0", "-released", 1],
      ["2-0", "-released", 1]
    ])
  })

  test("every other nonce goes, in the step that claims", async () => {
    await worker("a")
    await worker("b")
    await claim("b")
    assert.deepStrictEqual(await state("n:"), { "n:b": "claim-of-b" })
  })

  test("what anybody holds is taken, whatever its age, and counts unless its mark says that it had not started", async () => {
    await add(4)
    await addRetry(1, "1-0", "2-0")
    for (const name of ["a", "b", "c"]) await worker(name)
    await read("a", 3)
    await read("b", 1)
    await read("b", 2, "retry")
    await run(Scripts.mark, { keys, consumer: "a", origin: "main", started: "1-0" })
    await run(Scripts.mark, { keys, consumer: "b", origin: "retry", started: "1-0" })
    const answer = await claim("c")
    assert.deepInclude(answer, { reclaimed: 6, trimmed: 0 })
    assert.deepStrictEqual(await pending(keys.main, keys.mainGroup), [
      ["1-0", "-released", 1],
      ["2-0", "-released", 0],
      ["3-0", "-released", 0],
      ["4-0", "-released", 1]
    ])
    assert.deepStrictEqual(await pending(keys.retry, keys.retryGroup), [
      ["1-0", "-released", 1],
      ["2-0", "-released", 0]
    ])
    assert.deepStrictEqual(await state("m:"), {})
    assert.deepStrictEqual(await state("r:"), {})
  })

  test("of an owner, only what its mark names counts", async () => {
    await add(3)
    await addRetry(1, "1-0", "2-0")
    await worker("a")
    await claim("a")
    await read("a", 3)
    await read("a", 2, "retry")
    await run(Scripts.mark, { ...claimed("a", "claim-of-a"), origin: "main", started: ["1-0", "3-0"] })
    await run(Scripts.mark, { ...claimed("a", "claim-of-a"), origin: "retry", started: [] })
    await claim("a", "another")
    assert.deepStrictEqual(await pending(keys.main, keys.mainGroup), [
      ["1-0", "-released", 1],
      ["2-0", "-released", 0],
      ["3-0", "-released", 1]
    ])
    assert.deepStrictEqual(await pending(keys.retry, keys.retryGroup), [
      ["1-0", "-released", 0],
      ["2-0", "-released", 0]
    ])
  })

  test("what waits for anybody already is left as it is", async () => {
    await add(1)
    await worker("a")
    await worker("b")
    await read("a")
    await run(Scripts.release, { keys, consumer: "a", origin: "main", held: [{ id: "1-0", count: 1 }] })
    await claim("b")
    assert.deepStrictEqual(await pending(keys.main, keys.mainGroup), [["1-0", "-released", 0]])
  })

  test("much is taken in steps, and marks count to the last", async () => {
    await redis.eval(`for i = 1, 2500 do redis.call("XADD", KEYS[1], i .. "-0", "data", "1") end`, 1, keys.main)
    await worker("a")
    await worker("b")
    await read("a", 2500)
    await run(Scripts.mark, { keys, consumer: "a", origin: "main", started: "2-0" })
    const steps: Array<number> = []
    const same = new Set<number>()
    for (;;) {
      const answer = await run(Scripts.claim, claimed("b"))
      if (typeof answer === "string") return assert.fail(answer)
      steps.push(answer.reclaimed)
      same.add(answer.fence)
      if (!answer.more) break
    }
    assert.deepStrictEqual(steps, [1000, 1000, 500])
    assert.strictEqual(same.size, 1)
    const rows = await pending(keys.main, keys.mainGroup)
    assert.lengthOf(rows, 2500)
    assert.isTrue(
      rows.every(([id, consumer, count]) => consumer === "-released" && count === (Number.parseInt(id) <= 2 ? 1 : 0))
    )
  })

  test("trimmed deliveries are settled and told", async () => {
    await add(2)
    await worker("a")
    await worker("b")
    await read("a")
    await redis.xdel(keys.main, "1-0")
    assert.deepInclude(await claim("b"), { reclaimed: 1, trimmed: 1 })
    assert.deepStrictEqual(await pending(keys.main, keys.mainGroup), [["2-0", "-released", 1]])
  })

  test("claiming is told to the other workers, and being refused is not", async () => {
    await worker("a")
    await worker("b")
    assert.isTrue(await rungOwners(() => claim("a")))
    assert.isFalse(await rungOwners(() => claim("b")))
    assert.isFalse(await rungOwners(() => claim("a")))
  })

  test("a group that is gone, or a worker that was removed, is to join again", async () => {
    await worker("a")
    assert.strictEqual(await claim("stranger"), "gone")
    await redis.del(keys.retry)
    assert.strictEqual(await claim("a"), "gone")
    assert.deepStrictEqual(await state("owner"), {})
  })

  test("works while memory is full, and leaves keys of another type, or a fence that is none, alone", async () => {
    await add(1)
    await worker("a")
    await worker("b")
    await read("a")
    await fillMemory()
    assert.strictEqual(await fenceOf("b"), 1)
    await redis.config("SET", "maxmemory", "0")
    await run(Scripts.cede, claimed("b"))
    await redis.hset(keys.state, "fence", "many")
    const before = await everything()
    assert.match(await refused(Scripts.claim, claimed("a")), /WRONGTYPE.*fence/)
    assert.deepStrictEqual(await everything(), before)
    await redis.hdel(keys.state, "fence")
    await redis.del(keys.owners)
    await redis.sadd(keys.owners, "x")
    const then = await everything()
    assert.match(await refused(Scripts.claim, claimed("a")), /WRONGTYPE.*owners/)
    assert.deepStrictEqual(await everything(), then)
  })

  test("a reclaim of what the same name held before does not end the claim", async () => {
    await add(1)
    await worker("a", { visibilityTimeout: 1000 })
    await read("a")
    await idle("main", "a", 5000, "1-0")
    await run(Scripts.claim, claimed("a"))
    await redis.hdel(keys.state, "n:a")
    assert.strictEqual(await fenceOf("a"), 1)
    assert.deepStrictEqual(await state("n:"), { "n:a": "claim-of-a" })
  })
})

describe("cede", () => {
  useServer()

  const cede = (consumer: string, nonce?: string) => run(Scripts.cede, claimed(consumer, nonce))

  test("gives back at no cost what is held, and the log, and tells both", async () => {
    await add(2)
    await addRetry(1, "1-0")
    await worker("a")
    await worker("b")
    await claim("a")
    await read("a")
    await read("a", 1, "retry")
    await redis.del(keys.bell)
    assert.isTrue(
      await rungOwners(async () => {
        assert.deepStrictEqual(await cede("a"), { released: 3, trimmed: 0, more: false })
      })
    )
    assert.strictEqual(await redis.get(keys.bell), "given")
    assert.deepStrictEqual(await pending(keys.main, keys.mainGroup), [
      ["1-0", "-released", 0],
      ["2-0", "-released", 0]
    ])
    assert.deepStrictEqual(await pending(keys.retry, keys.retryGroup), [["1-0", "-released", 0]])
    assert.deepStrictEqual(await state("owner"), {})
    assert.deepStrictEqual(await state("n:"), {})
    assert.strictEqual(await fenceOf("b"), 1)
  })

  test("gives back nothing of a later claim, also of the same worker", async () => {
    await add(1)
    await worker("a")
    await claim("a", "1")
    await claim("a", "2")
    await read("a")
    const before = await everything()
    assert.deepStrictEqual(await cede("a", "1"), { released: 0, trimmed: 0, more: false })
    assert.deepStrictEqual(await everything(), before)
  })

  test("from its first step on nothing is fetched under the claim, and the log is given back last", async () => {
    await redis.eval(`for i = 1, 1500 do redis.call("XADD", KEYS[1], i .. "-0", "data", "1") end`, 1, keys.main)
    await worker("a")
    await worker("b")
    await claim("a")
    await read("a", 1500)
    assert.deepStrictEqual(await cede("a"), { released: 1000, trimmed: 0, more: true })
    assert.deepStrictEqual(await state("n:"), {})
    assert.strictEqual(await fenceOf("b"), "taken")
    assert.deepStrictEqual(await cede("a"), { released: 500, trimmed: 0, more: false })
    assert.deepStrictEqual(await cede("a"), { released: 0, trimmed: 0, more: false })
    assert.strictEqual(await fenceOf("b"), 1)
  })

  test("an owner whose nonce a reclaim took still cedes", async () => {
    await add(1)
    await worker("a")
    await claim("a")
    await read("a")
    await redis.hdel(keys.state, "n:a")
    assert.deepStrictEqual(await cede("a"), { released: 1, trimmed: 0, more: false })
    assert.deepStrictEqual(await state("owner"), {})
  })

  test("works while memory is full; trimmed entries are settled and told; keys of another type stop it", async () => {
    await add(2)
    await worker("a")
    await claim("a")
    await read("a")
    await redis.xdel(keys.main, "1-0")
    await redis.del(keys.bell)
    await redis.rpush(keys.bell, "x")
    const before = await everything()
    assert.match(await refused(Scripts.cede, claimed("a")), /WRONGTYPE.*bell/)
    assert.deepStrictEqual(await everything(), before)
    await redis.del(keys.bell)
    await fillMemory()
    assert.deepStrictEqual(await cede("a"), { released: 1, trimmed: 1, more: false })
  })
})

describe("workers of an ordered group", () => {
  useServer()

  test("coming and going are told to the others; a consumer's are not", async () => {
    await join("plain")
    assert.strictEqual(await redis.exists(keys.owners), 0)
    assert.isTrue(await rungOwners(() => worker("a")))
    assert.isTrue(await rungOwners(() => run(Scripts.leave, { ...claimed("a", "nonce-of-a"), ordered: true })))
    assert.isFalse(await rungOwners(() => run(Scripts.leave, claimed("plain", "nonce-of-plain"))))
  })

  test("enrolling that is undone leaves nothing; where others are there, they are told", async () => {
    await worker("a")
    await run(Scripts.rollback, { ...claimed("a", "nonce-of-a"), ordered: true })
    assert.deepStrictEqual(await redis.keys("*"), [])
    await worker("a")
    await worker("b")
    assert.isTrue(await rungOwners(() => run(Scripts.rollback, { ...claimed("b", "nonce-of-b"), ordered: true })))
    assert.strictEqual(await redis.exists(keys.owners), 1)
  })

  test("one that is removed as dead loses the log with all that is known of it", async () => {
    await worker("a", { visibilityTimeout: 1000 })
    await claim("a")
    await redis.hset(keys.state, "h:a", 5)
    // no server waits five minutes for a test: as one that never was in the groups
    await redis.xgroup("DELCONSUMER", keys.main, keys.mainGroup, "a")
    await redis.xgroup("DELCONSUMER", keys.retry, keys.retryGroup, "a")
    await run(Scripts.tend, { keys, scan: true, cursor: undefined })
    assert.deepStrictEqual(Object.keys(await state()).toSorted(), ["fence", "position"])
  })
})
