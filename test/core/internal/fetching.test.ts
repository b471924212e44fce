/** The fetch loop: what it does when the log fails, and what it takes alone. */
import * as DeadLetters from "@clutch/core/DeadLetters"
import { Refused, TransportError } from "@clutch/core/Errors"
import * as Subscription from "@clutch/core/Subscription"
import * as Topic from "@clutch/core/Topic"
import { Transport } from "@clutch/core/Transport"
import { assert, describe, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import { TestClock } from "effect/testing"
import {
  given,
  groupOf,
  layerWith,
  Lines,
  open,
  pass,
  passing,
  probe,
  recordingFetches,
  run,
  settled,
  Texts,
  unavailable,
  withConsumers
} from "../support.ts"

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
  yield* consumer.fetch({ count: 1, bytes: 1000, alone: false, maxAttempts: 6 })
  yield* TestClock.adjust("11 seconds")
  yield* transport.tend(groupOf("s"))
})

describe("fetching", () => {
  const many = Array.from({ length: 20 }, (_, i) => `m${i}`)

  it.effect("the next read is under way while many that came are read", () => {
    const { layer, limits } = recordingFetches()
    return run(layer, function* () {
      const fetches: Array<number> = []
      const seen = yield* probe()
      const source = Topic.filter(Texts, () => fetches.push(limits.length) > 0)
      yield* Topic.publishAll(Texts, many)
      yield* open(Subscription.make("s", source, seen.handler(), { prefetch: 100, from: "beginning" }))
      yield* settled
      assert.deepStrictEqual(seen.data(), many)
      assert.isTrue(fetches.every((count) => count === 2))
    })
  })

  it.effect("a few are handled before the next read is asked for", () => {
    const { layer, limits } = recordingFetches()
    return run(layer, function* () {
      const fetches: Array<number> = []
      const handler = () => Effect.sync(() => fetches.push(limits.length))
      yield* Topic.publishAll(Texts, ["a", "b"])
      yield* open(Subscription.make("s", Texts, handler, { prefetch: 100, concurrency: 2, from: "beginning" }))
      yield* settled
      assert.deepStrictEqual(fetches, [1, 1])
    })
  })

  it.effect("what came and was not read yet is given back where the subscription is paused meanwhile", () => {
    let pause: Effect.Effect<void> = Effect.void
    let paused: Fiber.Fiber<void> | undefined
    const layer = layerWith(
      withConsumers(({ fetch }) => ({
        fetch: (limit) =>
          Effect.tap(fetch(limit), ({ entries }) => {
            if (entries.length === 0) return Effect.void
            return Effect.map(Effect.forkDetach(pause, { startImmediately: true }), (fiber) => void (paused = fiber))
          })
      }))
    )
    return run(layer, function* () {
      const seen = yield* probe()
      const consumer = (name: string) =>
        Subscription.make("s", Texts, seen.handler(), { prefetch: 100, from: "beginning", consumer: name })
      const { handle } = yield* open(consumer("one"))
      pause = handle.pause
      yield* Topic.publishAll(Texts, many)
      yield* settled
      assert.isDefined(paused?.pollUnsafe())
      assert.deepStrictEqual(seen.data(), [])
      pause = Effect.void
      yield* open(consumer("two"))
      yield* settled
      assert.deepStrictEqual(
        seen.calls.map(({ attempt, data }) => [data, attempt]),
        many.map((data) => [data, 1])
      )
    })
  })

  describe("9. when the log cannot be read", () => {
    it.effect("it goes on trying with bounded backoff, says so once, and goes on by itself", () => {
      const { breakWith, layer, limits } = recordingFetches()
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
        assert.deepStrictEqual(
          [during.state, Option.getOrNull(during.problem)],
          ["unhealthy", "fetch: the log is down"]
        )
        assert.isAtMost(limits.length - before, 605)
        assert.isAtLeast(limits.length - before, 590)
        breakWith(undefined)
        yield* Topic.publish(Texts, "b")
        yield* pass("5 seconds")
        assert.deepStrictEqual(seen.data(), ["a", "wakes it up", "b"])
        assert.strictEqual((yield* handle.stats).state, "running")
        const lines = (yield* Lines).filter(({ text }) => text.startsWith("fetching"))
        assert.deepStrictEqual(
          lines.map(({ annotations, level }) => [level, annotations["subscription"]]),
          [
            ["Warn", "s"],
            ["Info", "s"]
          ]
        )
      })
    })

    it.effect("its health is told also where the log cannot be asked for numbers", () => {
      const down = Effect.fail(unavailable("fetch"))
      const { breakWith, layer } = recordingFetches()
      const mute = Layer.effect(
        Transport,
        Effect.map(Transport, (transport) => Transport.of({ ...transport, inspect: () => down }))
      )
      return run(Layer.provideMerge(mute, layer), function* () {
        breakWith(down)
        const { handle } = yield* open(Subscription.make("s", Texts, () => Effect.void))
        yield* pass("10 seconds")
        assert.isTrue(Exit.isFailure(yield* Effect.exit(handle.stats)))
        const { problem, state } = yield* handle.health
        assert.deepStrictEqual([state, Option.getOrNull(problem)], ["unhealthy", "fetch: the log is down"])
      })
    })

    it.effect("a log that works again, with nothing to show, is running a second later", () => {
      const { breakWith, layer } = recordingFetches()
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
      const { breakWith, layer, limits } = recordingFetches()
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
      const { breakWith, layer, limits } = recordingFetches()
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
      const { breakWith, layer } = recordingFetches()
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
        assert.deepStrictEqual(
          seen.calls.map(({ attempt, data }) => [data, attempt]),
          [["x", 2]]
        )
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
        assert.deepStrictEqual(
          seen.calls.filter(({ data }) => data === "killer").map(({ attempt }) => attempt),
          [3]
        )
      })
    )

    it.effect(
      "what was reclaimed for the second time waits for handlers whose messages are acked already",
      given(function* () {
        const gate = yield* Latch.make()
        const seen = yield* probe()
        const handler = seen.handler(({ data }) => (data === "slow" ? gate.await : Effect.void))
        const { handle } = yield* open(Subscription.make("s", Texts, handler, { ack: "onReceive", concurrency: 2 }))
        yield* Topic.publish(Texts, "slow")
        yield* seen.next
        yield* handle.pause
        yield* Topic.publish(Texts, "killer")
        yield* dying("first")
        yield* dying("second")
        yield* handle.resume
        yield* pass("1 minute")
        assert.deepStrictEqual(seen.data(), ["slow"])
        yield* gate.open
        yield* pass("1 second")
        assert.deepStrictEqual(seen.data(), ["slow", "killer"])
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
        const [letter] = yield* Stream.runCollect(DeadLetters.list(subscription))
        // the attempt that was not made is not counted
        assert.deepStrictEqual([letter?.reason, letter?.attempts], ["exhausted", 2])
        assert.include(letter?.cause, "died 2 times")
        const [line] = (yield* Lines).filter(({ level }) => level === "Error")
        assert.include(line?.text, "exhausted")
      })
    )
  })
})
