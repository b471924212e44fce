/**
 * Publishing: together what comes together, in order, and nothing waits for a batch to fill.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as S from "./support.ts"

const outgoing = (data: string) => ({ data: JSON.stringify(data), attributes: undefined })
const main = "clutch.{orders}"

const setup = Effect.gen(function* () {
  const { options, redis } = yield* S.own
  const transport = yield* S.transport(options)
  // loads the script
  yield* S.publish(transport, "first")
  return {
    /** How many scripts were run. */
    calls: Effect.promise(() => S.calls(redis, "evalsha")),
    length: Effect.promise(() => redis.xlen(main)),
    stored: S.stored(redis, main),
    transport
  }
})

describe("publish", () => {
  it.live("what is published in one turn leaves together, in order, and each learns its own ids", () =>
    Effect.gen(function* () {
      const { calls, stored, transport } = yield* setup
      const before = yield* calls
      const all = Array.from({ length: 1000 }, (_, i) => `${i}`)
      const published = yield* Effect.forEach(all, (data) => S.publish(transport, data), { concurrency: "unbounded" })
      // 256 at most a call
      assert.isAtMost((yield* calls) - before, 6)
      const entries = yield* stored
      assert.deepStrictEqual(
        entries.map(([, data]) => data),
        all
      )
      assert.deepStrictEqual(
        entries.map(([id]) => id),
        published.flatMap(({ ids }) => ids)
      )
    }).pipe(Effect.scoped)
  )

  it.live("who publishes again once answered does not wait for all the others", () =>
    Effect.gen(function* () {
      const { calls, stored, transport } = yield* setup
      const before = yield* calls
      const fiber = (nth: number) =>
        Effect.forEach(
          Array.from({ length: 50 }, (_, i) => `${nth} ${i}`),
          (data) => S.publish(transport, data),
          {
            discard: true
          }
        )
      yield* Effect.forEach(
        Array.from({ length: 64 }, (_, nth) => nth),
        fiber,
        { concurrency: "unbounded" }
      )
      // in step with each other, they would be 50 calls
      const count = (yield* calls) - before
      assert.isAtLeast(count, 90)
      assert.isAtMost(count, 200)
      assert.strictEqual((yield* stored).length, 64 * 50)
    }).pipe(Effect.scoped)
  )

  it.live("one message alone leaves at once", () =>
    Effect.gen(function* () {
      const { calls, transport } = yield* setup
      const before = yield* calls
      const begun = performance.now()
      for (let i = 0; i < 50; i++) yield* S.publish(transport, `${i}`)
      assert.strictEqual((yield* calls) - before, 50)
      assert.isBelow((performance.now() - begun) / 50, 20)
    }).pipe(Effect.scoped)
  )

  it.live("one publish is never split, whatever its size", () =>
    Effect.gen(function* () {
      const { calls, stored, transport } = yield* setup
      const before = yield* calls
      const all = Array.from({ length: 3000 }, (_, i) => `${i}`)
      const { ids } = yield* S.publish(transport, "start", ...all)
      assert.strictEqual((yield* calls) - before, 1)
      assert.strictEqual(ids.length, 3001)
      assert.strictEqual((yield* stored).length, 3001)
    }).pipe(Effect.scoped)
  )

  it.live("publishes with different retention do not share a call; what was trimmed is told once", () =>
    Effect.gen(function* () {
      const { length, transport } = yield* setup
      const keep = (maxLength: number) => ({ maxLength, maxAge: undefined })
      const results = yield* Effect.all(
        [
          transport.publish(S.group(), [outgoing("a"), outgoing("b"), outgoing("c")], keep(2)),
          transport.publish(S.group(), [outgoing("d")], keep(2)),
          transport.publish(S.group(), [outgoing("e")], keep(3))
        ],
        { concurrency: "unbounded" }
      )
      // "first", a and b went for the limit of 2
      assert.deepStrictEqual(
        results.map(({ trimmed }) => trimmed),
        [3, 0, 0]
      )
      assert.strictEqual(yield* length, 3)
    }).pipe(Effect.scoped)
  )

  it.live("maxAge trims by the server's clock", () =>
    Effect.gen(function* () {
      const { length, transport } = yield* setup
      yield* Effect.sleep(60)
      const { trimmed } = yield* transport.publish(S.group(), [outgoing("x")], {
        maxLength: undefined,
        maxAge: Duration.millis(50)
      })
      assert.strictEqual(trimmed, 1)
      assert.strictEqual(yield* length, 1)
    }).pipe(Effect.scoped)
  )
})
