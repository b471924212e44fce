import * as Codec from "@clutch/redis/Codec"
import * as Scripts from "@clutch/redis/Scripts"
import * as Result from "effect/Result"
import { assert, describe, test } from "vitest"
import {
  add,
  addRetry,
  dead,
  entries,
  everything,
  fillMemory,
  idle,
  join,
  keys,
  now,
  pending,
  read,
  redis,
  refused,
  retry,
  run,
  rung,
  scored,
  useServer
} from "./harness.ts"

/** What the script answers; a dead letter's id must be one that is kept. */
const fail = async (
  consumer: string,
  failures: Scripts.Fail["failures"],
  origin: Scripts.Fail["origin"] = "main"
): Promise<ReadonlyArray<Scripts.Found | "dead">> => {
  const answers = await run(Scripts.fail, { keys, consumer, origin, failures })
  return Promise.all(
    answers.map(async (answer) => {
      if (typeof answer === "string") return answer
      assert.lengthOf(await redis.xrange(keys.deadLetters, answer.deadLetter, answer.deadLetter), 1)
      return "dead"
    })
  )
}

const due = async () => {
  const rows = await scored(keys.due)
  const members: Array<{ readonly fields: Codec.Fields; readonly at: number }> = []
  for (let i = 0; i < rows.length; i += 2) {
    const fields = Result.getOrThrow(Codec.parseNetstrings(rows[i] ?? Buffer.alloc(0)))
    members.push({ fields, at: Number(rows[i + 1]) })
  }
  return members
}

