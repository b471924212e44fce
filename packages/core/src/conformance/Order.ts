/**
 * Order of a single consumer, and the bounds of what is in flight.
 */
import { assert } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import { Subscription, Topic, Transport } from "../index.ts"
import { range, texts } from "./Collect.ts"
import { type Category, probe } from "./Kit.ts"
import { group } from "./Workers.ts"

export const order: Category = (kit) => {
  kit.test("1. a single consumer that handles one at a time handles in log order", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const seen = yield* probe()
      const subscription = Subscription.make("s", topic, seen.handler(), { concurrency: 1 })
      yield* kit.open(subscription)
      const data = texts(kit.many(1000))
      for (let at = 0; at < data.length; at += 7) yield* Topic.publishAll(topic, data.slice(at, at + 7))
      yield* kit.idle(subscription)
      assert.deepStrictEqual(seen.data(), data)
    })
  )

  kit.test("1. order holds when handlers take their time", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const seen = yield* probe()
      const slow = seen.handler((call) => Effect.sleep(kit.ticks((call.data.length % 3) * 0.1)))
      const subscription = Subscription.make("s", topic, slow, { concurrency: 1, prefetch: 3 })
      yield* kit.open(subscription)
      yield* Topic.publishAll(topic, texts(30))
      yield* kit.idle(subscription)
      assert.deepStrictEqual(seen.data(), texts(30))
    })
  )

  kit.test("1. the messages of each publisher keep their order among many publishers", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const seen = yield* probe()
      const subscription = Subscription.make("s", topic, seen.handler(), { concurrency: 1 })
      yield* kit.open(subscription)
      yield* kit.passing(
        Effect.forEach(range(8), (p) => Effect.forEach(range(40), (i) => Topic.publish(topic, `${p}:${i}`)), {
          concurrency: "unbounded"
        })
      )
      yield* kit.idle(subscription)
      for (const p of range(8)) {
        const own = seen.data().filter((data) => data.startsWith(`${p}:`))
        assert.deepStrictEqual(
          own,
          range(40).map((i) => `${p}:${i}`)
        )
      }
    })
  )

  kit.test("1. order holds over a close and a reopening", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const seen = yield* probe()
      const subscription = Subscription.make("s", topic, seen.handler(), { concurrency: 1, from: "beginning" })
      yield* Topic.publishAll(topic, texts(20))
      const first = yield* kit.open(subscription)
      yield* kit.take(seen, 20)
      yield* first.close
      yield* Topic.publishAll(topic, texts(40).slice(20))
      yield* kit.open(subscription)
      yield* kit.take(seen, 20)
      assert.deepStrictEqual(seen.data(), texts(40))
    })
  )

  kit.test("11. never more than concurrency handlers run, and as many do", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      let running = 0
      let most = 0
      const handler = () =>
        Effect.acquireUseRelease(
          Effect.sync(() => {
            most = Math.max(most, ++running)
          }),
          () => Effect.sleep(kit.ticks(0.3)),
          () =>
            Effect.sync(() => {
              running--
            })
        )
      const subscription = Subscription.make("s", topic, handler, { concurrency: 5 })
      yield* kit.open(subscription)
      yield* Topic.publishAll(topic, texts(40))
      yield* kit.idle(subscription)
      assert.strictEqual(most, 5)
      assert.strictEqual(running, 0)
    })
  )

  kit.test("11. retries count against the same concurrency as new messages", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      let running = 0
      let most = 0
      const seen = yield* probe()
      const handler = seen.handler((call) =>
        Effect.acquireUseRelease(
          Effect.sync(() => {
            most = Math.max(most, ++running)
          }),
          () => Effect.andThen(Effect.sleep(kit.ticks(0.2)), call.attempt < 3 ? Effect.fail("again") : Effect.void),
          () =>
            Effect.sync(() => {
              running--
            })
        )
      )
      const retry = { base: kit.ticks(0.2), factor: 1, jitter: 0 }
      const subscription = Subscription.make("s", topic, handler, { concurrency: 3, retry })
      yield* kit.open(subscription)
      yield* Topic.publishAll(topic, texts(15))
      yield* kit.idle(subscription)
      assert.strictEqual(seen.calls.length, 45)
      assert.strictEqual(most, 3)
    })
  )

  kit.test("11. never more than prefetch messages are unsettled", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const seen = yield* probe()
      const gate = yield* Latch.make()
      const subscription = Subscription.make(
        "s",
        topic,
        seen.handler(() => gate.await),
        {
          concurrency: 2,
          prefetch: 6
        }
      )
      const { handle } = yield* kit.open(subscription)
      yield* Topic.publishAll(topic, texts(50))
      yield* kit.take(seen, 2)
      yield* kit.pass(1)
      const held = (yield* handle.stats).pending
      assert.isAtMost(held, 6)
      assert.isAtLeast(held, 2)
      assert.strictEqual(seen.calls.length, 2)
      yield* gate.open
      yield* kit.idle(subscription)
      assert.strictEqual(seen.calls.length, 50)
    })
  )

  kit.test("11. what is held is bounded in bytes too: at most about 16 MiB", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const transport = yield* Transport
      const seen = yield* probe()
      const gate = yield* Latch.make()
      const subscription = Subscription.make(
        "s",
        topic,
        seen.handler(() => gate.await),
        { prefetch: 1000 }
      )
      yield* kit.open(subscription)
      const big = "x".repeat(1024 * 1024)
      for (const _ of range(40)) yield* Topic.publish(topic, big)
      yield* kit.next(seen)
      yield* kit.pass(1)
      const { pending } = yield* transport.inspect(group(topic, "s"))
      assert.isAtMost(pending, 20)
      yield* gate.open
      yield* kit.idle(subscription)
      assert.strictEqual(seen.calls.length, 40)
    })
  )

  kit.test("11. a slow message does not hold up the others while a handler is free", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const seen = yield* probe()
      const gate = yield* Deferred.make<void>()
      const handler = seen.handler((call) => (call.data === "m0" ? Deferred.await(gate) : Effect.void))
      const subscription = Subscription.make("s", topic, handler, { concurrency: 2 })
      yield* kit.open(subscription)
      yield* Topic.publishAll(topic, texts(50))
      yield* kit.take(seen, 50)
      yield* Deferred.succeed(gate, undefined)
      yield* kit.idle(subscription)
    })
  )

  kit.test("5. a retry does not hold up the messages behind it", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const seen = yield* probe()
      const handler = seen.handler((call) =>
        call.data === "m0" && call.attempt === 1 ? Effect.fail("no") : Effect.void
      )
      const subscription = Subscription.make("s", topic, handler, {
        concurrency: 1,
        retry: { base: kit.ticks(5), jitter: 0 }
      })
      yield* kit.open(subscription)
      yield* Topic.publishAll(topic, texts(10))
      yield* kit.idle(subscription)
      assert.deepStrictEqual(seen.data(), [...texts(10), "m0"])
    })
  )
}
