import * as Codec from "@clutch/redis/Codec"
import * as Scripts from "@clutch/redis/Scripts"
import * as Result from "effect/Result"
import { assert, beforeEach, describe, test } from "vitest"
import {
  add,
  blocked,
  claim,
  claimed,
  drawn,
  entries,
  everything,
  fillMemory,
  fronts,
  join,
  keys,
  now,
  order,
  ordered,
  orderedDead,
  orderedRetry,
  park,
  parked,
  pending,
  redis,
  refused,
  run,
  rung,
  scored,
  settled,
  state,
  useServer,
  told
} from "./harness.ts"
import { tend } from "./tend.support.ts"

const ack: Scripts.Move = { to: "ack" }
const release: Scripts.Move = { to: "release" }

describe("order", () => {
  useServer()

  beforeEach(async () => {
    await join("a", { ordered: true })
    await claim("a")
  })

  /** `n` messages of one key of which the first failed and the others are parked; the first is back as a retry, held. */
  const chain = async (n: number) => {
    await add(n)
    await drawn("a")
    await settled("a", ordered("1-0", orderedRetry("1-0", 0)))
    for (let i = 2; i <= n; i++) await settled("a", ordered(`${i}-0`, park(`${i}-0`)))
    await tend({ scan: false })
    return front()
  }

  /** The id that the next retry is delivered under. */
  const front = async () => {
    const { unread } = await drawn("a")
    assert.lengthOf(unread, 1)
    return unread[0]?.replace("retry ", "") ?? ""
  }

  const ofRetry = (id: string, move: Scripts.Move, options: Partial<Scripts.Ordered> = {}) =>
    ordered(id, move, { origin: "retry", ...options })

  describe("a message that fails", () => {
    test("holds its key back from then on, scored by its own time", async () => {
      await add(2)
      await drawn("a")
      const time = await now()
      assert.deepStrictEqual(await settled("a", ordered("2-0", orderedRetry("2-0", 60_000))), ["done"])
      assert.deepStrictEqual(await blocked(), ["k", "2"])
      const [member, score] = await scored(keys.due)
      assert.approximately(Number(score), time + 60_000, 500)
      const fields = Result.getOrThrow(Codec.parseNetstrings(member ?? Buffer.alloc(0)))
      const { failed, ...meta } = Result.getOrThrow(Codec.retryMeta(fields))
      assert.deepStrictEqual(meta, {
        original: "2-0",
        attempt: 1,
        first: 1234,
        cause: undefined,
        redriven: undefined,
        key: "k"
      })
      assert.approximately(failed ?? 0, time, 500)
      assert.deepStrictEqual(await pending(keys.main, keys.mainGroup), [["1-0", "a", 1]])
    })

    test("without a key it is a retry like any other", async () => {
      await add(1)
      await drawn("a")
      const item = ordered("1-0", orderedRetry("1-0", 0, null), { key: undefined })
      assert.deepStrictEqual(await settled("a", item), ["done"])
      assert.deepStrictEqual(await blocked(), [])
      await tend({ scan: false })
      assert.deepStrictEqual(await fronts(), ["1-0 1 undefined"])
    })

    test("again, it goes on holding its key back", async () => {
      const id = await chain(3)
      assert.deepStrictEqual(
        await settled("a", ofRetry(id, orderedRetry("1-0", 60_000, "k", 2), { original: "1-0" })),
        ["done"]
      )
      assert.deepStrictEqual(await blocked(), ["k", "1"])
      assert.deepStrictEqual(await parked(), ["k 2-0", "k 3-0"])
      assert.strictEqual(await redis.xlen(keys.retry), 0)
      assert.strictEqual(await redis.zcard(keys.due), 1)
    })

    test("the bell rings where it is due before all others", async () => {
      await add(2)
      await drawn("a")
      assert.strictEqual(await told(() => settled("a", ordered("1-0", orderedRetry("1-0", 60_000)))), "due")
      assert.isFalse(await rung(() => settled("a", ordered("2-0", orderedRetry("2-0", 90_000)))))
    })
  })

  describe("a parked message", () => {
    test("waits behind its key's, in the order of ids, whatever the order of parking and the size of ids", async () => {
      for (const id of ["7-0", "7-9", "7-10", "10-0", "1700000000000-5"]) await redis.xadd(keys.main, id, "data", "1")
      await drawn("a")
      await settled("a", ordered("7-0", orderedRetry("7-0", 60_000)))
      for (const id of ["1700000000000-5", "10-0", "7-10", "7-9"]) {
        assert.deepStrictEqual(await settled("a", ordered(id, park(id))), ["done"])
      }
      assert.deepStrictEqual(await parked(), ["k 7-9", "k 7-10", "k 10-0", "k 1700000000000-5"])
      assert.deepStrictEqual(await pending(keys.main, keys.mainGroup), [])
    })

    test("comes when the one before it is acked, in the same step, one after the other, until the key is free", async () => {
      let id = await chain(3)
      for (const next of ["2-0", "3-0"]) {
        assert.isTrue(
          await rung(async () => {
            assert.deepStrictEqual(await settled("a", ofRetry(id, ack)), ["done"])
          })
        )
        assert.deepStrictEqual(await fronts(), [`${next} 0 k`])
        assert.deepStrictEqual(await blocked(), ["k", String(Number.parseInt(next))])
        id = await front()
      }
      assert.isFalse(
        await rung(async () => {
          assert.deepStrictEqual(await settled("a", ofRetry(id, ack)), ["freed"])
        })
      )
      for (const key of [keys.blocked, keys.parked, keys.due]) assert.strictEqual(await redis.exists(key), 0)
      assert.strictEqual(await redis.xlen(keys.retry), 0)
      assert.deepStrictEqual(await pending(keys.retry, keys.retryGroup), [])
    })

    test("comes when the one before it becomes a dead letter", async () => {
      let id = await chain(2)
      assert.deepStrictEqual(await settled("a", ofRetry(id, orderedDead("1-0"))), ["dead"])
      assert.deepStrictEqual(await fronts(), ["2-0 0 k"])
      id = await front()
      assert.deepStrictEqual(await settled("a", ofRetry(id, orderedDead("2-0"))), ["dead, freed"])
      assert.strictEqual((await entries(keys.deadLetters)).length, 2)
      assert.deepStrictEqual(await blocked(), [])
    })

    test("keeps its bytes, when it was first delivered, and the attempts made before it was parked", async () => {
      await add(2)
      await drawn("a")
      const bytes = Buffer.from([0, 1, 255, 58, 44, 10])
      await settled("a", ordered("1-0", orderedRetry("1-0", 0)))
      const meta = Codec.openRetry("main", [Buffer.from("data"), bytes], {
        original: "2-0",
        attempt: 2,
        cause: undefined,
        redriven: undefined,
        key: "k"
      })
      await settled("a", ordered("2-0", { to: "park", meta }, { first: 77 }))
      await tend({ scan: false })
      await settled("a", ofRetry(await front(), ack))
      const [entry] = await redis.xrangeBuffer(keys.retry, "-", "+")
      const fields = entry?.[1] ?? []
      assert.isTrue(Codec.field(fields, "data")?.equals(bytes))
      assert.deepInclude(Result.getOrThrow(Codec.retryMeta(fields)), { attempt: 2, first: 77, failed: undefined })
    })

    test("whose key is free becomes a retry at once, and holds the key back", async () => {
      await add(2)
      await drawn("a")
      assert.isTrue(
        await rung(async () => {
          assert.deepStrictEqual(await settled("a", ordered("1-0", park("1-0")), ordered("2-0", park("2-0"))), [
            "done",
            "done"
          ])
        })
      )
      assert.deepStrictEqual(await fronts(), ["1-0 0 k"])
      assert.deepStrictEqual(await blocked(), ["k", "1"])
      assert.deepStrictEqual(await parked(), ["k 2-0"])
    })

    test("from the retry log is in front already, and stays there", async () => {
      const id = await chain(2)
      assert.deepStrictEqual(await settled("a", ofRetry(id, park("1-0"), { original: "1-0" })), ["done"])
      assert.deepStrictEqual(await fronts(), ["1-0 0 k"])
      assert.deepStrictEqual(await parked(), ["k 2-0"])
    })

    test("without a key is a retry at once", async () => {
      await add(1)
      await drawn("a")
      assert.deepStrictEqual(await settled("a", ordered("1-0", park("1-0", null), { key: undefined })), ["done"])
      assert.deepStrictEqual(await blocked(), [])
      assert.strictEqual(await redis.xlen(keys.retry), 1)
    })
  })

  test("keys do not touch each other, whatever they are made of", async () => {
    const names = ["", "k", "kk", "k:", ":", "ü", "\u0000", "[", "6b"]
    await add(names.length * 2)
    await drawn("a")
    for (const [i, key] of names.entries()) {
      const id = `${i + 1}-0`
      await settled("a", ordered(id, orderedRetry(id, 60_000, key), { key }))
    }
    for (const [i, key] of names.entries()) {
      const id = `${names.length + i + 1}-0`
      await settled("a", ordered(id, park(id, key), { key }))
    }
    assert.strictEqual(await redis.zcard(keys.blocked), names.length)
    assert.strictEqual(await redis.zcard(keys.parked), names.length)
    for (const key of names) {
      await redis.zadd(keys.due, "XX", 0, (await dueOf(key)) ?? "none")
      await tend({ scan: false })
      const id = await front()
      assert.deepStrictEqual(await settled("a", ofRetry(id, ack, { key })), ["done"])
      const next = await front()
      assert.deepStrictEqual(await settled("a", ofRetry(next, ack, { key })), ["freed"])
    }
    for (const name of [keys.blocked, keys.parked]) assert.strictEqual(await redis.exists(name), 0)
  })

  const dueOf = async (key: string) => {
    for (const member of await redis.zrangeBuffer(keys.due, "0", "-1")) {
      const meta = Result.getOrThrow(Result.flatMap(Codec.parseNetstrings(member), Codec.retryMeta))
      if (meta.key === key) return member
    }
    return undefined
  }

  test("an ack of the retry of a key that is not held back says that it is free", async () => {
    const id = await chain(1)
    await redis.del(keys.blocked)
    assert.deepStrictEqual(await settled("a", ofRetry(id, ack)), ["freed"])
  })

  test("a retry without a key, such as a redriven one, frees nothing", async () => {
    const id = await chain(2)
    assert.deepStrictEqual(await settled("a", ofRetry(id, ack, { key: undefined })), ["done"])
    assert.deepStrictEqual(await blocked(), ["k", "1"])
    assert.deepStrictEqual(await parked(), ["k 2-0"])
  })

  test("given back, a message keeps its place and its attempt", async () => {
    await add(2)
    await drawn("a")
    assert.isTrue(
      await rung(async () => {
        assert.deepStrictEqual(await settled("a", ordered("1-0", release), ordered("2-0", release)), ["done", "done"])
      })
    )
    assert.deepStrictEqual(await pending(keys.main, keys.mainGroup), [
      ["1-0", "-released", 0],
      ["2-0", "-released", 0]
    ])
  })

  test("given back after it was trimmed, it is left to the caller, who has its only copy", async () => {
    await add(1)
    await drawn("a")
    await redis.xdel(keys.main, "1-0")
    assert.deepStrictEqual(await settled("a", ordered("1-0", release)), ["trimmed"])
    assert.deepStrictEqual(await settled("a", ordered("1-0", park("1-0"))), ["done"])
    assert.deepStrictEqual(await fronts(), ["1-0 0 k"])
    assert.deepStrictEqual(await pending(keys.main, keys.mainGroup), [])
  })

  test("the list is settled in its order, and acks of main with it", async () => {
    await add(5)
    await drawn("a")
    const { found } = await order(
      "a",
      [
        ordered("1-0", orderedRetry("1-0", 60_000)),
        ordered("2-0", park("2-0")),
        ordered("3-0", park("3-0", "j"), { key: "j" })
      ],
      ["4-0", "5-0"]
    )
    assert.deepStrictEqual(found, ["done", "done", "done"])
    assert.deepStrictEqual(await parked(), ["k 2-0"])
    assert.deepStrictEqual(await fronts(), ["3-0 0 j"])
    assert.deepStrictEqual(await pending(keys.main, keys.mainGroup), [])
  })

  test("asked for again, it finds nothing pending, and changes nothing", async () => {
    const id = await chain(4)
    const items = [
      ofRetry(id, ack),
      ordered("4-0", park("4-0")),
      ofRetry(id, orderedDead("1-0")),
      ordered("9-0", ack),
      ofRetry(id, orderedRetry("1-0", 5))
    ]
    assert.deepStrictEqual(await settled("a", ofRetry(id, ack)), ["done"])
    const before = (await everything()).filter((line) => !line.includes(".state") && !line.includes("h:a"))
    assert.deepStrictEqual(await settled("a", ...items), ["gone", "gone", "gone", "gone", "gone"])
    assert.deepStrictEqual(
      (await everything()).filter((line) => !line.includes(".state") && !line.includes("h:a")),
      before
    )
  })

  test("another's, and what was delivered again since, is refused", async () => {
    await add(2)
    await drawn("a")
    await redis.xclaim(keys.main, keys.mainGroup, "b", 0, "1-0")
    assert.deepStrictEqual(await settled("a", ordered("1-0", park("1-0")), ordered("2-0", ack, { count: 2 })), [
      "other",
      "other"
    ])
    assert.strictEqual(await redis.exists(keys.blocked), 0)
  })

  test("without the claim nothing is done, the acks neither", async () => {
    await add(4)
    await drawn("a")
    await redis.xack(keys.main, keys.mainGroup, "3-0")
    await join("b", { ordered: true })
    await redis.hset(keys.state, "h:a", 5)
    await run(Scripts.claim, claimed("b"))
    await redis.xclaim(keys.main, keys.mainGroup, "a", 0, "1-0")
    const before = await everything()
    const answer = await order("a", [ordered("1-0", park("1-0"), { count: 2 }), ordered("3-0", ack)], ["2-0"])
    assert.deepStrictEqual(answer, { stands: false, problem: undefined, found: ["other", "gone"] })
    assert.deepStrictEqual(await everything(), before)
  })

  test("settling is a sign of life", async () => {
    await add(1)
    await drawn("a")
    await redis.hset(keys.state, "h:a", 5)
    await order("a", [], ["1-0"])
    assert.approximately(Number((await state("h:"))["h:a"]), await now(), 500)
  })

  describe("while memory is full", () => {
    test("the first that cannot be stored stops the others, and acks of main go on", async () => {
      await add(4)
      await drawn("a")
      await fillMemory()
      const answer = await order(
        "a",
        [ordered("1-0", orderedRetry("1-0", 5)), ordered("2-0", park("2-0")), ordered("3-0", orderedDead("3-0"))],
        ["4-0"]
      )
      assert.match(answer.problem ?? "", /OOM/)
      assert.deepStrictEqual(answer.found, ["stopped", "stopped", "stopped"])
      assert.deepStrictEqual(
        (await pending(keys.main, keys.mainGroup)).map(([id]) => id),
        ["1-0", "2-0", "3-0"]
      )
      for (const key of [keys.due, keys.blocked, keys.deadLetters]) assert.strictEqual(await redis.exists(key), 0)
    })

    test("parked messages come all the same, and keys are freed", async () => {
      const id = await chain(2)
      await fillMemory()
      assert.deepStrictEqual(await settled("a", ofRetry(id, ack)), ["done"])
      assert.deepStrictEqual(await settled("a", ofRetry(await front(), ack)), ["freed"])
    })

    test("a message is given back", async () => {
      await add(1)
      await drawn("a")
      await fillMemory()
      assert.deepStrictEqual(await settled("a", ordered("1-0", release)), ["done"])
    })
  })

  test("a parked member that cannot be read becomes a dead letter, and those behind it come", async () => {
    const id = await chain(2)
    const hex = Buffer.from("k").toString("hex")
    for (const rest of [
      "",
      "zz",
      "0".repeat(16),
      `${"0".repeat(16)}-${"0".repeat(16)}:7:x`,
      `${"0".repeat(16)}-${"0".repeat(16)}:1:x,`
    ]) {
      await redis.zadd(keys.parked, 0, `${hex}:${rest}`)
    }
    assert.deepStrictEqual(await settled("a", ofRetry(id, ack)), ["done"])
    assert.deepStrictEqual(await fronts(), ["2-0 0 k"])
    assert.deepStrictEqual(
      (await entries(keys.deadLetters)).map(([, fields]) => JSON.parse(fields["clutch"] ?? "{}").reason),
      Array.from({ length: 4 }, () => "poison")
    )
    assert.deepStrictEqual(await settled("a", ofRetry(await front(), ack)), ["freed"])
  })

  // the story: members are searched by their order, which scores come before, so that one of another score hid all others
  test.each([
    [-1, "~"],
    [1e300, "$"]
  ] as const)("a parked member that somebody added with the score %d hides none: %s", async (score, member) => {
    const id = await chain(2)
    await redis.zadd(keys.parked, score, member)
    assert.deepStrictEqual(await settled("a", ofRetry(id, ack)), ["done"])
    assert.deepStrictEqual(await fronts(), ["2-0 0 k"])
  })

  test("where the retry stream takes no more ids, what comes is due, and whoever moves it says what is wrong", async () => {
    const id = await chain(2)
    await redis.xadd(keys.retry, "18446744073709551615-18446744073709551615", "data", "last")
    assert.deepStrictEqual(await settled("a", ofRetry(id, ack)), ["done"])
    assert.strictEqual(await redis.zcard(keys.due), 1)
    assert.deepStrictEqual(await blocked(), ["k", "2"])
    assert.match((await tend({ scan: false })).problem ?? "", /ID/i)
  })

  test.each(["main", "retry", "due", "deadLetters", "blocked", "parked", "bell"] as const)(
    "a key of another type is refused before anything changes: %s",
    async (name) => {
      await add(2)
      await drawn("a")
      await redis.del(keys[name])
      await redis.sadd(keys[name], "x")
      const before = await everything()
      const input = { ...claimed("a"), acks: ["2-0"], items: [ordered("1-0", park("1-0"))] }
      assert.match(
        await refused(Scripts.order, input),
        new RegExp(`WRONGTYPE.*${keys[name].replace(/[.{}]/g, "\\$&")}`)
      )
      assert.deepStrictEqual(await everything(), before)
    }
  )

  test("a state of another type is refused too", async () => {
    await add(1)
    await drawn("a")
    await redis.del(keys.state)
    await redis.set(keys.state, "x")
    assert.match(await refused(Scripts.order, { ...claimed("a"), acks: ["1-0"], items: [] }), /WRONGTYPE/)
    assert.lengthOf(await pending(keys.main, keys.mainGroup), 1)
  })

  describe("tending", () => {
    test("a key whose retry somebody deleted is moved on, or freed", async () => {
      await chain(2)
      await add(3, "scratch")
      await redis.del(keys.retry)
      await join("a", { ordered: true, mode: "again" })
      assert.isTrue(
        await rung(async () => {
          assert.deepInclude(await tend({ scan: false }), { moved: 0, mended: 1 })
        })
      )
      assert.deepStrictEqual(await fronts(), ["2-0 0 k"])
      assert.deepInclude(await tend({ scan: false }), { mended: 0 })
      await redis.del(keys.retry)
      assert.deepInclude(await tend({ scan: false }), { mended: 1 })
      assert.strictEqual(await redis.exists(keys.blocked), 0)
    })

    test("it is found among others that wait, and those are left alone", async () => {
      await add(4)
      await drawn("a")
      for (const [i, key] of ["k", "j"].entries()) {
        const id = `${i + 1}-0`
        await settled("a", ordered(id, orderedRetry(id, 60_000, key), { key }))
      }
      await settled("a", ordered("3-0", park("3-0")), ordered("4-0", park("4-0", "j"), { key: "j" }))
      assert.deepInclude(await tend({ scan: false }), { mended: 0 })
      await redis.zrem(keys.due, (await dueOf("k")) ?? "none")
      assert.deepInclude(await tend({ scan: false }), { mended: 1 })
      assert.deepStrictEqual(await fronts(), ["3-0 0 k"])
      assert.deepStrictEqual(await parked(), ["j 4-0"])
    })

    test("parked messages whose keys nobody holds back any more come; what is none becomes a dead letter", async () => {
      const id = await chain(3)
      await settled("a", ofRetry(id, ack, { key: undefined }))
      await redis.del(keys.blocked)
      await redis.zadd(keys.parked, 0, "rubbish", 0, "KK:", 0, "6B:", 0, "6:x")
      const { mended } = await tend({ scan: false })
      assert.isAtLeast(mended, 4)
      assert.deepStrictEqual(await fronts(), ["2-0 0 k"])
      assert.deepStrictEqual(await parked(), ["k 3-0"])
    })

    test("members of any score are none", async () => {
      const id = await chain(3)
      await settled("a", ofRetry(id, ack, { key: undefined }))
      await redis.del(keys.blocked)
      await redis.zadd(keys.parked, -1, "~", 1e300, "$")
      const { mended } = await tend({ scan: false })
      assert.isAtLeast(mended, 3)
      assert.deepStrictEqual(await fronts(), ["2-0 0 k"])
      assert.deepStrictEqual(await parked(), ["k 3-0"])
    })

    test("many are mended in steps", async () => {
      for (let i = 0; i < 250; i++) await redis.zadd(keys.blocked, i, `key-${i}`)
      assert.deepInclude(await tend({ scan: false }), { mended: 100, more: true })
      assert.deepInclude(await tend({ scan: false }), { mended: 100, more: true })
      assert.deepInclude(await tend({ scan: false }), { mended: 50, more: false })
      assert.strictEqual(await redis.exists(keys.blocked), 0)
    })

    test("works while memory is full", async () => {
      await chain(2)
      await redis.del(keys.retry)
      await fillMemory()
      assert.deepInclude(await tend({ scan: false }), { mended: 1 })
    })
  })
})
