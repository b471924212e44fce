/**
 * A backend that falters: the subscription goes on by itself, nothing is lost, and nothing is doubled but what is unknown.
 */
import { assert } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { DeadLetters, Subscription, Topic, Transport, type TransportError } from "../index.ts"
import { assertEachOnce, texts } from "./Collect.ts"
import { counted } from "./Counting.ts"
import * as Faults from "./Faults.ts"
import { type Category, probe } from "./Kit.ts"

type Fault = (step: Faults.Step) => "pass" | "before" | "lost"

export const healing: Category = (kit) => {
  /** A Transport that fails where told: `before` it does anything, or with its reply `lost`. */
  const faulty = (fault: Fault) =>
    Effect.gen(function* () {
      const inject: Faults.Injector = <A, E, R>(step: Faults.Step, call: Effect.Effect<A, E, R>) =>
        Effect.suspend((): Effect.Effect<A, E | TransportError, R> => {
          const what = step.operation === "progress" ? "pass" : fault(step)
          if (what === "pass") return call
          if (what === "before") return Effect.fail(Faults.unavailable(step.operation))
          return Effect.andThen(call, Effect.fail(Faults.unknown(step.operation)))
        })
      return Faults.wrap(yield* Transport, inject)
    })
  const provide = (transport: Transport["Service"]) => Effect.provideService(Transport, transport)

  kit.test(
    "9. a log that cannot be read for a while: unhealthy meanwhile, then the subscription goes on by itself",
    () =>
      Effect.gen(function* () {
        const topic = kit.topic()
        const seen = yield* probe()
        let down = true
        const transport = yield* faulty((step) => (down && step.operation === "fetch" ? "before" : "pass"))
        const subscription = Subscription.make("s", topic, seen.handler())
        const { handle } = yield* kit.open(subscription).pipe(provide(transport))
        yield* Topic.publishAll(topic, texts(5))
        yield* kit.eventually(
          "it is unhealthy",
          Effect.map(handle.stats, (stats) => stats.state === "unhealthy")
        )
        assert.strictEqual(seen.calls.length, 0)
        down = false
        yield* kit.take(seen, 5)
        yield* kit.idle(subscription)
        yield* kit.eventually(
          "it is running",
          Effect.map(handle.stats, (stats) => stats.state === "running")
        )
        assertEachOnce(seen.data(), texts(5))
      })
  )

  kit.test("9. an outage makes no hot loop: retries back off", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      let calls = 0
      const transport = yield* faulty((step) => {
        if (step.operation !== "fetch") return "pass"
        calls++
        return "before"
      })
      yield* kit.open(Subscription.make("s", topic, () => Effect.void)).pipe(provide(transport))
      const start = yield* Clock.currentTimeMillis
      yield* kit.passing(Effect.sleep(kit.virtual ? "10 minutes" : "2 seconds"))
      const seconds = ((yield* Clock.currentTimeMillis) - start) / 1000
      assert.isAtMost(calls, 40 + seconds * 2)
      assert.isAtLeast(calls, 2)
    })
  )

  kit.test("1. a settlement that cannot be stored is tried again until it is, and the message is handled once", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const seen = yield* probe()
      const transport = yield* faulty((step) => (step.operation === "settle" && step.ofKind <= 5 ? "before" : "pass"))
      const handler = seen.handler((call) =>
        call.data === "m1" && call.attempt === 1 ? Effect.fail("no") : Effect.void
      )
      const subscription = Subscription.make("s", topic, handler, {
        retry: { base: kit.ticks(1), jitter: 0 },
        visibilityTimeout: "1 hour"
      })
      yield* kit.open(subscription).pipe(provide(transport))
      yield* Topic.publishAll(topic, texts(3))
      yield* kit.idle(subscription)
      assertEachOnce(
        seen.calls.map((call) => `${call.data}#${call.attempt}`),
        ["m0#1", "m1#1", "m1#2", "m2#1"]
      )
    })
  )

  kit.test("1. a settlement whose reply is lost is sent again, and changes nothing the second time", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const seen = yield* probe()
      const transport = yield* faulty((step) =>
        step.operation === "settle" && step.ofKind % 2 === 1 ? "lost" : "pass"
      )
      const handler = seen.handler((call) => (call.data === "m2" ? Effect.fail("no") : Effect.void))
      const subscription = Subscription.make("s", topic, handler, {
        retry: { maxRetries: 2, base: kit.ticks(1), jitter: 0 }
      })
      const { handle } = yield* kit.open(subscription).pipe(provide(transport))
      yield* Topic.publishAll(topic, texts(4))
      yield* kit.idle(subscription)
      const expected = ["m0#1", "m1#1", "m2#1", "m2#2", "m2#3", "m3#1"]
      assertEachOnce(
        seen.calls.map((call) => `${call.data}#${call.attempt}`),
        expected
      )
      assert.strictEqual(yield* DeadLetters.count(subscription), 1)
      assert.isAbove(yield* counted("clutch.deliveries.settled_unknown", topic.topic), 0)
      assert.strictEqual(yield* counted("clutch.deliveries.leases_lost", topic.topic), 0)
      assert.strictEqual((yield* handle.stats).due, 0)
    })
  )

  kit.test("7. leases and marks that cannot be written for a while cost nothing", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const seen = yield* probe()
      const transport = yield* faulty((step) =>
        (step.operation === "extend" || step.operation === "mark") && step.ofKind % 2 === 1 ? "before" : "pass"
      )
      const subscription = Subscription.make(
        "s",
        topic,
        seen.handler(() => Effect.sleep(kit.lease)),
        {
          visibilityTimeout: kit.lease,
          concurrency: 4
        }
      )
      yield* kit.open(subscription).pipe(provide(transport))
      yield* Topic.publishAll(topic, texts(8))
      yield* kit.idle(subscription)
      assertEachOnce(seen.data(), texts(8))
    })
  )

  kit.test("1. whatever fails now and then, nothing is lost and each message is settled", () =>
    Effect.gen(function* () {
      for (const every of [2, 3, 5]) {
        const topic = kit.topic()
        const seen = yield* probe()
        const transport = yield* faulty((step) => {
          if (step.operation === "join" || step.operation === "watch" || step.nth % every !== 0) return "pass"
          return step.operation === "settle" && step.nth % 2 === 0 ? "lost" : "before"
        })
        const handler = seen.handler((call) => (call.attempt === 1 ? Effect.fail("no") : Effect.void))
        const subscription = Subscription.make("s", topic, handler, {
          retry: { base: kit.ticks(1), jitter: 0 },
          visibilityTimeout: "1 hour"
        })
        const { close } = yield* kit.open(subscription).pipe(provide(transport))
        yield* Topic.publishAll(topic, texts(20))
        yield* kit.idle(subscription)
        const expected = texts(20).flatMap((data) => [`${data}#1`, `${data}#2`])
        assertEachOnce(
          seen.calls.map((call) => `${call.data}#${call.attempt}`),
          expected,
          `every ${every}`
        )
        yield* close
      }
    })
  )

  kit.test("13. publishing in an outage waits, and stores the message once when the log is back", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const seen = yield* probe()
      const subscription = Subscription.make("s", topic, seen.handler())
      yield* kit.open(subscription)
      let down = true
      const transport = yield* faulty((step) => (down && step.operation === "publish" ? "before" : "pass"))
      const fiber = yield* Effect.forkChild(Topic.publish(topic, "x", { timeout: "1 hour" }).pipe(provide(transport)))
      yield* kit.pass(3)
      assert.isUndefined(fiber.pollUnsafe())
      down = false
      yield* kit.passing(Fiber.join(fiber))
      yield* kit.idle(subscription)
      assert.deepStrictEqual(seen.data(), ["x"])
    })
  )

  kit.test("13. publishing in an outage gives up after its timeout; zero fails at once", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const transport = yield* faulty((step) => (step.operation === "publish" ? "before" : "pass"))
      const start = yield* Clock.currentTimeMillis
      const atOnce = yield* Effect.flip(Topic.publish(topic, "x", { timeout: 0 }).pipe(provide(transport)))
      assert.strictEqual(atOnce.reason._tag, "Unavailable")
      assert.isAtMost((yield* Clock.currentTimeMillis) - start, kit.virtual ? 0 : 200)
      const later = yield* Effect.flip(
        kit.passing(Topic.publish(topic, "x", { timeout: kit.ticks(5) }).pipe(provide(transport)))
      )
      assert.strictEqual(later.reason._tag, "Unavailable")
      const took = (yield* Clock.currentTimeMillis) - start
      assert.isAtLeast(took, kit.millis(5) - (kit.virtual ? 0 : 50))
      assert.isAtMost(took, kit.millis(6) + (kit.virtual ? 0 : 1000))
      const inner = yield* Transport
      assert.strictEqual(yield* inner.lastId({ topic: topic.topic, partition: 0 }), "0-0")
    })
  )

  kit.test("13. a publish whose reply was lost fails with reason Unknown, and is not sent again", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const seen = yield* probe()
      const subscription = Subscription.make("s", topic, seen.handler())
      yield* kit.open(subscription)
      let calls = 0
      const transport = yield* faulty((step) => {
        if (step.operation !== "publish") return "pass"
        calls++
        return "lost"
      })
      const error = yield* Effect.flip(kit.passing(Topic.publish(topic, "x").pipe(provide(transport))))
      assert.strictEqual(error.reason._tag, "Unknown")
      assert.strictEqual(calls, 1)
      yield* kit.idle(subscription)
      assert.deepStrictEqual(seen.data(), ["x"])
    })
  )
}
