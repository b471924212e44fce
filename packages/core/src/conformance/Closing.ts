/**
 * Drain and close: what a subscription was doing is finished or given back, and nothing of it stays.
 */
import { assert } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import { DeadLetters, Subscription, Topic, Transport } from "../index.ts"
import { assertEachOnce, range, texts } from "./Collect.ts"
import { type Category, probe } from "./Kit.ts"
import { group } from "./Workers.ts"

export const closing: Category = (kit) => {
  kit.test("1. closing waits for the handlers in flight, and their success is acked", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const seen = yield* probe()
      let ended = 0
      const handler = seen.handler(() =>
        Effect.andThen(
          Effect.sleep(kit.ticks(3)),
          Effect.sync(() => {
            ended++
          })
        )
      )
      const subscription = Subscription.make("s", topic, handler, { concurrency: 3, drainTimeout: kit.ticks(100) })
      const { close } = yield* kit.open(subscription)
      yield* Topic.publishAll(topic, texts(3))
      yield* kit.take(seen, 3)
      yield* close
      assert.strictEqual(ended, 3)
      const transport = yield* Transport
      assert.strictEqual((yield* transport.inspect(group(topic, "s"))).pending, 0)
      yield* kit.open(subscription)
      yield* kit.idle(subscription)
      assert.strictEqual(seen.calls.length, 3)
    })
  )

  kit.test("1. what is unfinished after drainTimeout is interrupted and released, at no cost of an attempt", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const seen = yield* probe()
      let interrupted = 0
      const handler = seen.handler(() =>
        seen.calls.length > 2
          ? Effect.void
          : Effect.onInterrupt(Effect.never, () =>
              Effect.sync(() => {
                interrupted++
              })
            )
      )
      const subscription = Subscription.make("s", topic, handler, {
        concurrency: 2,
        drainTimeout: kit.ticks(3),
        retry: { maxRetries: 0 },
        visibilityTimeout: "1 hour"
      })
      const { close } = yield* kit.open(subscription)
      yield* Topic.publishAll(topic, texts(2))
      yield* kit.take(seen, 2)
      const before = yield* Clock.currentTimeMillis
      yield* close
      const took = (yield* Clock.currentTimeMillis) - before
      assert.isAtLeast(took, kit.millis(3) - (kit.virtual ? 0 : 2))
      assert.isAtMost(took, kit.millis(5) + (kit.virtual ? 0 : 1000))
      assert.strictEqual(interrupted, 2)
      yield* kit.open(subscription)
      const calls = yield* kit.take(seen, 2)
      assert.isAtMost((yield* Clock.currentTimeMillis) - before - took, kit.millis(2) + (kit.virtual ? 0 : 1000))
      assert.deepStrictEqual(
        calls.map((call) => call.attempt),
        [1, 1]
      )
      yield* kit.idle(subscription)
      assert.strictEqual(yield* DeadLetters.count(subscription), 0)
    })
  )

  kit.test("1. interruption by the closing subscription is neither a failure nor an ack", () =>
    Effect.gen(function* () {
      for (const origin of ["main", "retry"] as const) {
        const topic = kit.topic()
        const seen = yield* probe()
        const transport = yield* Transport
        const handler = seen.handler((call) => {
          if (origin === "retry" && call.attempt === 1) return Effect.fail("to the retry log")
          return Effect.never
        })
        const subscription = Subscription.make("s", topic, handler, {
          drainTimeout: 0,
          retry: { base: kit.ticks(1), jitter: 0 }
        })
        const { close } = yield* kit.open(subscription)
        yield* Topic.publish(topic, "x")
        yield* kit.take(seen, origin === "main" ? 1 : 2)
        yield* close
        const { due, deadLetters } = yield* transport.inspect(group(topic, "s"))
        assert.strictEqual(deadLetters, 0)
        if (origin === "main") assert.strictEqual(due, 0, "nothing is scheduled")
        const done = yield* probe()
        const again = Subscription.make("s", topic, done.handler())
        yield* kit.open(again)
        assert.strictEqual((yield* kit.next(done)).attempt, origin === "main" ? 1 : 2)
        yield* kit.idle(again)
      }
    })
  )

  kit.test("1. closing gives back what was prefetched and not started", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const seen = yield* probe()
      const gate = yield* Latch.make()
      const subscription = Subscription.make(
        "s",
        topic,
        seen.handler(() => gate.await),
        {
          concurrency: 1,
          prefetch: 20,
          visibilityTimeout: "1 hour",
          drainTimeout: 0
        }
      )
      const { close } = yield* kit.open(subscription)
      yield* Topic.publishAll(topic, texts(20))
      yield* kit.next(seen)
      yield* close
      yield* gate.open
      const again = yield* probe()
      const second = Subscription.make("s", topic, again.handler())
      yield* kit.open(second)
      yield* kit.idle(second)
      assertEachOnce(again.data(), texts(20))
      assert.deepStrictEqual([...new Set(again.calls.map((call) => call.attempt))], [1])
    })
  )

  kit.test("1. fetching stops at once: nothing is started after closing has begun", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const seen = yield* probe()
      const gate = yield* Latch.make()
      const subscription = Subscription.make(
        "s",
        topic,
        seen.handler(() => gate.await),
        {
          concurrency: 1,
          drainTimeout: kit.ticks(50)
        }
      )
      const { close } = yield* kit.open(subscription)
      yield* Topic.publish(topic, "x")
      yield* kit.next(seen)
      const fiber = yield* Effect.forkChild(close, { startImmediately: true })
      yield* Topic.publishAll(topic, texts(5))
      yield* kit.pass(3)
      assert.isUndefined(fiber.pollUnsafe())
      yield* gate.open
      yield* Fiber.join(fiber)
      assert.strictEqual(seen.calls.length, 1)
      yield* kit.open(subscription)
      yield* kit.take(seen, 5)
    })
  )

  kit.test("1. drain finishes what is in flight, and nothing more is delivered", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const seen = yield* probe()
      const gate = yield* Latch.make()
      const subscription = Subscription.make(
        "s",
        topic,
        seen.handler(() => gate.await),
        { concurrency: 2 }
      )
      const { handle } = yield* kit.open(subscription)
      yield* Topic.publishAll(topic, texts(2))
      yield* kit.take(seen, 2)
      const draining = yield* Effect.forkChild(handle.drain, { startImmediately: true })
      yield* kit.eventually(
        "the state is draining",
        Effect.map(handle.stats, (stats) => stats.state === "draining")
      )
      yield* Topic.publishAll(topic, texts(4).slice(2))
      assert.isUndefined(draining.pollUnsafe())
      yield* gate.open
      yield* kit.passing(Fiber.join(draining))
      yield* kit.pass(3)
      assert.strictEqual(seen.calls.length, 2)
      const stats = yield* handle.stats
      assert.strictEqual(stats.pending, 0)
    })
  )

  kit.test("1. drain twice, and close after drain, are fine", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const seen = yield* probe()
      const { close, handle } = yield* kit.open(Subscription.make("s", topic, seen.handler()))
      yield* Topic.publish(topic, "x")
      yield* kit.next(seen)
      yield* kit.passing(Effect.all([handle.drain, handle.drain], { concurrency: "unbounded" }))
      yield* kit.passing(handle.drain)
      yield* close
      yield* close
    })
  )

  kit.test("1. nothing is delivered after its settle, over closes and reopenings", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const seen = yield* probe()
      const settled = new Set<string>()
      let late = 0
      const handler = seen.handler((call) =>
        Effect.sync(() => {
          if (settled.has(call.data)) late++
          settled.add(call.data)
        })
      )
      const subscription = Subscription.make("s", topic, handler)
      for (const round of range(5)) {
        const { close } = yield* kit.open(subscription)
        yield* Topic.publishAll(
          topic,
          range(20).map((i) => `${round}:${i}`)
        )
        yield* kit.idle(subscription)
        yield* close
      }
      assert.strictEqual(late, 0)
      assert.strictEqual(seen.calls.length, 100)
    })
  )

  kit.test("1. work continues after a close: 5,000 messages over ten rounds of closing and reopening", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const seen = yield* probe()
      const data = texts(kit.many(5000))
      const part = Math.ceil(data.length / 10)
      const subscription = Subscription.make("s", topic, seen.handler(), { concurrency: 8, from: "beginning" })
      for (const round of range(10)) {
        const { close } = yield* kit.open(subscription)
        yield* Topic.publishAll(topic, data.slice(round * part, (round + 1) * part))
        // closed in the middle of its work, each time after some of it
        yield* kit.take(seen, Math.floor(part / 4))
        yield* close
      }
      yield* kit.open(subscription)
      yield* kit.idle(subscription)
      assertEachOnce(seen.data(), data)
    })
  )

  kit.test("1. closing many at once closes each: concurrent closes lose nothing", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const seen = yield* probe()
      const workers = yield* Effect.forEach(range(10), (i) =>
        kit.open(Subscription.make("s", topic, seen.handler(), { consumer: `w${i}`, concurrency: 2 }))
      )
      yield* Topic.publishAll(topic, texts(200))
      yield* kit.take(seen, 10)
      yield* Effect.forEach(workers, (worker) => worker.close, { concurrency: "unbounded" })
      const last = Subscription.make("s", topic, seen.handler(), { consumer: "last" })
      yield* kit.open(last)
      yield* kit.idle(last)
      assertEachOnce(seen.data(), texts(200))
    })
  )

  kit.test("1. closing during a storm of publishers loses nothing", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const seen = yield* probe()
      const subscription = Subscription.make("s", topic, seen.handler(), { from: "beginning" })
      const publishing = yield* Effect.forEach(texts(300), (data) => Topic.publish(topic, data), {
        concurrency: 10
      }).pipe(Effect.forkChild)
      for (const _ of range(5)) {
        const { close } = yield* kit.open(subscription)
        yield* kit.pass(0.5)
        yield* close
      }
      yield* kit.passing(Fiber.join(publishing))
      yield* kit.open(subscription)
      yield* kit.idle(subscription)
      assertEachOnce(seen.data(), texts(300))
    })
  )

  kit.test("5. closing while a retry waits neither loses nor hastens it", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const seen = yield* probe()
      const handler = seen.handler((call) => (call.attempt === 1 ? Effect.fail("no") : Effect.void))
      const subscription = Subscription.make("s", topic, handler, { retry: { base: kit.ticks(8), jitter: 0 } })
      const first = yield* kit.open(subscription)
      yield* Topic.publish(topic, "x")
      const failed = yield* kit.next(seen)
      yield* kit.idle(subscription, { due: "ignore" })
      yield* first.close
      yield* kit.open(subscription)
      const again = yield* kit.next(seen)
      assert.strictEqual(again.attempt, 2)
      assert.isAtLeast(again.at - failed.at, kit.millis(8) - (kit.virtual ? 0 : 2))
    })
  )

  kit.test("1. an uninterruptible handler is waited for, and what it did counts", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const seen = yield* probe()
      const handler = seen.handler(() => Effect.uninterruptible(Effect.sleep(kit.ticks(4))))
      const subscription = Subscription.make("s", topic, handler, { drainTimeout: kit.ticks(1) })
      const { close } = yield* kit.open(subscription)
      yield* Topic.publish(topic, "x")
      yield* kit.next(seen)
      yield* close
      yield* kit.open(subscription)
      yield* kit.idle(subscription)
      // either its success was acked, or it was released: never a retry, never lost
      assert.deepStrictEqual([...new Set(seen.calls.map((call) => call.attempt))], [1])
      assert.isAtMost(seen.calls.length, 2)
    })
  )
}
