import * as Codec from "@clutch/redis/Codec"
import * as Scripts from "@clutch/redis/Scripts"
import * as Result from "effect/Result"
import { assert, describe, test } from "vitest"
import {
  add,
  entries,
  everything,
  fillMemory,
  join,
  keys,
  now,
  read,
  redis,
  refused,
  retry,
  run,
  rung,
  useServer
} from "./harness.ts"
import { dies, quiet, tend } from "./tend.support.ts"

const dueMember = (text: string): Buffer => Codec.netstrings(["data", text, "clutch", '{"original":"1-0","attempt":1}'])

describe("tend moves what is due", () => {
  useServer()

  test("of a subscription that never was, it does nothing and creates nothing", async () => {
    assert.deepStrictEqual(await tend(), quiet)
    assert.deepStrictEqual(await everything(), [])
  })

  test("a replica refuses it, also where there is nothing to do: its answer would look like a recovery", async () => {
    await redis.replicaof("127.0.0.1", 1)
    assert.match(await refused(Scripts.tend, { keys, scan: true, cursor: undefined }), /^READONLY/)
    await redis.replicaof("NO", "ONE")
  })

  test("a retry goes to the retry stream when it is due, not before, and rings", async () => {
    await add(2)
    await join("a")
    await read("a")
    await run(Scripts.fail, { keys, consumer: "a", origin: "main", failures: [retry("1-0", 0), retry("2-0", 60_000)] })
    assert.isTrue(
      await rung(async () => {
        const { moved, next } = await tend({ scan: false })
        assert.strictEqual(moved, 1)
        assert.approximately(next ?? 0, 60_000, 1000)
      })
    )
    const [id] = await read("a", 9, "retry")
    const [stored] = await redis.xrangeBuffer(keys.retry, id ?? "", id ?? "")
    assert.strictEqual(String(Codec.field(stored?.[1] ?? [], "data")), '{"of":"1-0"}')
    assert.strictEqual(Result.getOrThrow(Codec.retryMeta(stored?.[1] ?? [])).original, "1-0")
    assert.strictEqual(await redis.zcard(keys.due), 1)
    assert.isFalse(await rung(tend))
  })

  test("in the order in which they are due", async () => {
    await redis.zadd(keys.due, 3, dueMember("c"), 1, dueMember("a"), 2, dueMember("b"))
    await tend()
    assert.deepStrictEqual(
      (await entries(keys.retry)).map(([, fields]) => fields["data"]),
      ["a", "b", "c"]
    )
  })

  test("any bytes arrive unchanged", async () => {
    const fields = [Buffer.from([0, 255]), Buffer.from([13, 10, 58, 44, 0]), Buffer.from("data"), Buffer.from("")]
    await redis.zadd(keys.due, 1, Codec.netstrings(fields))
    await tend()
    const [stored] = await redis.xrangeBuffer(keys.retry, "-", "+")
    assert.isTrue(fields.every((part, i) => stored?.[1][i]?.equals(part)))
  })

  test.each([
    ["", "an empty one"],
    ["garbage", "no netstrings"],
    ["4:data,", "one string"],
    ["4:data,1:", "cut"],
    ["4:data,9999999999:x,", "a length beyond its end"],
    ["4:data,99999999999999999999:x,", "an absurd length"],
    ["4:data;1:x,", "another separator"],
    ["-1:data,1:x,", "a negative length"]
  ])("a member %j (%s) becomes a poison dead letter, and those behind it flow", async (garbage) => {
    await redis.zadd(keys.due, 1, garbage, 2, dueMember("behind"))
    assert.deepInclude(await tend(), { moved: 1, poison: 1, problem: undefined })
    assert.strictEqual(await redis.zcard(keys.due), 0)
    const [letter] = await redis.xrangeBuffer(keys.deadLetters, "-", "+")
    assert.strictEqual(String(Codec.raw(letter?.[1] ?? [])), garbage)
    const meta = Result.getOrThrow(Codec.deadMeta(letter?.[1] ?? []))
    assert.strictEqual(meta.reason, "poison")
    assert.approximately(meta.failed ?? 0, await now(), 1000)
  })

  test("a member of thousands of fields becomes a poison dead letter with all its bytes", async () => {
    const huge = Codec.netstrings(Array.from({ length: 9000 }, (_, i) => `${i}`))
    await redis.zadd(keys.due, 1, huge)
    assert.deepInclude(await tend(), { moved: 0, poison: 1 })
    const [letter] = await redis.xrangeBuffer(keys.deadLetters, "-", "+")
    assert.isTrue(Codec.raw(letter?.[1] ?? []).equals(huge))
  })

  test("a member of as many fields as a command can take is moved", async () => {
    await redis.zadd(keys.due, 1, Codec.netstrings(Array.from({ length: 7000 }, (_, i) => `${i}`)))
    assert.deepInclude(await tend(), { moved: 1, poison: 0 })
    assert.strictEqual((await redis.xrange(keys.retry, "-", "+"))[0]?.[1].length, 7000)
  })

  test("scores that are no times neither stop it nor wake it", async () => {
    await redis.zadd(keys.due, "-inf", dueMember("a"), "inf", dueMember("z"), "1.5", dueMember("b"))
    assert.deepInclude(await tend(), { moved: 2, next: undefined, more: false })
  })

  test("moves a bounded number a call", async () => {
    for (let i = 0; i < 300; i++) await redis.zadd(keys.due, 1, dueMember(`${i}`))
    assert.deepInclude(await tend(), { moved: 256, more: true, next: 0 })
    assert.deepInclude(await tend(), { moved: 44, more: false })
  })

  test("moves bounded bytes a call", async () => {
    for (let i = 0; i < 8; i++) await redis.zadd(keys.due, 1, dueMember(`${i}`.repeat(1_000_000)))
    assert.deepInclude(await tend(), { moved: 5, more: true })
    assert.deepInclude(await tend(), { moved: 3, more: false })
  })

  test("works while memory is full: what is moved was stored before", async () => {
    await join("a")
    await redis.zadd(keys.due, 1, dueMember("a"), 2, "garbage")
    await fillMemory()
    assert.deepInclude(await tend(), { moved: 1, poison: 1, problem: undefined })
    assert.strictEqual(await redis.zcard(keys.due), 0)
  })

  test("an error of the server stops the moving, loses nothing, and not the rest", async () => {
    await add(1)
    await join("a", { visibilityTimeout: 1000 })
    await read("a")
    await dies("a", 2000, ["1-0"])
    await redis.zadd(keys.due, 1, dueMember("a"))
    // no id is greater than the last one
    await redis.xadd(keys.retry, "18446744073709551615-18446744073709551615", "data", "1")
    const { moved, next, problem, reclaimed } = await tend()
    // nor does it call for another try at once
    assert.deepStrictEqual([moved, reclaimed, next], [0, 1, undefined])
    assert.match(problem ?? "", /exhausted/)
    assert.strictEqual(await redis.zcard(keys.due), 1)
  })

  test.each(["main", "retry", "due", "deadLetters", "state", "bell"] as const)(
    "changes nothing where %s is of another type",
    async (name) => {
      await add(1)
      await join("a", { visibilityTimeout: 1000 })
      await read("a")
      await dies("a", 2000, ["1-0"])
      await redis.zadd(keys.due, 1, dueMember("a"))
      await redis.del(keys[name])
      await redis.sadd(keys[name], "x")
      const before = await everything()
      assert.match(await refused(Scripts.tend, { keys, scan: true, cursor: undefined }), /^WRONGTYPE/)
      assert.deepStrictEqual(await everything(), before)
    }
  )
})
