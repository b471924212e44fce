/**
 * Handlers of many deliveries at once.
 */
import { assert } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import * as Queue from "effect/Queue"
import { DeadLetters, Subscription, Topic } from "../index.ts"
import { assertEachOnce, deadLetters, texts } from "./Collect.ts"
import type { Category } from "./Kit.ts"

interface Seen {
  readonly data: ReadonlyArray<string>
  readonly attempts: ReadonlyArray<number>
  readonly at: number
}

export const batch: Category = (kit) => {
  const retry = { maxRetries: 2, base: kit.ticks(1), jitter: 0 }
  const recorder = Effect.map(Queue.unbounded<Seen>(), (queue) => {
    const all: Array<Seen> = []
    const record = (
      deliveries: ReadonlyArray<{ readonly message: { readonly data: string }; readonly attempt: number }>
    ) =>
      Effect.map(Clock.currentTimeMillis, (at) => {
        const seen = {
          data: deliveries.map((one) => one.message.data),
          attempts: deliveries.map((one) => one.attempt),
          at
        }
        all.push(seen)
        Queue.offerUnsafe(queue, seen)
      })
    return { all, record, next: kit.passing(Queue.take(queue), "a batch") }
  })

  kit.test("1. a batch is handed over when it is full", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const { next, record } = yield* recorder
      const subscription = Subscription.batch("s", topic, record, { size: 4, within: "1 hour", concurrency: 1 })
      yield* kit.open(subscription)
      yield* Topic.publishAll(topic, texts(8))
      assert.deepStrictEqual((yield* next).data, texts(8).slice(0, 4))
      assert.deepStrictEqual((yield* next).data, texts(8).slice(4))
      yield* kit.idle(subscription)
    })
  )

  kit.test("1. a batch that is not full is handed over when its time is up", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const { next, record } = yield* recorder
      const subscription = Subscription.batch("s", topic, record, { size: 100, within: kit.ticks(3) })
      yield* kit.open(subscription)
      const published = yield* Clock.currentTimeMillis
      yield* Topic.publishAll(topic, texts(3))
      const seen = yield* next
      assert.deepStrictEqual(seen.data, texts(3))
      assert.isAtMost(seen.at - published, kit.millis(3) + (kit.virtual ? kit.millis(1) : 500))
      yield* kit.idle(subscription)
    })
  )

  kit.test("1. a batch may wait for longer than a visibility timeout", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const { next, record } = yield* recorder
      const within = Duration.times(kit.lease, 2)
      const options = { size: 100, within, visibilityTimeout: kit.lease }
      const subscription = Subscription.batch("s", topic, record, options)
      yield* kit.open(subscription)
      const published = yield* Clock.currentTimeMillis
      yield* Topic.publishAll(topic, texts(3))
      const seen = yield* next
      assert.deepStrictEqual(seen.data.toSorted(), texts(3))
      assert.deepStrictEqual(seen.attempts, [1, 1, 1])
      const slack = kit.virtual ? kit.millis(1) : 500
      assert.isAtMost(seen.at - published, Duration.toMillis(within) + slack)
      yield* kit.idle(subscription)
    })
  )

  kit.test("1. success settles what the batch's handler has not settled", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const { all, record } = yield* recorder
      const subscription = Subscription.batch("s", topic, record, { size: 10, within: kit.ticks(1) })
      const { handle } = yield* kit.open(subscription)
      yield* Topic.publishAll(topic, texts(25))
      yield* kit.idle(subscription)
      assertEachOnce(
        all.flatMap((seen) => seen.data),
        texts(25)
      )
      const stats = yield* handle.stats
      assert.deepStrictEqual([stats.pending, stats.due, stats.deadLetters], [0, 0, 0])
      for (const seen of all) assert.isAtMost(seen.data.length, 10)
    })
  )

  kit.test("4. on failure what is unsettled is retried, each with its own attempt", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const { all, record } = yield* recorder
      const subscription = Subscription.batch(
        "s",
        topic,
        Effect.fnUntraced(function* (deliveries) {
          yield* record(deliveries)
          // the first of each batch is settled before the rest fails
          const [first] = deliveries
          yield* first.ack
          if (deliveries.length > 1) return yield* Effect.fail("the rest")
        }),
        { size: 3, within: kit.ticks(1), concurrency: 1, retry }
      )
      yield* kit.open(subscription)
      yield* Topic.publishAll(topic, texts(3))
      yield* kit.idle(subscription)
      assert.deepStrictEqual(
        all.map((seen) => seen.data),
        [["m0", "m1", "m2"], ["m1", "m2"], ["m2"]]
      )
      assert.deepStrictEqual(
        all.map((seen) => seen.attempts),
        [[1, 1, 1], [2, 2], [3]]
      )
      assert.strictEqual(yield* DeadLetters.count(subscription), 0)
    })
  )

  kit.test("4. a batch that always fails ends as dead letters, one a message", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const { all, record } = yield* recorder
      const subscription = Subscription.batch(
        "s",
        topic,
        (deliveries) => Effect.andThen(record(deliveries), Effect.die("bug")),
        { size: 5, within: kit.ticks(1), retry }
      )
      yield* kit.open(subscription)
      const published = yield* Topic.publishAll(topic, texts(5))
      yield* kit.idle(subscription)
      const letters = yield* deadLetters(subscription)
      assertEachOnce(
        letters.map((letter) => letter.originalId),
        published.map((message) => message.id)
      )
      assert.deepStrictEqual([...new Set(letters.map((letter) => letter.attempts))], [3])
      assert.strictEqual(all.flatMap((seen) => seen.data).length, 15)
    })
  )

  kit.test("1. each of a batch can be settled by itself: acked, retried, released or dead-lettered", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const counts = new Map<string, number>()
      const subscription = Subscription.batch(
        "s",
        topic,
        Effect.fnUntraced(function* (deliveries) {
          for (const one of deliveries) {
            const { data } = one.message
            const count = (counts.get(data) ?? 0) + 1
            counts.set(data, count)
            if (count > 1 || data === "ack") yield* one.ack
            else if (data === "retry") yield* one.retry()
            else if (data === "release") yield* one.release
            else yield* one.deadLetter("no")
          }
        }),
        { size: 4, within: kit.ticks(1), retry }
      )
      yield* kit.open(subscription)
      yield* Topic.publishAll(topic, ["ack", "retry", "release", "dead"])
      yield* kit.idle(subscription)
      assert.deepStrictEqual(Object.fromEntries(counts), { ack: 1, retry: 2, release: 2, dead: 1 })
      const letters = yield* deadLetters(subscription)
      assert.deepStrictEqual(
        letters.map((letter) => letter.reason),
        ["rejected"]
      )
    })
  )

  kit.test("7. a batch that is slow to handle is not reclaimed", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const { all, next, record } = yield* recorder
      const gate = yield* Latch.make()
      for (const consumer of ["w1", "w2"]) {
        yield* kit.open(
          Subscription.batch("s", topic, (deliveries) => Effect.andThen(record(deliveries), gate.await), {
            size: 3,
            within: kit.ticks(1),
            visibilityTimeout: kit.lease,
            consumer
          })
        )
      }
      yield* Topic.publishAll(topic, texts(3))
      yield* next
      yield* Effect.forEach(texts(4), () => Effect.sleep(kit.lease)).pipe(kit.passing)
      yield* gate.open
      yield* kit.idle(Subscription.address("s", topic))
      assertEachOnce(
        all.flatMap((seen) => seen.data),
        texts(3)
      )
    })
  )

  kit.test("1. a batch that waits for more is released when its subscription closes, at no cost", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const { all, next, record } = yield* recorder
      const options = { size: 3, within: "1 hour", drainTimeout: 0 } as const
      const first = yield* kit.open(Subscription.batch("s", topic, record, options))
      yield* Topic.publishAll(topic, texts(2))
      yield* kit.pass(2)
      yield* first.close
      assert.strictEqual(all.length, 0)
      yield* kit.open(Subscription.batch("s", topic, record, { ...options, size: 2 }))
      const seen = yield* next
      assert.deepStrictEqual(seen.data.toSorted(), ["m0", "m1"])
      assert.deepStrictEqual(seen.attempts, [1, 1])
    })
  )
}
