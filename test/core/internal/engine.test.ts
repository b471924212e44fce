/** One subscription at work: how much it takes, what it does when the log fails, and what it does alone. */
import * as Metrics from "@clutch/core/Metrics"
import { Refused, TransportError } from "@clutch/core/Errors"
import * as Subscription from "@clutch/core/Subscription"
import * as Topic from "@clutch/core/Topic"
import { type FetchLimit, Transport } from "@clutch/core/Transport"
import { assert, describe, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import * as Metric from "effect/Metric"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { TestClock } from "effect/testing"
import { given, groupOf, layerWith, Lines, open, pass, passing, probe, run, settled, Texts, unavailable, withConsumers } from "../support.ts"

const MiB = 1024 * 1024
const texts = (count: number, prefix = "m") => Array.from({ length: count }, (_, i) => `${prefix}${i}`)
const tags = { "messaging.system": "memory", "messaging.destination.name": "texts", "messaging.consumer.group.name": "s" }
const released = Effect.map(Metric.value(Metric.withAttributes(Metrics.released, tags)), ({ count }) => count)

/** A log whose fetches are recorded, and may be replaced. */
const fetching = () => {
  const limits: Array<FetchLimit & { readonly at: number }> = []
  let fault: Effect.Effect<never, TransportError> | undefined
  const layer = layerWith(
    withConsumers(({ fetch }) => ({
      fetch: (limit) =>
        Effect.flatMap(Clock.currentTimeMillis, (at) => {
          limits.push({ ...limit, at })
          return fault ?? fetch(limit)
        })
    }))
  )
  return { layer, limits, breakWith: (error: Effect.Effect<never, TransportError> | undefined) => void (fault = error) }
}

/** A worker of the same group that takes a delivery, is not heard of again, and loses it. */
const dying = Effect.fnUntraced(function* (name: string) {
  const transport = yield* Transport
  const consumer = yield* transport.join({
    group: groupOf("s"),
    consumer: name,
    visibilityTimeout: Duration.seconds(10),
    from: "beginning",
    ownConnection: false
  })
  consumer.keep()
  yield* consumer.fetch({ count: 1, bytes: MiB, alone: false, maxAttempts: 6 })
  yield* TestClock.adjust("11 seconds")
  yield* transport.tend(groupOf("s"))
})

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
      const { layer, limits } = fetching()
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
      const { layer } = fetching()
      return run(layer, function* () {
        let took: Duration.Input = "10 millis"
        const subscription = Subscription.make("s", Texts, () => Effect.sleep(took), { visibilityTimeout: "1 hour" })
        yield* open(subscription)
        yield* Topic.publishAll(Texts, texts(2000))
        yield* pass("3 seconds")
        const quick = (yield* Subscription.stats(subscription)).pending
        assert.isAtLeast(quick, 50)
        took = "10 seconds"
        yield* passing("10 seconds", 200)(
          Effect.gen(function* () {
            while ((yield* Subscription.stats(subscription)).pending > 2) yield* Effect.sleep("10 seconds")
          })
        )
        assert.isAtMost((yield* Subscription.stats(subscription)).pending, 2)
      })
    })

    it.effect("at most 16 MiB are held, however many handlers are free", () => {
      const { layer, limits } = fetching()
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
        const subscription = Subscription.make("s", Texts, seen.handler(() => gate.await), { concurrency: 100, from: "beginning" })
        yield* Topic.publish(Texts, "x".repeat(17 * MiB))
        yield* Topic.publish(Texts, "small")
        yield* open(subscription)
        yield* settled
        assert.deepStrictEqual(seen.data().map((data) => data.length), [17 * MiB])
        yield* gate.open
        yield* Subscription.awaitIdle(subscription)
        assert.strictEqual(seen.calls.length, 2)
      })
    )
  })

  describe("7. what waits unstarted for too long", () => {
    it.effect("is released after half a visibility timeout, and no more is taken than can start until a handler is free", () => {
      const { layer, limits } = fetching()
      return run(layer, function* () {
        const gate = yield* Latch.make()
        const seen = yield* probe()
        const other = yield* probe()
        const subscription = Subscription.make("s", Texts, seen.handler(() => gate.await), { prefetch: 10, visibilityTimeout: "40 seconds" })
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
    })

    it.effect("with a handler free again it takes as before", () => {
      const { layer } = fetching()
      return run(layer, function* () {
        const gate = yield* Latch.make()
        const seen = yield* probe()
        const subscription = Subscription.make("s", Texts, seen.handler(() => gate.await), { prefetch: 10, visibilityTimeout: "40 seconds" })
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

  describe("9. when the log cannot be read", () => {
    it.effect("it goes on trying with bounded backoff, says so once, and goes on by itself", () => {
      const { breakWith, layer, limits } = fetching()
      return run(layer, function* () {
        const seen = yield* probe()
        const { handle } = yield* open(Subscription.make("s", Texts, seen.handler()))
        yield* Topic.publish(Texts, "a")
        yield* seen.next
        breakWith(Effect.fail(unavailable("fetch")))
        yield* Topic.publish(Texts, "wakes it up")
        yield* settled
        const before = limits.length
        yield* pass("10 minutes")
        const during = yield* handle.stats
        assert.deepStrictEqual([during.state, Option.getOrNull(during.problem)], ["unhealthy", "fetch: the log is down"])
        assert.isAtMost(limits.length - before, 605)
        assert.isAtLeast(limits.length - before, 590)
        breakWith(undefined)
        yield* Topic.publish(Texts, "b")
        yield* pass("5 seconds")
        assert.deepStrictEqual(seen.data(), ["a", "wakes it up", "b"])
        assert.strictEqual((yield* handle.stats).state, "running")
        const lines = (yield* Lines).filter(({ text }) => text.startsWith("fetching"))
        assert.deepStrictEqual(lines.map(({ annotations, level }) => [level, annotations["subscription"]]), [["Warn", "s"], ["Info", "s"]])
      })
    })

    it.effect("a log that works again, with nothing to show, is running a second later", () => {
      const { breakWith, layer } = fetching()
      return run(layer, function* () {
        breakWith(Effect.fail(unavailable("fetch")))
        const { handle } = yield* open(Subscription.make("s", Texts, () => Effect.void))
        yield* pass("10 seconds")
        assert.strictEqual((yield* handle.stats).state, "unhealthy")
        breakWith(undefined)
        yield* pass("3 seconds")
        assert.strictEqual((yield* handle.stats).state, "running")
      })
    })

    it.effect("what the server refuses is probed every half minute", () => {
      const { breakWith, layer, limits } = fetching()
      return run(layer, function* () {
        breakWith(Effect.fail(new TransportError({ operation: "fetch", reason: new Refused({ detail: "NOPERM" }) })))
        const { handle } = yield* open(Subscription.make("s", Texts, () => Effect.void))
        yield* pass("1 hour")
        assert.isAtMost(limits.length, 126)
        assert.isAtLeast(limits.length, 115)
        assert.include(Option.getOrThrow((yield* handle.stats).problem), "NOPERM")
      })
    })

    it.effect("it closes at once, also in the middle of an outage", () => {
      const { breakWith, layer, limits } = fetching()
      return run(layer, function* () {
        breakWith(Effect.fail(unavailable("fetch")))
        const worker = yield* open(Subscription.make("s", Texts, () => Effect.void))
        yield* pass("10 seconds")
        yield* worker.close
        const before = limits.length
        yield* pass("1 hour")
        assert.strictEqual(limits.length, before)
      })
    })

    it.effect("a log that dies fails join, and is logged as fatal", () => {
      const { breakWith, layer } = fetching()
      return run(layer, function* () {
        breakWith(Effect.die(new Error("a bug of the backend")))
        const { handle } = yield* open(Subscription.make("s", Texts, () => Effect.void))
        const error = yield* Effect.flip(handle.join)
        assert.deepStrictEqual([error._tag, error.topic, error.subscription], ["SubscriptionFailed", "texts", "s"])
        assert.include(error.message, "a bug of the backend")
        yield* settled
        const fatal = (yield* Lines).filter(({ level }) => level === "Fatal")
        assert.strictEqual(fatal.length, 1)
      })
    })
  })

  describe("7. what consumers died of", () => {
    it.effect(
      "what was reclaimed once is handled beside others, as a further attempt",
      given(function* () {
        yield* Topic.publish(Texts, "x")
        yield* dying("first")
        const seen = yield* probe()
        yield* open(Subscription.make("s", Texts, seen.handler()))
        yield* seen.next
        assert.deepStrictEqual(seen.calls.map(({ attempt, data }) => [data, attempt]), [["x", 2]])
      })
    )

    it.effect(
      "what was reclaimed for the second time is handled with no other handler of its subscription running",
      given(function* () {
        yield* Topic.publish(Texts, "killer")
        yield* dying("first")
        yield* dying("second")
        const running = new Set<string>()
        const beside: Array<ReadonlyArray<string>> = []
        const seen = yield* probe()
        const handler = seen.handler(({ data }) =>
          Effect.acquireUseRelease(
            Effect.sync(() => {
              for (const other of running) if (data === "killer" || other === "killer") beside.push([data, other])
              running.add(data)
            }),
            () => Effect.sleep("1 second"),
            () => Effect.sync(() => void running.delete(data))
          )
        )
        const subscription = Subscription.make("s", Texts, handler, { concurrency: 8 })
        yield* open(subscription)
        for (let i = 0; i < 40; i++) {
          yield* Topic.publish(Texts, `m${i}`)
          yield* pass("500 millis")
        }
        yield* passing("1 second")(Subscription.awaitIdle(subscription))
        assert.deepStrictEqual(beside, [])
        assert.strictEqual(seen.calls.length, 41)
        assert.deepStrictEqual(seen.calls.filter(({ data }) => data === "killer").map(({ attempt }) => attempt), [3])
      })
    )

    it.effect(
      "4. what consumers died of as often as it may be tried is dead-lettered without being handled again",
      given(function* () {
        yield* Topic.publish(Texts, "killer")
        const seen = yield* probe()
        yield* dying("first")
        yield* dying("second")
        const subscription = Subscription.make("s", Texts, seen.handler(), { retry: { maxRetries: 1 } })
        yield* open(subscription)
        yield* passing("1 second")(Subscription.awaitIdle(subscription))
        assert.deepStrictEqual(seen.calls, [])
        assert.strictEqual((yield* Subscription.stats(subscription)).deadLetters, 1)
        const [line] = (yield* Lines).filter(({ level }) => level === "Error")
        assert.include(line?.text, "exhausted")
      })
    )
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
