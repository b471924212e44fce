/**
 * What waits undelivered is counted, or none: the server's `lag` counts what was trimmed or deleted unread, and is no
 * number to hand on.
 */
import type { TransportError } from "@clutch/core/Errors"
import * as Keys from "@clutch/redis/RedisKeys"
import { assert, describe, it } from "@effect/vitest"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as S from "./support.ts"

/** A log with a consumer to read from, and a look at it that compares what is told with what is there. */
const setup = Effect.gen(function* () {
  const { namespace, options, redis } = yield* S.shared
  const transport = yield* S.transport(options)
  const main = `${namespace}.{orders}`
  const publish = (count: number, maxLength?: number) =>
    Effect.map(
      transport.publish(
        S.group(),
        Array.from({ length: count }, (_, i) => ({ data: `"${i}"`, attributes: undefined })) as never,
        { maxLength, maxAge: undefined }
      ),
      ({ ids }) => ids
    )
  /** How many entries the group has not read, counted one by one. */
  const there = async (redis: S.Admin): Promise<number> => {
    const groups: unknown = await redis.xinfo("GROUPS", main)
    const flat = Array.isArray(groups) ? (groups[0] as ReadonlyArray<unknown>) : []
    const delivered = String(flat[flat.indexOf("last-delivered-id") + 1])
    return (await redis.xrange(main, `(${delivered}`, "+")).length
  }
  /** Never another number than the true one; `exactly` where a number is due. */
  const isTrue = (what: string, exactly?: number) =>
    Effect.gen(function* () {
      const { waiting } = yield* transport.inspect(S.group())
      const truth = yield* Effect.promise(() => there(redis))
      if (Option.isSome(waiting)) assert.strictEqual(waiting.value, truth, what)
      if (exactly !== undefined) assert.deepStrictEqual(waiting, Option.some(exactly), what)
    })
  return { isTrue, main, publish, redis, transport }
})

/** Reads and acks so many. */
const handle = (consumer: Effect.Success<ReturnType<typeof S.join>>, count: number) =>
  Effect.gen(function* () {
    for (let left = count; left > 0;) {
      const { entries } = yield* consumer.fetch(S.limit({ count: left }))
      left -= entries.length
      yield* consumer.settle(entries.map((entry) => ({ entry, outcome: { _tag: "Ack" }, repeated: false })) as never)
    }
  })

describe("waiting is what is there, or none", () => {
  it.live("while nothing was ever trimmed or deleted, it is exact", () =>
    Effect.gen(function* () {
      const { isTrue, publish, transport } = yield* setup
      const consumer = yield* S.join(transport)
      yield* isTrue("an empty log", 0)
      yield* publish(5)
      yield* isTrue("nothing read", 5)
      yield* handle(consumer, 2)
      yield* isTrue("partly read")
      yield* handle(consumer, 3)
      yield* isTrue("all read", 0)
    }).pipe(Effect.scoped)
  )

  it.live("after maxLength has trimmed unread entries", () =>
    Effect.gen(function* () {
      const { isTrue, publish, transport } = yield* setup
      const consumer = yield* S.join(transport)
      yield* publish(1)
      yield* handle(consumer, 1)
      yield* publish(10, 3)
      yield* isTrue("seven were trimmed unread", 3)
      yield* handle(consumer, 1)
      yield* isTrue("partly read after a trim")
      yield* handle(consumer, 2)
      yield* isTrue("all read after a trim", 0)
      yield* publish(2, 3)
      yield* isTrue("new ones after a trim")
    }).pipe(Effect.scoped)
  )

  it.live("after unread entries were deleted: in the middle, at the end, all of them", () =>
    Effect.gen(function* () {
      const { isTrue, main, publish, redis, transport } = yield* setup
      const consumer = yield* S.join(transport)
      const ids = yield* publish(8)
      yield* handle(consumer, 2)
      const del = (...at: ReadonlyArray<number>) =>
        Effect.promise(() => redis.xdel(main, ...at.map((i) => ids[i] ?? "")))
      yield* del(4)
      yield* isTrue("one in the middle")
      yield* del(7)
      yield* isTrue("the last one")
      yield* del(0)
      yield* isTrue("one that was read")
      yield* del(1, 2, 3, 5, 6)
      yield* isTrue("all of them", 0)
      yield* publish(2)
      yield* isTrue("new ones behind them", 2)
      yield* handle(consumer, 2)
      yield* isTrue("all read", 0)
    }).pipe(Effect.scoped)
  )

  it.live("for groups that begin at an id, at a time or at the end, whose reads the server has not counted", () =>
    Effect.gen(function* () {
      const { isTrue, main, publish, redis, transport } = yield* setup
      const ids = yield* publish(6)
      const destroy = Effect.promise(() => redis.xgroup("DESTROY", main, "billing"))
      for (const [from, unread] of [
        [{ id: ids[2] ?? "" }, 3],
        [{ id: ids[5] ?? "" }, 0],
        [{ id: "1-1" }, 6],
        [{ time: DateTime.makeUnsafe(0) }, 6],
        ["new", 0],
        ["beginning", 6]
      ] as const) {
        yield* Effect.scoped(
          Effect.gen(function* () {
            const consumer = yield* S.join(transport, { from, consumer: "one" })
            yield* isTrue(`from ${JSON.stringify(from)}`)
            if (unread > 0) {
              yield* handle(consumer, 1)
              yield* isTrue(`from ${JSON.stringify(from)}, one read`)
              yield* handle(consumer, unread - 1)
            }
            yield* isTrue(`from ${JSON.stringify(from)}, all read`, 0)
          })
        )
        yield* destroy
        yield* Effect.promise(() => redis.del(`${main}.billing.state`))
      }
    }).pipe(Effect.scoped)
  )
})

describe("looking at a key of another type", () => {
  it.live("is refused with an error that names the key", () =>
    Effect.gen(function* () {
      const { redis, namespace, options } = yield* S.shared
      const transport = yield* S.transport(options)
      yield* S.join(transport)
      const keys = Keys.group(namespace, S.group())
      const looks: ReadonlyArray<readonly [string, Effect.Effect<unknown, TransportError>]> = [
        [keys.due, transport.inspect(S.group())],
        [keys.parked, transport.inspect(S.group())],
        [keys.blocked, transport.outstanding(S.group(), { through: "9-9", due: "wait" })],
        [keys.deadLetters, transport.deadLetters.count(S.group())],
        [keys.groups, transport.groups(S.group())],
        [keys.main, transport.lastId(S.group())],
        [keys.main, transport.groups(S.group())]
      ]
      for (const [key, look] of looks) {
        yield* Effect.promise(() => redis.set(key, "somebody else's"))
        const { message, reason } = yield* Effect.flip(look)
        assert.strictEqual(reason._tag, "Refused")
        assert.include(message, key)
        yield* Effect.promise(() => redis.del(key))
      }
    }).pipe(Effect.scoped)
  )
})
