/** One subscription at work: how much it takes, and what it gives back. */
import * as Metrics from "@clutch/core/Metrics"
import * as Subscription from "@clutch/core/Subscription"
import * as Topic from "@clutch/core/Topic"
import { assert, describe, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import * as Metric from "effect/Metric"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { given, Lines, open, pass, passing, probe, recordingFetches, run, settled, Texts } from "../support.ts"

const MiB = 1024 * 1024
const texts = (count: number, prefix = "m") => Array.from({ length: count }, (_, i) => `${prefix}${i}`)
const tags = {
  "messaging.system": "memory",
  "messaging.destination.name": "texts",
  "messaging.consumer.group.name": "s"
}
const released = Effect.map(Metric.value(Metric.withAttributes(Metrics.released, tags)), ({ count }) => count)

describe("engine", () => {
  describe("11. backpressure", () => {
    it.effect.each([1, 3, 16])("never more than concurrency %d handlers run", (concurrency) =>
      given(function* () {
        let running = 0
        let most = 0
        const handler = () =>
          Effect.acquireUseRelease(
            Effect.sync(() => void (most = Math.max(most, ++running))),
            () => Effect.sleep("10 millis"),
            () => Effect.sync(() => void running--)
          )
        const subscription = Subscription.make("s", Texts, handler, { concurrency })
        yield* open(subscription)
        yield* Topic.publishAll(Texts, texts(100))
        yield* passing("5 millis")(Subscription.awaitIdle(subscription))
        assert.strictEqual(most, concurrency)
      })()
    )

    it.effect(
      "never more than prefetch unsettled deliveries",
      given(function* () {
        const gate = yield* Latch.make()
        const subscription = Subscription.make("s", Texts, () => gate.await, { prefetch: 5 })
        yield* open(subscription)
        yield* Topic.publishAll(Texts, texts(20))
        yield* settled
        const { pending, waiting } = yield* Subscription.stats(subscription)
        assert.deepStrictEqual([pending, Option.getOrNull(waiting)], [5, 15])
        yield* gate.open
        yield* Subscription.awaitIdle(subscription)
      })
    )

    it.effect("without a prefetch it takes what its handlers can start, then about one second of measured work", () => {
      const { layer, limits } = recordingFetches()
      return run(layer, function* () {
        const subscription = Subscription.make("s", Texts, () => Effect.sleep("100 millis"), { concurrency: 4 })
        yield* open(subscription)
        yield* Topic.publishAll(Texts, texts(400))
        yield* settled
        assert.strictEqual(limits[0]?.count, 4)
        assert.strictEqual((yield* Subscription.stats(subscription)).pending, 4)
        let most = 0
        yield* passing("50 millis")(
          Effect.raceFirst(
            Subscription.awaitIdle(subscription),
            Effect.forever(
              Effect.andThen(
                Effect.sleep("50 millis"),
                Effect.map(Subscription.stats(subscription), ({ pending }) => (most = Math.max(most, pending)))
              )
            )
          )
        )
        assert.isAtLeast(most, 30)
        assert.isAtMost(most, 40)
      })
    })

    it.effect("handlers that became slow hold less", () => {
      const { layer } = recordingFetches()
      return run(layer, function* () {
        let took: Duration.Input = "10 millis"
        const subscription = Subscription.make("s", Texts, () => Effect.sleep(took), { visibilityTimeout: "1 hour" })
        yield* open(subscription)
        yield* Topic.publishAll(Texts, texts(2000))
        yield* pass("3 seconds")
        const quick = (yield* Subscription.stats(subscription)).pending
        assert.isAtLeast(quick, 50)
        took = "10 seconds"
        yield* passing(
          "10 seconds",
          200
        )(
          Effect.gen(function* () {
            while ((yield* Subscription.stats(subscription)).pending > 2) yield* Effect.sleep("10 seconds")
          })
        )
        assert.isAtMost((yield* Subscription.stats(subscription)).pending, 2)
      })
    })

    it.effect("at most 16 MiB are held, however many handlers are free", () => {
      const { layer, limits } = recordingFetches()
      return run(layer, function* () {
        const gate = yield* Latch.make()
        const subscription = Subscription.make("s", Texts, () => gate.await, { concurrency: 100, from: "beginning" })
        for (const data of texts(5)) yield* Topic.publish(Texts, data.repeat(3 * MiB))
        yield* open(subscription)
        yield* settled
        const { pending } = yield* Subscription.stats(subscription)
        assert.isAtLeast(pending, 2)
        assert.isAtMost(pending, 3)
        yield* gate.open
        yield* Subscription.awaitIdle(subscription)
        for (const { bytes } of limits) assert.isAtMost(bytes, 16 * MiB)
        assert.strictEqual(limits[0]?.bytes, 16 * MiB)
      })
    })

    it.effect(
      "a message larger than that is delivered all the same, alone",
      given(function* () {
        const gate = yield* Latch.make()
        const seen = yield* probe()
        const subscription = Subscription.make(
          "s",
          Texts,
          seen.handler(() => gate.await),
          { concurrency: 100, from: "beginning" }
        )
        yield* Topic.publish(Texts, "x".repeat(17 * MiB))
        yield* Topic.publish(Texts, "small")
        yield* open(subscription)
        yield* settled
        assert.deepStrictEqual(
          seen.data().map((data) => data.length),
          [17 * MiB]
        )
        yield* gate.open
        yield* Subscription.awaitIdle(subscription)
        assert.strictEqual(seen.calls.length, 2)
      })
    )
  })

  describe("7. what waits unstarted for too long", () => {
    it.effect(
      "is released after half a visibility timeout, and no more is taken than can start until a handler is free",
      () => {
        const { layer, limits } = recordingFetches()
        return run(layer, function* () {
          const gate = yield* Latch.make()
          const seen = yield* probe()
          const other = yield* probe()
          const subscription = Subscription.make(
            "s",
            Texts,
            seen.handler(() => gate.await),
            { prefetch: 10, visibilityTimeout: "40 seconds" }
          )
          yield* open(subscription)
          yield* Topic.publishAll(Texts, texts(8))
          yield* pass("19 seconds")
          assert.strictEqual((yield* Subscription.stats(subscription)).pending, 8)
          assert.strictEqual(yield* released, 0)
          const before = limits.length
          yield* pass("1 second")
          assert.strictEqual(yield* released, 7)
          const [line] = (yield* Lines).filter(({ text }) => text.includes("released"))
          assert.include(line?.text, "released 7 deliveries")
          // it does not take them again while its handler is busy
          yield* Topic.publishAll(Texts, texts(5, "late"))
          yield* pass("10 minutes")
          assert.strictEqual(limits.length, before)
          assert.deepStrictEqual(seen.data(), ["m0"])
          // another worker gets them at no cost of an attempt
          yield* open(Subscription.make("s", Texts, other.handler(), { consumer: "other" }))
          yield* settled
          assert.sameMembers(other.data(), [...texts(8).slice(1), ...texts(5, "late")])
          assert.isTrue(other.calls.every(({ attempt }) => attempt === 1))
          yield* gate.open
          yield* Subscription.awaitIdle(subscription)
        })
      }
    )

    it.effect("with a handler free again it takes as before", () => {
      const { layer } = recordingFetches()
      return run(layer, function* () {
        const gate = yield* Latch.make()
        const seen = yield* probe()
        const subscription = Subscription.make(
          "s",
          Texts,
          seen.handler(() => gate.await),
          { prefetch: 10, visibilityTimeout: "40 seconds" }
        )
        yield* open(subscription)
        yield* Topic.publishAll(Texts, texts(8))
        yield* pass("1 minute")
        yield* gate.open
        yield* Subscription.awaitIdle(subscription)
        assert.sameMembers(seen.data(), texts(8))
        assert.isTrue(seen.calls.every(({ attempt }) => attempt === 1))
        yield* gate.close
        yield* Topic.publishAll(Texts, texts(12))
        yield* settled
        assert.strictEqual((yield* Subscription.stats(subscription)).pending, 10)
      })
    })
  })

  it.effect(
    "6. poison never loops, and what is behind it flows",
    given(function* () {
      const Words = Topic.make("texts", { schema: Schema.String.check(Schema.isMinLength(3)) })
      const seen = yield* probe()
      const subscription = Subscription.make("s", Words, seen.handler())
      yield* open(subscription)
      yield* Topic.publishAll(Texts, ["x", "good", "y", "fine"])
      yield* Subscription.awaitIdle(subscription)
      assert.deepStrictEqual(seen.data(), ["good", "fine"])
      assert.strictEqual((yield* Subscription.stats(subscription)).deadLetters, 2)
    })
  )
})