describe("fail", () => {
  useServer()

  test("a retry leaves the pending list and is due after its delay, by the server's clock", async () => {
    await add(2)
    await join("a")
    await read("a")
    const time = await now()
    assert.deepStrictEqual(await fail("a", [retry("1-0", 60_000, { first: time - 100_000 })]), ["done"])
    assert.deepStrictEqual(await pending(keys.main, keys.mainGroup), [["2-0", "a", 1]])
    const [one] = await due()
    assert.approximately(one?.at ?? 0, time + 60_000, 500)
    const fields = one?.fields ?? []
    assert.strictEqual(String(Codec.field(fields, "data")), `{"of":"1-0"}`)
    const meta = Result.getOrThrow(Codec.retryMeta(fields))
    assert.strictEqual(meta.original, "1-0")
    assert.strictEqual(meta.attempt, 1)
    assert.strictEqual(meta.cause, "no")
    assert.strictEqual(meta.first, time - 100_000)
    assert.strictEqual(meta.failed, (one?.at ?? 0) - 60_000)
  })

  test("a dead letter keeps the fields as they were, and says what became of it", async () => {
    await add(1)
    await join("a")
    await read("a")
    const time = await now()
    assert.deepStrictEqual(await fail("a", [dead("1-0")]), ["dead"])
    assert.deepStrictEqual(await pending(keys.main, keys.mainGroup), [])
    const [letter] = await redis.xrangeBuffer(keys.deadLetters, "-", "+")
    const fields = letter?.[1] ?? []
    assert.strictEqual(String(Codec.raw(fields)), `{"of":"1-0"}`)
    const { failed, ...meta } = Result.getOrThrow(Codec.deadMeta(fields))
    assert.deepStrictEqual(meta, {
      original: "1-0",
      reason: "exhausted",
      cause: 'said "no"',
      attempts: 6,
      from: keys.main,
      first: 1234,
      redriven: undefined
    })
    assert.approximately(failed ?? 0, time, 500)
  })

  test("a retry that fails again leaves the retry stream in the same step", async () => {
    await addRetry(1, "1-0", "2-0", "3-0")
    await join("a")
    await read("a", 10, "retry")
    assert.deepStrictEqual(await fail("a", [retry("1-0", 1000), dead("3-0")], "retry"), ["done", "dead"])
    assert.deepStrictEqual(
      (await entries(keys.retry)).map(([id]) => id),
      ["2-0"]
    )
    assert.deepStrictEqual(await pending(keys.retry, keys.retryGroup), [["2-0", "a", 1]])
  })

  test("any bytes travel unchanged, and a foreign field of our name is kept under another", async () => {
    await add(1)
    await join("a")
    await read("a")
    const bytes = Buffer.from([0, 1, 255, 44, 58, 10, 13])
    const fields = ["data", bytes, "clutch", "mine!", bytes, ""].map((_) => Buffer.from(_))
    const meta = { original: "1-0", attempt: 1, cause: '\u0000"\\\u2028ü', redriven: undefined }
    await fail("a", [retry("1-0", 5, { meta: Codec.openRetry("main", fields, meta) })])
    const [one] = await due()
    assert.isTrue(Codec.field(one?.fields ?? [], "data")?.equals(bytes))
    assert.strictEqual(String(Codec.field(one?.fields ?? [], "clutch.original")), "mine!")
    assert.strictEqual(Result.getOrThrow(Codec.retryMeta(one?.fields ?? [])).cause, meta.cause)
    assert.isTrue(one?.fields[2]?.equals(bytes))
  })

  test("an entry of nothing but a corrupt field becomes a dead letter of that", async () => {
    await redis.xadd(keys.retry, "1-0", "clutch", "{")
    await join("a")
    await read("a", 1, "retry")
    const fields = [Buffer.from("clutch"), Buffer.from("{")]
    const meta = Codec.openDead("retry", fields, {
      original: "1-0",
      reason: "poison",
      cause: "x",
      attempts: 1,
      from: keys.retry,
      redriven: undefined
    })
    await fail("a", [dead("1-0", { meta })], "retry")
    const [, stored] = (await entries(keys.deadLetters))[0] ?? ["", {}]
    assert.strictEqual(stored?.["clutch.original"], "{")
    assert.include(stored?.["clutch"], '"poison"')
  })

  test("an entry of thousands of fields becomes a dead letter of one, with all its bytes", async () => {
    const many = Array.from({ length: 8000 }, (_, i) => `f${i}`)
    await redis.xadd(keys.main, "1-0", ...many)
    await join("a")
    await read("a")
    const fields = many.map((_) => Buffer.from(_))
    const meta = Codec.openDead("main", fields, {
      original: "1-0",
      reason: "poison",
      cause: "x",
      attempts: 1,
      from: keys.main,
      redriven: undefined
    })
    assert.deepStrictEqual(await fail("a", [dead("1-0", { meta })]), ["dead"])
    const [, stored] = (await entries(keys.deadLetters))[0] ?? ["", {}]
    assert.strictEqual(stored?.["fields"], String(Codec.netstrings(fields)))
  })

  test("an entry that was trimmed in flight is stored from the caller's copy", async () => {
    await add(2)
    await join("a")
    await read("a")
    await redis.xtrim(keys.main, "MAXLEN", 0)
    assert.deepStrictEqual(await fail("a", [retry("1-0", 5), dead("2-0")]), ["done", "dead"])
    assert.strictEqual((await due()).length, 1)
    assert.strictEqual(await redis.xlen(keys.deadLetters), 1)
    assert.deepStrictEqual(await pending(keys.main, keys.mainGroup), [])
  })

  test("what is another's, was delivered again or is not pending is not stored", async () => {
    await add(4)
    await join("a")
    await join("b")
    await read("a", 2)
    await read("b", 1)
    await redis.xclaim(keys.main, keys.mainGroup, "a", 0, "2-0", "RETRYCOUNT", 2, "JUSTID")
    const found = await fail("a", [retry("4-0", 5), dead("3-0"), retry("2-0", 5), retry("1-0", 5)])
    assert.deepStrictEqual(found, ["gone", "other", "other", "done"])
    assert.strictEqual((await due()).length, 1)
    assert.strictEqual(await redis.exists(keys.deadLetters), 0)
    assert.strictEqual((await pending(keys.main, keys.mainGroup)).length, 2)
  })

  test("what was reclaimed meanwhile is not stored", async () => {
    await add(1)
    await join("a", { visibilityTimeout: 1000 })
    await read("a")
    await idle("main", "a", 2000, "1-0")
    await run(Scripts.tend, { keys, scan: true, cursor: undefined })
    const before = await everything()
    assert.deepStrictEqual(await fail("a", [retry("1-0", 5)]), ["other"])
    assert.deepStrictEqual(await everything(), before)
  })

  test("twice is as good as once", async () => {
    await add(2)
    await join("a")
    await read("a")
    await fail("a", [retry("1-0", 5), dead("2-0")])
    const before = await everything()
    assert.deepStrictEqual(await fail("a", [retry("1-0", 5), dead("2-0")]), ["gone", "gone"])
    assert.deepStrictEqual(await everything(), before)
  })

  test("without a group or a stream nothing is pending, and nothing is stored", async () => {
    assert.deepStrictEqual(await fail("a", [retry("1-0", 5)]), ["gone"])
    await add(1)
    assert.deepStrictEqual(await fail("a", [dead("1-0")]), ["gone"])
    assert.deepStrictEqual(await redis.keys("*"), [keys.main])
  })

  test("rings when the earliest retry is nearer than before, and only then", async () => {
    await add(4)
    await join("a")
    await read("a")
    assert.isTrue(await rung(() => fail("a", [retry("1-0", 60_000)])))
    assert.isFalse(await rung(() => fail("a", [retry("2-0", 90_000)])))
    assert.isTrue(await rung(() => fail("a", [retry("3-0", 0)])))
    assert.isFalse(await rung(() => fail("a", [dead("4-0")])))
  })

  test("rings for the nearest of a batch, wherever it stands", async () => {
    await add(5)
    await join("a")
    await read("a")
    await fail("a", [retry("1-0", 60_000)])
    assert.isTrue(await rung(() => fail("a", [retry("2-0", 30_000), retry("3-0", 90_000)])))
    assert.isTrue(await rung(() => fail("a", [retry("4-0", 90_000), retry("5-0", 1000)])))
  })

  test("absurd delays keep their order and their digits", async () => {
    await add(2)
    await join("a")
    await read("a")
    await fail("a", [retry("1-0", Infinity), retry("2-0", 1e13)])
    const rows = await due()
    assert.isBelow(rows[0]?.at ?? 0, rows[1]?.at ?? 0)
    const { failed } = Result.getOrThrow(Codec.retryMeta(rows[1]?.fields ?? []))
    assert.strictEqual(rows[1]?.at, 1e14 + (failed ?? 0))
  })

  test.each([
    ["retries", [retry("1-0", 5), dead("2-0")] as const],
    ["dead letters", [dead("1-0"), retry("2-0", 5)] as const]
  ])("changes nothing where memory is full (%s first)", async (_, failures) => {
    await add(2)
    await join("a")
    await read("a")
    await fillMemory()
    const before = await everything()
    assert.match(await refused(Scripts.fail, { keys, consumer: "a", origin: "main", failures }), /OOM/)
    assert.deepStrictEqual(await everything(), before)
  })

  test.each(["main", "due", "deadLetters", "bell"] as const)(
    "changes nothing where %s is of another type",
    async (name) => {
      await add(2)
      await join("a")
      await read("a")
      await redis.del(keys[name])
      await redis.sadd(keys[name], "x")
      const before = await everything()
      const failures = [retry("1-0", 5), dead("2-0")] as const
      assert.match(await refused(Scripts.fail, { keys, consumer: "a", origin: "main", failures }), /^WRONGTYPE/)
      assert.deepStrictEqual(await everything(), before)
    }
  )

  test("1,000 failures are one call", async () => {
    await add(Scripts.maxIds)
    await join("a")
    const [first = "", ...rest] = await read("a", Scripts.maxIds)
    const found = await fail("a", [dead(first), ...rest.map((id) => retry(id, 5))])
    assert.deepStrictEqual(found, ["dead", ...rest.map(() => "done" as const)])
    assert.strictEqual(await redis.zcard(keys.due), Scripts.maxIds - 1)
  })

  test("where the dead letters can have no further entry, nothing is stored, however often it is asked for", async () => {
    await add(2)
    await join("a")
    await read("a")
    const last = "18446744073709551615"
    await redis.xadd(keys.deadLetters, `${last}-${last}`, "data", "1")
    const before = await everything()
    const failures = [retry("1-0", 1000), dead("2-0")] as const
    for (let i = 0; i < 2; i++) {
      assert.match(await refused(Scripts.fail, { keys, consumer: "a", origin: "main", failures }), /exhausted.*dlq/)
    }
    assert.deepStrictEqual(await everything(), before)
  })
})
