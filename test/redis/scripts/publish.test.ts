import * as Scripts from "@clutch/redis/Scripts"
import * as Duration from "effect/Duration"
import { assert, describe, test } from "vitest"
import { entries, everything, fillMemory, keys, now, redis, refused, run, told, useServer } from "./harness.ts"

const none = { maxLength: undefined, maxAge: undefined }

describe("publish", () => {
  useServer()

  test("stores a batch in order and answers with its ids", async () => {
    const result = await run(Scripts.publish, {
      keys,
      entries: [
        ["data", "1"],
        ["data", "2"]
      ],
      retention: none
    })
    assert.deepStrictEqual(await entries(keys.main), [
      [result.ids[0] ?? "", { data: "1" }],
      [result.ids[1] ?? "", { data: "2" }]
    ])
    assert.strictEqual(result.trimmed, 0)
  })

  test("entries of one batch may have different fields, in any order, with any bytes", async () => {
    const bytes = Buffer.from([0, 255, 10, 13, 44, 58])
    await run(Scripts.publish, {
      keys,
      entries: [
        ["data", "1"],
        ["data", "2", "ce", "{}"],
        ["ce", "x", "other", "y", "data", bytes]
      ],
      retention: none
    })
    const stored = await redis.xrangeBuffer(keys.main, "-", "+")
    assert.deepStrictEqual(
      stored.map(([, fields]) => fields.map(String)),
      [
        ["data", "1"],
        ["data", "2", "ce", "{}"],
        ["data", String(bytes), "ce", "x", "other", "y"]
      ]
    )
    assert.isTrue(stored[2]?.[1][1]?.equals(bytes))
  })

  test("values keep to themselves: a half of a character is no part of the next one's", async () => {
    const halves = [
      ["data", "a\ud83d", "ce", "\ude00ü"],
      ["data", "\ude00", "ce", "é"]
    ] as const
    await run(Scripts.publish, { keys, entries: halves, retention: none })
    assert.deepStrictEqual(
      (await entries(keys.main)).map(([, fields]) => fields),
      [
        { data: "a\ufffd", ce: "\ufffdü" },
        { data: "\ufffd", ce: "é" }
      ]
    )
  })

  test("an entry without a value does not tear a batch apart", async () => {
    const batch = [
      ["data", "1", "ce", "{}"],
      ["data", ""],
      ["data", "3"]
    ] as const
    await run(Scripts.publish, { keys, entries: batch, retention: none })
    assert.deepStrictEqual(
      (await entries(keys.main)).map(([, fields]) => fields["data"]),
      ["1", "", "3"]
    )
  })

  test("rings for what is new", async () => {
    const publish = () => run(Scripts.publish, { keys, entries: [["data", "1"]], retention: none })
    assert.strictEqual(await told(publish), "new")
  })

  test("trims to a length exactly, and counts what it dropped", async () => {
    const retention = { maxLength: 3, maxAge: undefined }
    const batch = (n: number) =>
      run(Scripts.publish, {
        keys,
        entries: [["data", "first"], ...Array.from({ length: n - 1 }, () => ["data", "x"])],
        retention
      })
    assert.strictEqual((await batch(2)).trimmed, 0)
    assert.strictEqual((await batch(4)).trimmed, 3)
    assert.strictEqual(await redis.xlen(keys.main), 3)
  })

  test("drops what is older than an age, by the server's clock", async () => {
    const time = await now()
    await redis.xadd(keys.main, `${time - 5000}-0`, "data", "old")
    await redis.xadd(keys.main, `${time - 100}-0`, "data", "young")
    const result = await run(Scripts.publish, {
      keys,
      entries: [["data", "new"]],
      retention: { maxLength: undefined, maxAge: Duration.seconds(2) }
    })
    assert.strictEqual(result.trimmed, 1)
    assert.deepStrictEqual(
      (await entries(keys.main)).map(([, fields]) => fields["data"]),
      ["young", "new"]
    )
  })

  test("an age beyond the epoch trims nothing", async () => {
    const result = await run(Scripts.publish, {
      keys,
      entries: [["data", "new"]],
      retention: { maxLength: undefined, maxAge: Duration.infinity }
    })
    assert.strictEqual(result.trimmed, 0)
  })

  test("stores nothing where memory is full", async () => {
    await fillMemory()
    const before = await everything()
    assert.match(await refused(Scripts.publish, { keys, entries: [["data", "1"]], retention: none }), /OOM/)
    assert.deepStrictEqual(await everything(), before)
  })

  test.each(["main", "bell"] as const)("changes nothing where %s is of another type, and names it", async (name) => {
    await redis.sadd(keys[name], "x")
    const before = await everything()
    const plain = ["data", "1"]
    for (const entries of [[plain], [plain, plain], [["data", "1", "ce", "{}"], plain]] as const) {
      const refusal = await refused(Scripts.publish, { keys, entries, retention: none })
      assert.match(refusal, /^WRONGTYPE/)
      assert.include(refusal, `${keys[name]} holds a set`)
      assert.deepStrictEqual(await everything(), before)
    }
  })

  test("1,000 entries are one call", async () => {
    const many = Array.from({ length: 999 }, (_, i) => ["data", `${i}`])
    const result = await run(Scripts.publish, { keys, entries: [["data", "first"], ...many], retention: none })
    assert.strictEqual(new Set(result.ids).size, 1000)
  })
})
