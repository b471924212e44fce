/**
 * How soon what was given back, or is due again, reaches another worker: within 50 ms at p99.
 */
import { type Entry, Transport } from "@clutch/core/Transport"
import { Reclaimer } from "@clutch/core/Reclaimer"
import { RedisTransport } from "@clutch/redis"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import type * as Scope from "effect/Scope"
import { inject } from "vitest"
import * as S from "./support.ts"

const rounds = 200
const url = inject("redisUrl")

/** A namespace of its own, with a transport and a reclaimer. */
const withTransport = <A, E>(body: (namespace: string) => Effect.Effect<A, E, Transport | Reclaimer | Scope.Scope>) => {
  const namespace = S.freshNamespace()
  return body(namespace).pipe(
    Effect.scoped,
    Effect.provide(RedisTransport.layer({ url, namespace })),
    Effect.ensuring(S.clean(url, namespace))
  )
}

/** Everything that a consumer is given, with the time it came. */
const arrivals = (consumer: Effect.Success<ReturnType<typeof S.join>>) =>
  Effect.gen(function* () {
    const queue = yield* Queue.unbounded<{ readonly entry: Entry; readonly at: number }>()
    yield* consumer.fetch(S.limit()).pipe(
      Effect.map(({ entries }) => {
        for (const entry of entries) Queue.offerUnsafe(queue, { entry, at: performance.now() })
      }),
      Effect.forever,
      Effect.forkScoped
    )
    return queue
  })

const within = <E>(milliseconds: number, p99: Effect.Effect<number, E>): Effect.Effect<void, E> =>
  Effect.map(p99, (took) => assert.isAtMost(took, milliseconds))

const report = (what: string, took: Array<number>) => {
  took.sort((a, b) => a - b)
  const at = (share: number) => took[Math.min(took.length - 1, Math.floor(took.length * share))] ?? Infinity
  console.log(`${what}: p50 ${at(0.5).toFixed(1)} ms, p99 ${at(0.99).toFixed(1)} ms, longest ${at(1).toFixed(1)} ms`)
  return at(0.99)
}

describe("within 50 ms at p99", () => {
  /** A worker that holds many deliveries, and another one that waits. */
  const pair = (namespace: string) =>
    Effect.gen(function* () {
      const elsewhere = yield* Transport
      const reclaimer = yield* Reclaimer
      const mine = yield* S.transport({ url, namespace })
      const giver = yield* S.join(mine)
      const data = Array.from({ length: rounds }, (_, i) => `${i}`)
      yield* S.publish(elsewhere, "first", ...data)
      const held: Array<Entry> = []
      while (held.length <= rounds) held.push(...(yield* giver.fetch(S.limit({ count: 1000 }))).entries)
      const taker = yield* S.join(elsewhere)
      // in another process than the worker that fails
      yield* reclaimer.register(S.group())
      const queue = yield* arrivals(taker)
      yield* Effect.sleep(200)
      return { giver, held, queue, taker }
    })

  it.live("a release reaches another worker", () =>
    within(
      50,
      withTransport((namespace) =>
        Effect.gen(function* () {
          const { giver, held, queue, taker } = yield* pair(namespace)
          const took: Array<number> = []
          for (const entry of held) {
            yield* Effect.sleep(Math.random() * 10)
            const begun = performance.now()
            yield* giver.settle([{ entry, outcome: { _tag: "Release" }, repeated: false }])
            const arrived = yield* Queue.take(queue)
            took.push(arrived.at - begun)
            assert.deepStrictEqual([arrived.entry.id, arrived.entry.attempt], [entry.id, 1])
            yield* taker.settle([{ entry: arrived.entry, outcome: { _tag: "Ack" }, repeated: false }])
          }
          return report("release", took)
        })
      )
    )
  )

  it.live(
    "a due retry reaches another worker, reclaimed by another process, though the worker that failed is gone",
    () =>
      within(
        50,
        withTransport((namespace) =>
          Effect.gen(function* () {
            const { giver, held, queue, taker } = yield* pair(namespace)
            const due = new Map<string, number>()
            const took: Array<number> = []
            let sent = 0
            yield* Effect.gen(function* () {
              for (const entry of held) {
                const delay = 20 + Math.floor(Math.random() * 100)
                due.set(entry.id, performance.now() + delay)
                sent += 1
                yield* giver.settle([
                  { entry, outcome: { _tag: "Retry", delay: S.millis(delay), cause: "no" }, repeated: false }
                ])
                yield* Effect.sleep(Math.random() * 20)
              }
            }).pipe(Effect.forkScoped)
            while (took.length < held.length) {
              const { at, entry } = yield* Queue.take(queue)
              const wanted = due.get(entry.originalId) ?? Number.NaN
              assert.isAtLeast(at - wanted, -2, "not before its time")
              took.push(at - wanted)
              assert.strictEqual(entry.attempt, 2)
              yield* taker.settle([{ entry, outcome: { _tag: "Ack" }, repeated: false }])
            }
            assert.strictEqual(sent, held.length)
            return report("due retry", took)
          })
        )
      )
  )

  for (const ownConnection of [false, true]) {
    it.live(`a new message reaches a waiting worker${ownConnection ? ", own connection" : ""}`, () =>
      within(
        50,
        withTransport((namespace) =>
          Effect.gen(function* () {
            const transport = yield* Transport
            const publisher = yield* S.transport({ url, namespace })
            const consumer = yield* S.join(transport, { ownConnection })
            const queue = yield* arrivals(consumer)
            yield* Effect.sleep(100)
            const took: Array<number> = []
            for (let i = 0; i < rounds; i++) {
              const begun = performance.now()
              yield* S.publish(publisher, `${i}`)
              const { at, entry } = yield* Queue.take(queue)
              took.push(at - begun)
              yield* consumer.settle([{ entry, outcome: { _tag: "Ack" }, repeated: false }])
              yield* Effect.sleep(2)
            }
            return report(`publish${ownConnection ? ", own connection" : ""}`, took)
          })
        )
      )
    )
  }
})
