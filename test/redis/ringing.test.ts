/**
 * Waking: whoever waits is told of what there is for it, by a bell that misses no ring.
 */
import type { Entry } from "@clutch/core/Transport"
import { assert, describe, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as S from "./support.ts"

const setup = Effect.gen(function* () {
  const { namespace, options, redis } = yield* S.shared
  return { namespace, options, redis, transport: yield* S.transport(options) }
})

describe("the bell", () => {
  it.live("no ring is lost while publishers hammer and consumers fall idle again and again", () =>
    Effect.gen(function* () {
      const { options, transport } = yield* setup
      const other = yield* S.transport(options)
      const consumers = yield* Effect.all([S.join(transport), S.join(transport)])
      const total = 2000
      const seen = new Set<string>()
      let longest = 0
      const publishers = 10
      for (let p = 0; p < publishers; p++) {
        yield* Effect.gen(function* () {
          for (let i = 0; i < total / publishers; i++) {
            yield* S.publish(p % 2 === 0 ? transport : other, `${p}-${i}`)
            if (Math.random() < 0.3) yield* Effect.sleep(Math.random() * 12)
          }
        }).pipe(Effect.forkScoped)
      }
      const ended = Effect.sync(() => seen.size === total)
      yield* Effect.all(
        consumers.map((consumer) =>
          Effect.gen(function* () {
            while (seen.size < total) {
              const { data, took } = yield* S.takeOne(consumer)
              longest = Math.max(longest, took)
              seen.add(data)
            }
          })
        ),
        { concurrency: "unbounded" }
      ).pipe(Effect.raceFirst(Effect.repeat(Effect.sleep(10), { until: () => ended })), Effect.timeout("40 seconds"))
      assert.strictEqual(seen.size, total)
      // a lost ring would wait for the next look, after seconds
      assert.isBelow(longest, 1000)
    }).pipe(Effect.scoped)
  )

  it.live("a ring shortly after another one is heard, also where no later one makes up for it", () =>
    Effect.gen(function* () {
      const { options, transport } = yield* setup
      const other = yield* S.transport(options)
      const consumer = yield* S.join(transport)
      let longest = 0
      for (let round = 0; round < 300; round++) {
        const waiting = yield* Effect.forkChild(Effect.andThen(S.takeOne(consumer), S.takeOne(consumer)))
        yield* S.publish(other, "1")
        // while the first ring is dealt with
        const begun = performance.now()
        while (performance.now() - begun < Math.random() * 4) yield* Effect.promise(() => new Promise(setImmediate))
        yield* S.publish(other, "2")
        yield* S.joined(waiting)
        longest = Math.max(longest, performance.now() - begun)
      }
      // a lost ring would wait for the next look, after seconds
      assert.isBelow(longest, 1000)
    }).pipe(Effect.scoped)
  )

  it.live("a log that is new while the read blocks is listened to at once", () =>
    Effect.gen(function* () {
      const { transport } = yield* setup
      yield* S.join(transport)
      yield* Effect.sleep(100)
      const group = S.group("another")
      const consumer = yield* S.join(transport, { group })
      yield* Effect.sleep(100)
      const waiting = yield* Effect.forkChild(S.takeOne(consumer))
      yield* Effect.sleep(50)
      const begun = performance.now()
      yield* transport.publish(group, [{ data: '"x"', attributes: undefined }], S.noRetention)
      yield* S.joined(waiting)
      assert.isBelow(performance.now() - begun, 200)
    }).pipe(Effect.scoped)
  )

  it.live("watchers are called for what is due, and not more often than they can use", () =>
    Effect.gen(function* () {
      const { transport } = yield* setup
      let calls = 0
      yield* transport.watch(S.group(), () => {
        calls += 1
      })
      const consumer = yield* S.join(transport)
      yield* S.publish(transport, "0", ...Array.from({ length: 100 }, (_, i) => `${i + 1}`))
      const held: Array<Entry> = []
      while (held.length < 101) held.push(...(yield* consumer.fetch(S.limit({ count: 1000 }))).entries)
      // of what is new nothing is due: one call, when a lease may be worth looking at
      yield* Effect.sleep(1200)
      assert.isAtLeast(calls, 1)
      assert.isAtMost(calls, 3)
      calls = 0
      // each is due before those that failed earlier
      const fails = (entry: Entry, seconds: number) =>
        consumer.settle([
          { entry, outcome: { _tag: "Retry", delay: Duration.seconds(seconds), cause: "no" }, repeated: false }
        ])
      const [first, ...others] = held
      if (first === undefined) return assert.fail("nothing was fetched")
      yield* fails(first, 1000)
      yield* Effect.sleep(50)
      assert.strictEqual(calls, 1)
      for (const [i, entry] of others.entries()) yield* fails(entry, 900 - i)
      yield* Effect.sleep(50)
      assert.isAtLeast(calls, 2)
      assert.isAtMost(calls, 30)
    }).pipe(Effect.scoped)
  )

  it.live("entries that somebody else added without ringing are found by the next look", () =>
    Effect.gen(function* () {
      const { namespace, redis, transport } = yield* setup
      const consumer = yield* S.join(transport)
      const waiting = yield* Effect.forkChild(S.takeOne(consumer))
      yield* Effect.sleep(50)
      yield* Effect.promise(() => redis.xadd(`${namespace}.{orders}`, "*", "data", '"x"'))
      assert.strictEqual((yield* Effect.timeout(S.joined(waiting), Duration.seconds(8))).data, "x")
    }).pipe(Effect.scoped)
  )
})
