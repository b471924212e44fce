import * as Codec from "@clutch/redis/Codec"
import * as Scripts from "@clutch/redis/Scripts"
import * as Result from "effect/Result"
import { assert, describe, test } from "vitest"
import {
  add,
  dead,
  entries,
  everything,
  fillMemory,
  join,
  keys,
  now,
  read,
  redis,
  refused,
  run,
  rung,
  scored,
  useServer
} from "./harness.ts"

const redrive = (first: string, rest: ReadonlyArray<string> = [], delay = 0) =>
  run(Scripts.redrive, { keys, ids: [first, ...rest], delay })

/** Dead letters of the first entries of the main stream; their ids. */
const letters = async (n: number): Promise<ReadonlyArray<string>> => {
  await add(n)
  await join("a")
  for (const id of await read("a", n))
    await run(Scripts.fail, { keys, consumer: "a", origin: "main", failures: [dead(id)] })
  return (await entries(keys.deadLetters)).map(([id]) => id)
}

describe("redrive", () => {
  useServer()

  test("a dead letter becomes a retry of no attempts, of its original, at once, and rings", async () => {
    const [id = ""] = await letters(1)
    assert.isTrue(
      await rung(async () => {
        assert.deepStrictEqual(await redrive(id), { redriven: 1, processed: 1 })
      })
    )
    assert.strictEqual(await redis.xlen(keys.deadLetters), 0)
    const [stored] = await redis.xrangeBuffer(keys.retry, "-", "+")
    const fields = stored?.[1] ?? []
    assert.strictEqual(String(Codec.field(fields, "data")), '{"of":"1-0"}')
    assert.deepStrictEqual(Result.getOrThrow(Codec.retryMeta(fields)), {
      original: "1-0",
      attempt: 0,
      first: 1234,
      failed: undefined,
      cause: undefined,
      redriven: id,
      key: undefined
    })
  })

  test("with a delay it is due then, by the server's clock", async () => {
    const [id = ""] = await letters(1)
    const time = await now()
    assert.isTrue(await rung(() => redrive(id, [], 60_000)))
    assert.strictEqual(await redis.exists(keys.retry), 1) // the group's, and empty
    assert.strictEqual(await redis.xlen(keys.retry), 0)
    const [member, score] = await scored(keys.due)
    assert.approximately(Number(score), time + 60_000, 1000)
    const fields = Result.getOrThrow(Codec.parseNetstrings(member ?? Buffer.alloc(0)))
    assert.strictEqual(Result.getOrThrow(Codec.retryMeta(fields)).redriven, id)
  })

  test("ids that are not found are passed over, and twice is as good as once", async () => {
    const [first = "", second = ""] = await letters(2)
    assert.deepStrictEqual(await redrive("1-1", [first, "2-2", second]), { redriven: 2, processed: 4 })
    const before = await everything()
    assert.isFalse(
      await rung(async () => {
        assert.deepStrictEqual(await redrive(first, [second]), { redriven: 0, processed: 2 })
      })
    )
    assert.deepStrictEqual(await everything(), before)
  })

  test.each([undefined, "{", "[]", '{"original":7}', '{"original":"\\"}"}'])(
    "a foreign dead letter (clutch %j) is redriven as its own original, with its fields",
    async (clutch) => {
      const bytes = Buffer.from([0, 255])
      await redis.xadd(keys.deadLetters, "5-5", "x", bytes, ...(clutch === undefined ? [] : ["clutch", clutch]))
      assert.deepStrictEqual(await redrive("5-5"), { redriven: 1, processed: 1 })
      const [stored] = await redis.xrangeBuffer(keys.retry, "-", "+")
      assert.isTrue(stored?.[1][1]?.equals(bytes))
      assert.strictEqual(Result.getOrThrow(Codec.retryMeta(stored?.[1] ?? [])).original, "5-5")
    }
  )

  test("one of thousands of fields is not lost", async () => {
    await redis.xadd(keys.deadLetters, "5-5", ...Array.from({ length: 8000 }, (_, i) => `${i}`))
    assert.deepStrictEqual(await redrive("5-5"), { redriven: 1, processed: 1 })
    assert.deepInclude(await run(Scripts.tend, { keys, scan: false, cursor: undefined }), { poison: 1, moved: 0 })
  })

  test("moves bounded bytes a call, and says how far it came", async () => {
    for (let i = 1; i <= 6; i++) await redis.xadd(keys.deadLetters, `${i}-0`, "data", "x".repeat(1_500_000))
    const ids = ["2-0", "3-0", "4-0", "5-0", "6-0"]
    assert.deepStrictEqual(await redrive("1-0", ids), { redriven: 3, processed: 3 })
  })

  test("changes nothing where memory is full", async () => {
    const [id = ""] = await letters(1)
    await fillMemory()
    const before = await everything()
    for (const delay of [0, 1000]) {
      assert.match(await refused(Scripts.redrive, { keys, ids: [id], delay }), /OOM/)
    }
    assert.deepStrictEqual(await everything(), before)
  })

  test.each(["deadLetters", "due", "retry", "bell"] as const)(
    "changes nothing where %s is of another type",
    async (name) => {
      const [id = ""] = await letters(1)
      await redis.del(keys[name])
      await redis.sadd(keys[name], "x")
      const before = await everything()
      assert.match(await refused(Scripts.redrive, { keys, ids: [id], delay: 0 }), /^WRONGTYPE/)
      assert.deepStrictEqual(await everything(), before)
    }
  )
})
