/**
 * Handlers that settle by themselves.
 */
import { assert } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { DeadLetters, Delivery, type SettleError, Subscription, Topic } from "../index.ts"
import { Failure, onlyDeadLetter } from "./Collect.ts"
import { counted } from "./Counting.ts"
import { type Category, probe } from "./Kit.ts"

export const manual: Category = (kit) => {
  const retry = { maxRetries: 2, base: kit.ticks(1), jitter: 0 }

  kit.test("1. manual: a delivery that its handler acks is done", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const seen = yield* probe()
      const handler = seen.handler(() => Effect.flatMap(Delivery, (delivery) => delivery.ack))
      const subscription = Subscription.make("s", topic, handler, { ack: "manual", retry })
      const { handle } = yield* kit.open(subscription)
      yield* Topic.publish(topic, "x")
      yield* kit.idle(subscription)
      const stats = yield* handle.stats
      assert.deepStrictEqual([stats.pending, stats.due, stats.deadLetters], [0, 0, 0])
      assert.strictEqual(seen.calls.length, 1)
    })
  )

  kit.test("1. manual: a settle takes effect when it returns, not when the handler ends", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const acked = yield* Deferred.make<void>()
      const end = yield* Deferred.make<void>()
      const handler = () =>
        Effect.gen(function* () {
          yield* (yield* Delivery).ack
          yield* Deferred.succeed(acked, undefined)
          yield* Deferred.await(end)
        })
      const { handle } = yield* kit.open(Subscription.make("s", topic, handler, { ack: "manual" }))
      yield* Topic.publish(topic, "x")
      yield* kit.passing(Deferred.await(acked))
      assert.strictEqual((yield* handle.stats).pending, 0)
      yield* Deferred.succeed(end, undefined)
    })
  )

  kit.test("5. manual: a retry is due after the policy's backoff, or after the delay it names", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const seen = yield* probe()
      const handler = seen.handler((call) =>
        Effect.gen(function* () {
          const delivery = yield* Delivery
          if (call.attempt === 1) return yield* delivery.retry()
          if (call.attempt === 2) return yield* delivery.retry({ after: kit.ticks(4) })
          yield* delivery.ack
        })
      )
      yield* kit.open(Subscription.make("s", topic, handler, { ack: "manual", retry }))
      yield* Topic.publish(topic, "x")
      const [first, second, third] = yield* kit.take(seen, 3)
      assert.deepStrictEqual([first?.attempt, second?.attempt, third?.attempt], [1, 2, 3])
      const slack = kit.virtual ? 1 : 400
      const gap1 = (second?.at ?? 0) - (first?.at ?? 0)
      const gap2 = (third?.at ?? 0) - (second?.at ?? 0)
      assert.isAtLeast(gap1, kit.millis(1) - (kit.virtual ? 0 : 2))
      assert.isAtMost(gap1, kit.millis(1) + slack)
      assert.isAtLeast(gap2, kit.millis(4) - (kit.virtual ? 0 : 2))
      assert.isAtMost(gap2, kit.millis(4) + slack)
    })
  )

  kit.test("4. manual: a retry of the last attempt is a dead letter, with the cause it was given", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const seen = yield* probe()
      const handler = seen.handler((call) =>
        Effect.flatMap(Delivery, (delivery) => delivery.retry({ cause: Cause.fail(`because of ${call.attempt}`) }))
      )
      const subscription = Subscription.make("s", topic, handler, { ack: "manual", retry })
      yield* kit.open(subscription)
      yield* Topic.publish(topic, "x")
      yield* kit.idle(subscription)
      assert.deepStrictEqual(
        seen.calls.map((call) => call.attempt),
        [1, 2, 3]
      )
      const letter = yield* onlyDeadLetter(subscription)
      assert.strictEqual(letter.reason, "exhausted")
      assert.include(letter.cause, "because of 3")
    })
  )

  kit.test("1. manual: deadLetter(text) has reason rejected, with the text as its cause", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const handler = () => Effect.flatMap(Delivery, (delivery) => delivery.deadLetter("not an egg 🥚"))
      const subscription = Subscription.make("s", topic, handler, { ack: "manual", retry })
      yield* kit.open(subscription)
      yield* Topic.publish(topic, "x")
      yield* kit.idle(subscription)
      const letter = yield* onlyDeadLetter(subscription)
      assert.strictEqual(letter.reason, "rejected")
      assert.strictEqual(letter.cause, "not an egg 🥚")
      assert.strictEqual(letter.attempts, 1)
    })
  )

  kit.test("4. manual: ending without settling is a failure", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const seen = yield* probe()
      const subscription = Subscription.make("s", topic, seen.handler(), { ack: "manual", retry })
      yield* kit.open(subscription)
      yield* Topic.publish(topic, "x")
      yield* kit.idle(subscription)
      assert.deepStrictEqual(
        seen.calls.map((call) => call.attempt),
        [1, 2, 3]
      )
      assert.include((yield* onlyDeadLetter(subscription)).cause, "without settling")
    })
  )

  kit.test("4. manual: failing without settling is that failure", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const seen = yield* probe()
      const subscription = Subscription.make(
        "s",
        topic,
        seen.handler(() => Effect.fail(new Failure({ message: "mine" }))),
        {
          ack: "manual",
          retry: { ...retry, maxRetries: 1 }
        }
      )
      yield* kit.open(subscription)
      yield* Topic.publish(topic, "x")
      yield* kit.idle(subscription)
      assert.strictEqual(seen.calls.length, 2)
      assert.include((yield* onlyDeadLetter(subscription)).cause, "mine")
    })
  )

  kit.test("1. manual: a second settle is refused with AlreadySettled; the first stands", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const errors = yield* Deferred.make<ReadonlyArray<Exit.Exit<void, SettleError>>>()
      const seen = yield* probe()
      const handler = seen.handler(() =>
        Effect.gen(function* () {
          const delivery = yield* Delivery
          yield* delivery.ack
          const again = [delivery.ack, delivery.release, delivery.retry(), delivery.deadLetter("no")]
          yield* Deferred.succeed(errors, yield* Effect.forEach(again, Effect.exit))
        })
      )
      const subscription = Subscription.make("s", topic, handler, { ack: "manual", retry })
      const { handle } = yield* kit.open(subscription)
      yield* Topic.publish(topic, "x")
      for (const exit of yield* kit.passing(Deferred.await(errors))) {
        assert.strictEqual(Exit.isFailure(exit) ? (yield* Effect.flip(exit)).reason._tag : "done", "AlreadySettled")
      }
      yield* kit.idle(subscription)
      const stats = yield* handle.stats
      assert.deepStrictEqual([stats.pending, stats.due, stats.deadLetters, seen.calls.length], [0, 0, 0, 1])
    })
  )

  kit.test("1. manual: of settles that race, exactly one is done", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const exits = yield* Deferred.make<ReadonlyArray<Exit.Exit<void, SettleError>>>()
      const seen = yield* probe()
      const handler = seen.handler(() =>
        Effect.gen(function* () {
          const delivery = yield* Delivery
          const race = [delivery.ack, delivery.deadLetter("no"), delivery.retry(), delivery.release]
          yield* Deferred.succeed(exits, yield* Effect.forEach(race, Effect.exit, { concurrency: "unbounded" }))
        })
      )
      const subscription = Subscription.make("s", topic, handler, { ack: "manual", retry })
      yield* kit.open(subscription)
      yield* Topic.publish(topic, "x")
      const results = yield* kit.passing(Deferred.await(exits))
      assert.strictEqual(results.filter(Exit.isSuccess).length, 1)
    })
  )

  kit.test("1. manual: a failure after a settle changes nothing", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const seen = yield* probe()
      const handler = seen.handler((call) =>
        Effect.gen(function* () {
          yield* (yield* Delivery).ack
          return yield* call.data === "fails" ? Effect.fail("late") : Effect.die(new Error("late"))
        })
      )
      const subscription = Subscription.make("s", topic, handler, { ack: "manual", retry })
      yield* kit.open(subscription)
      yield* Topic.publishAll(topic, ["fails", "dies"])
      yield* kit.idle(subscription)
      yield* kit.pass(5)
      assert.strictEqual(seen.calls.length, 2)
      assert.strictEqual(yield* counted("clutch.deliveries.leases_lost", topic.topic), 0, "nothing more is settled")
      assert.strictEqual(yield* DeadLetters.count(subscription), 0)
    })
  )

  kit.test("1. manual: a release gives the delivery to whoever is free, as the same attempt", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const seen = yield* probe()
      const handler = seen.handler(() =>
        Effect.flatMap(Delivery, (delivery) => (seen.calls.length < 3 ? delivery.release : delivery.ack))
      )
      const options = { ack: "manual", retry } as const
      yield* kit.open(Subscription.make("s", topic, handler, { ...options, consumer: "w1" }))
      yield* kit.open(Subscription.make("s", topic, handler, { ...options, consumer: "w2" }))
      yield* Topic.publish(topic, "x")
      const calls = yield* kit.take(seen, 3)
      assert.deepStrictEqual(
        calls.map((call) => call.attempt),
        [1, 1, 1]
      )
      assert.deepStrictEqual([...new Set(calls.map((call) => call.originalId))], [calls[0]?.originalId])
      yield* kit.idle(Subscription.address("s", topic))
    })
  )
}
