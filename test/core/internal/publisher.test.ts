import { Refused, TransportError, NoSubscription } from "@clutch/core/Errors"
import * as Metrics from "@clutch/core/Metrics"
import * as Topic from "@clutch/core/Topic"
import type { Transport } from "@clutch/core/Transport"
import { assert, describe, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Metric from "effect/Metric"
import { TestClock } from "effect/testing"
import { layerWith, run, settled, Texts, unavailable, unknown } from "../support.ts"

type Publish = Transport["Service"]["publish"]

/** A log on which the nth call of publish (from 1) is what the test makes of it. */
const publishing = (nth: (n: number, call: ReturnType<Publish>) => ReturnType<Publish>) => {
  const calls: Array<{ readonly at: number; readonly count: number }> = []
  const layer = layerWith((self) => ({
    ...self,
    publish: (log, messages, retention) =>
      Effect.flatMap(Clock.currentTimeMillis, (at) => {
        calls.push({ at, count: messages.length })
        return nth(calls.length, self.publish(log, messages, retention))
      })
  }))
  return { calls, layer }
}

const down = Effect.fail(unavailable("publish"))
const sent = Metric.value(
  Metric.withAttributes(Metrics.sent, { "messaging.destination.name": Texts.topic, "messaging.system": "memory" })
)

describe("publisher", () => {
  const patience: ReadonlyArray<readonly [Duration.Input | undefined, number]> = [
    [undefined, 10_000],
    ["3 seconds", 3000],
    [250, 250],
    [1, 1]
  ]
  it.effect.each(patience)(
    "waits through an outage for a timeout of %o: %d ms, then fails as Unavailable",
    ([timeout, limit]) => {
      const { calls, layer } = publishing(() => down)
      return run(layer, function* () {
        const fiber = yield* Effect.forkChild(Effect.flip(Topic.publish(Texts, "x", { timeout })))
        yield* TestClock.adjust(limit - 1)
        assert.isUndefined(fiber.pollUnsafe())
        yield* TestClock.adjust(1)
        const error = yield* Fiber.join(fiber)
        assert.strictEqual(error.reason._tag, "Unavailable")
        assert.strictEqual(error.stored, 0)
        assert.strictEqual(calls.at(-1)?.at, limit)
        // no hot loop
        assert.isAtMost(calls.length, limit / 100 + 2)
        assert.strictEqual((yield* sent).count, 0)
      })
    }
  )

  it.effect("a timeout of 0 fails at once, after one try, without the clock moving", () => {
    const { calls, layer } = publishing(() => down)
    return run(layer, function* () {
      const error = yield* Effect.flip(Topic.publish(Texts, "x", { timeout: 0 }))
      assert.strictEqual(error.reason._tag, "Unavailable")
      assert.strictEqual(calls.length, 1)
      assert.strictEqual(yield* Clock.currentTimeMillis, 0)
    })
  })

  it.effect("a long timeout waits for hours, and goes on when the log is back", () => {
    const backAt = 3 * 3_600_000
    const { layer } = publishing((_, call) =>
      Effect.flatMap(Clock.currentTimeMillis, (now) => (now >= backAt ? call : down))
    )
    return run(layer, function* () {
      const fiber = yield* Effect.forkChild(Topic.publish(Texts, "x", { timeout: "4 hours" }))
      yield* TestClock.adjust("3 hours")
      // it tries once a second by then
      yield* TestClock.adjust("1 second")
      assert.strictEqual((yield* Fiber.join(fiber)).data, "x")
    })
  })

  it.effect("a log that comes back within the timeout stores the message once", () => {
    const { calls, layer } = publishing((n, call) => (n <= 5 ? down : call))
    return run(layer, function* () {
      const fiber = yield* Effect.forkChild(Topic.publish(Texts, "x"))
      yield* TestClock.adjust("2 seconds")
      const message = yield* Fiber.join(fiber)
      assert.strictEqual(message.id, "1550-0")
      assert.deepStrictEqual(
        calls.map(({ at }) => at),
        [0, 50, 150, 350, 750, 1550]
      )
      assert.strictEqual((yield* sent).count, 1)
    })
  })

  it.effect("13. a publish whose reply was lost fails as Unknown, and is never repeated", () => {
    const { calls, layer } = publishing((_, call) => Effect.andThen(call, Effect.fail(unknown("publish"))))
    return run(layer, function* () {
      const error = yield* Effect.flip(Topic.publish(Texts, "x", { timeout: "1 hour" }))
      assert.strictEqual(error.reason._tag, "Unknown")
      yield* TestClock.adjust("2 hours")
      assert.strictEqual(calls.length, 1)
    })
  })

  it.effect("13. an Unknown in the middle of an outage ends it: what may be stored is not sent again", () => {
    const { calls, layer } = publishing((n) => (n < 3 ? down : Effect.fail(unknown("publish"))))
    return run(layer, function* () {
      const fiber = yield* Effect.forkChild(Effect.flip(Topic.publish(Texts, "x")))
      yield* TestClock.adjust("1 minute")
      assert.strictEqual((yield* Fiber.join(fiber)).reason._tag, "Unknown")
      assert.strictEqual(calls.length, 3)
    })
  })

  it.effect("what the server refuses fails at once", () => {
    const { calls, layer } = publishing(() =>
      Effect.fail(new TransportError({ operation: "publish", reason: new Refused({ detail: "NOPERM" }) }))
    )
    return run(layer, function* () {
      const error = yield* Effect.flip(Topic.publish(Texts, "x"))
      assert.strictEqual(error.reason._tag, "Refused")
      assert.include(error.message, "NOPERM")
      assert.strictEqual(calls.length, 1)
    })
  })

  it.effect("a backend that asks for a subscription is out of order: Unavailable", () => {
    const { layer } = publishing(() =>
      Effect.fail(
        new TransportError({ operation: "publish", reason: new NoSubscription({ topic: "t", subscription: "s" }) })
      )
    )
    return run(layer, function* () {
      assert.strictEqual((yield* Effect.flip(Topic.publish(Texts, "x"))).reason._tag, "Unavailable")
    })
  })

  it.effect("publishAll goes in batches of 256, in order; each message has its own id", () => {
    const { calls, layer } = publishing((_, call) => call)
    return run(layer, function* () {
      const data = Array.from({ length: 600 }, (_, i) => `m${i}`)
      const messages = yield* Topic.publishAll(Texts, data)
      assert.deepStrictEqual(
        calls.map(({ count }) => count),
        [256, 256, 88]
      )
      assert.deepStrictEqual(
        messages.map((message) => message.data),
        data
      )
      assert.strictEqual(new Set(messages.map(({ id }) => id)).size, 600)
      assert.strictEqual((yield* sent).count, 600)
    })
  })

  it.effect.each([
    ["Unavailable", down],
    ["Unknown", Effect.fail(unknown("publish"))]
  ] as const)(
    "where publishAll fails as %s, stored counts what is confirmed, from the first on",
    ([reason, failure]) => {
      const { layer } = publishing((n, call) => (n >= 3 ? failure : call))
      return run(layer, function* () {
        const data = Array.from({ length: 1000 }, (_, i) => `m${i}`)
        const error = yield* Effect.flip(Topic.publishAll(Texts, data, { timeout: 0 }))
        assert.strictEqual(error.reason._tag, reason)
        assert.strictEqual(error.stored, 512)
        assert.strictEqual((yield* sent).count, 512)
      })
    }
  )

  it.effect("an interrupt ends the waiting, and nothing is sent after it", () => {
    const { calls, layer } = publishing(() => down)
    return run(layer, function* () {
      const fiber = yield* Effect.forkChild(Topic.publish(Texts, "x", { timeout: "1 hour" }))
      yield* TestClock.adjust("1 second")
      yield* Fiber.interrupt(fiber)
      const before = calls.length
      assert.isAbove(before, 1)
      yield* TestClock.adjust("1 hour")
      yield* settled
      assert.strictEqual(calls.length, before)
    })
  })

  it.effect("a backend that dies is a defect of the publish, not a success", () => {
    const { layer } = publishing(() => Effect.die(new Error("bug")))
    return run(layer, function* () {
      const exit = yield* Effect.exit(Topic.publish(Texts, "x"))
      assert.strictEqual(exit._tag, "Failure")
    })
  })

  it.effect("asks for replicas, and fails where too few confirm: what is stored counts all the same", () => {
    const asked: Array<Parameters<Publish>[3]> = []
    const layer = layerWith((self) => ({
      ...self,
      publish: (log, messages, retention, replication) => {
        asked.push(replication)
        const confirmed = asked.length === 2 ? 1 : 2
        return Effect.map(self.publish(log, messages, retention), (published) => ({
          ...published,
          replicated: { confirmed, problem: undefined }
        }))
      }
    }))
    return run(layer, function* () {
      const many = Array.from({ length: 600 }, (_, i) => `${i}`)
      const options = { replicas: 2, within: "3 seconds" } as const
      const error = yield* Effect.flip(Topic.publishAll(Texts, many, options))
      assert.strictEqual(error.message, 'publish to "texts": stored, but 1 of 2 replicas confirmed it within 3s')
      assert.strictEqual(error.reason._tag, "UnderReplicated")
      // the third batch was not begun
      assert.strictEqual(error.stored, 512)
      assert.strictEqual((yield* sent).count, 512)
      assert.deepStrictEqual(
        asked.map((one) => one?.replicas),
        [2, 2]
      )
      yield* Topic.publish(Texts, "x", { replicas: 1 })
      assert.strictEqual(Duration.toMillis(asked[2]?.within ?? 0), 1000)
      yield* Topic.publish(Texts, "x")
      assert.isUndefined(asked[3])
    })
  })

  it.effect("an answer is awaited for as long as replicas are, and the timeout beside", () => {
    const { layer } = publishing(() => Effect.never)
    return run(layer, function* () {
      const fiber = yield* Effect.forkChild(
        Effect.flip(Topic.publish(Texts, "x", { timeout: 0, replicas: 1, within: "5 seconds" }))
      )
      yield* TestClock.adjust(5999)
      assert.isUndefined(fiber.pollUnsafe())
      yield* TestClock.adjust(1)
      assert.strictEqual((yield* Fiber.join(fiber)).reason._tag, "Unknown")
    })
  })

  const wrong: ReadonlyArray<readonly [Topic.PublishOptions, string]> = [
    [{ replicas: 0 }, "replicas"],
    [{ replicas: 1.5 }, "replicas"],
    [{ replicas: Number.NaN }, "replicas"],
    [{ replicas: 1, within: 0 }, "within"],
    [{ replicas: 1, within: Infinity }, "within"],
    [{ within: "1 second" }, "within"]
  ]
  it.effect.each(wrong)("refuses %o", ([options, option]) =>
    run(publishing((_, call) => call).layer, function* () {
      const { reason } = yield* Effect.flip(Topic.publish(Texts, "x", options))
      assert.isTrue(reason._tag === "InvalidOption" && reason.option === option)
    })
  )

  it.effect("the in-memory log takes replicas for granted", () =>
    run(publishing((_, call) => call).layer, function* () {
      const { layer } = { layer: layerWith((self) => self) }
      yield* Effect.provide(Topic.publish(Texts, "x", { replicas: 2 }), layer)
    })
  )
})
