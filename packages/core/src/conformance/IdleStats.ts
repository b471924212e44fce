/**
 * What a subscription says of itself, and when it is idle.
 */
import { assert } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import * as Option from "effect/Option"
import { DeadLetters, DoNotRetry, Subscription, Topic } from "../index.ts"
import { texts } from "./Collect.ts"
import { type Category, probe } from "./Kit.ts"
import { die } from "./Workers.ts"

export const idleStats: Category = (kit) => {
  kit.test("1. awaitIdle ends when what was published before is settled, and not before", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const seen = yield* probe()
      const gate = yield* Latch.make()
      const subscription = Subscription.make(
        "s",
        topic,
        seen.handler(() => gate.await),
        { concurrency: 3 }
      )
      yield* kit.open(subscription)
      yield* Topic.publishAll(topic, texts(3))
      const idle = yield* Effect.forkChild(Subscription.awaitIdle(subscription))
      yield* kit.take(seen, 3)
      yield* kit.pass(3)
      assert.isUndefined(idle.pollUnsafe())
      yield* gate.open
      yield* kit.passing(Fiber.join(idle))
    })
  )

  kit.test("1. awaitIdle waits for the retries that led to here, and a dead letter is an end", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const seen = yield* probe()
      const subscription = Subscription.make(
        "s",
        topic,
        seen.handler(() => Effect.fail("no")),
        {
          retry: { maxRetries: 3, base: kit.ticks(2), factor: 1, jitter: 0 }
        }
      )
      yield* kit.open(subscription)
      yield* Topic.publish(topic, "x")
      yield* kit.idle(subscription)
      assert.strictEqual(seen.calls.length, 4)
      assert.strictEqual(yield* DeadLetters.count(subscription), 1)
    })
  )

  kit.test("1. awaitIdle with due: ignore does not wait for retries whose time has not come", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const seen = yield* probe()
      const handler = seen.handler((call) => (call.attempt === 1 ? Effect.fail("no") : Effect.void))
      const subscription = Subscription.make("s", topic, handler, { retry: { base: "1 hour", jitter: 0 } })
      const { handle } = yield* kit.open(subscription)
      const before = yield* Clock.currentTimeMillis
      yield* Topic.publishAll(topic, texts(5))
      // in virtual time it ends without the clock moving: nobody adjusts it here
      yield* Subscription.awaitIdle(subscription, { due: "ignore" })
      const after = yield* Clock.currentTimeMillis
      if (kit.virtual) assert.strictEqual(after, before)
      assert.strictEqual(seen.calls.length, 5)
      const stats = yield* handle.stats
      assert.deepStrictEqual([stats.pending, stats.due], [0, 5])
    })
  )

  kit.test("1. later publishes do not prolong awaitIdle", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const seen = yield* probe()
      const handler = seen.handler((call) => (call.data === "later" ? Effect.never : Effect.sleep(kit.ticks(2))))
      const subscription = Subscription.make("s", topic, handler, { concurrency: 4, drainTimeout: 0 })
      yield* kit.open(subscription)
      yield* Topic.publish(topic, "x")
      const idle = yield* Effect.forkChild(Subscription.awaitIdle(subscription))
      yield* kit.next(seen)
      yield* Topic.publish(topic, "later")
      yield* kit.passing(Fiber.join(idle))
    })
  )

  kit.test("1. awaitIdle of a subscription that has nothing to do ends at once", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const subscription = Subscription.make("s", topic, () => Effect.void)
      yield* kit.open(subscription)
      yield* kit.idle(subscription)
      yield* Topic.publish(topic, "x")
      yield* kit.idle(subscription)
      yield* kit.idle(subscription)
    })
  )

  kit.test("1. awaitIdle waits for what a dead worker holds", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const seen = yield* probe()
      yield* Topic.publishAll(topic, texts(3))
      yield* die(kit, topic, "s", 3)
      const subscription = Subscription.make("s", topic, seen.handler())
      yield* kit.open(subscription)
      yield* kit.idle(subscription)
      assert.strictEqual(seen.calls.length, 3)
    })
  )

  kit.test("1. awaitIdle of a subscription that does not exist says so", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const error = yield* Effect.flip(Subscription.awaitIdle(Subscription.address("nobody", topic)))
      assert.strictEqual(error._tag, "TransportError")
      assert.strictEqual(error.reason._tag, "NoSubscription")
      assert.include(error.message, "nobody")
    })
  )

  kit.test("1. stats count what is in flight, pending, due and dead", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const seen = yield* probe()
      const gate = yield* Latch.make()
      const handler = seen.handler((call) => {
        if (call.data === "held") return gate.await
        return Effect.fail(call.data === "dead" ? new DoNotRetry({ reason: "no" }) : "no")
      })
      const subscription = Subscription.make("s", topic, handler, {
        concurrency: 10,
        retry: { base: "1 hour", jitter: 0, while: () => true }
      })
      const { handle } = yield* kit.open(subscription)
      yield* Topic.publishAll(topic, ["held", "held", "later", "later", "later", "dead"])
      yield* kit.take(seen, 6)
      const expected = { pending: 2, due: 3, deadLetters: 1, inFlight: Option.some(2), state: "running" }
      yield* kit.eventually(
        "three wait for their retry, and one is dead",
        Effect.map(handle.stats, ({ deadLetters, due, pending }) => due === 3 && pending === 2 && deadLetters === 1)
      )
      const { deadLetters, due, inFlight, pending, state } = yield* handle.stats
      assert.deepStrictEqual({ pending, due, deadLetters, inFlight, state }, expected)
      yield* gate.open
    })
  )

  kit.test("1. stats of an address tell what the log shows; what only a worker knows is none", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const subscription = Subscription.make("s", topic, () => Effect.fail("no"), { retry: { maxRetries: 0 } })
      yield* kit.open(subscription)
      yield* Topic.publishAll(topic, texts(2))
      yield* kit.idle(subscription)
      const stats = yield* Subscription.stats(Subscription.address("s", topic))
      assert.strictEqual(stats.deadLetters, 2)
      assert.strictEqual(stats.pending, 0)
      assert.strictEqual(stats.due, 0)
      assert.isTrue(Option.isNone(stats.inFlight))
      assert.strictEqual(stats.state, "unknown")
    })
  )

  kit.test("1. what waits undelivered is counted, or none: never a made-up number", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const subscription = Subscription.make("s", topic, () => Effect.void, { from: "beginning" })
      const { close } = yield* kit.open(subscription)
      yield* Topic.publishAll(topic, texts(4))
      yield* kit.idle(subscription)
      yield* close
      yield* Topic.publishAll(topic, texts(7))
      const stats = yield* Subscription.stats(subscription)
      assert.isTrue(Option.isNone(stats.waiting) || stats.waiting.value === 7, JSON.stringify(stats.waiting))
    })
  )
}
