/**
 * Pause and resume.
 */
import { assert } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import { Subscription, Topic } from "../index.ts"
import { assertEachOnce, range, texts } from "./Collect.ts"
import { type Category, probe } from "./Kit.ts"
import { inTurn, type Keyed, keyedTopic, Ledger } from "./Ordered.ts"

export const pause: Category = (kit) => {
  kit.test("1. a paused subscription starts nothing, new or retried, until it is resumed", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const seen = yield* probe()
      const handler = seen.handler((call) =>
        call.data === "r" && call.attempt === 1 ? Effect.fail("no") : Effect.void
      )
      const subscription = Subscription.make("s", topic, handler, { retry: { base: kit.ticks(2), jitter: 0 } })
      const { handle } = yield* kit.open(subscription)
      yield* Topic.publish(topic, "r")
      yield* kit.next(seen)
      yield* kit.idle(subscription, { due: "ignore" })
      yield* handle.pause
      assert.strictEqual((yield* handle.stats).state, "paused")
      yield* Topic.publishAll(topic, texts(5))
      yield* kit.pass(6)
      assert.strictEqual(seen.calls.length, 1)
      yield* handle.resume
      yield* kit.take(seen, 6)
      assert.strictEqual((yield* handle.stats).state, "running")
      yield* kit.idle(subscription)
      const expected = ["r#1", "r#2", ...texts(5).map((data) => `${data}#1`)]
      assertEachOnce(
        seen.calls.map((call) => `${call.data}#${call.attempt}`),
        expected
      )
    })
  )

  kit.test("1. pausing lets the handlers in flight end, and they are settled", () =>
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
      yield* handle.pause
      yield* gate.open
      yield* kit.eventually(
        "both are settled",
        Effect.map(handle.stats, (stats) => stats.pending === 0)
      )
      assert.strictEqual(seen.calls.length, 2)
    })
  )

  kit.test("1. pausing and resuming twice is as once", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const seen = yield* probe()
      const subscription = Subscription.make("s", topic, seen.handler())
      const { handle } = yield* kit.open(subscription)
      yield* Effect.all([handle.pause, handle.pause, handle.resume, handle.resume, handle.pause, handle.pause])
      yield* Topic.publish(topic, "x")
      yield* kit.pass(3)
      assert.strictEqual(seen.calls.length, 0)
      yield* handle.resume
      yield* kit.next(seen)
      yield* kit.idle(subscription)
      assert.strictEqual(seen.calls.length, 1)
    })
  )

  kit.test("2. a pause is its worker's alone: other workers and subscriptions go on", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const seen = yield* probe()
      const other = yield* probe()
      const paused = yield* kit.open(Subscription.make("s", topic, seen.handler(), { consumer: "w1" }))
      yield* paused.handle.pause
      yield* kit.open(Subscription.make("s", topic, seen.handler(), { consumer: "w2" }))
      yield* kit.open(Subscription.make("t", topic, other.handler()))
      yield* Topic.publishAll(topic, texts(20))
      yield* kit.take(seen, 20)
      yield* kit.take(other, 20)
      assert.deepStrictEqual([...new Set(seen.calls.map((call) => call.consumer))], ["w2"])
    })
  )

  kit.test("7. what a paused worker is handling stays its own", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const seen = yield* probe()
      const gate = yield* Latch.make()
      const handler = seen.handler(() => gate.await)
      const options = { visibilityTimeout: kit.lease }
      const paused = yield* kit.open(Subscription.make("s", topic, handler, { ...options, consumer: "w1" }))
      yield* Topic.publish(topic, "x")
      yield* kit.next(seen)
      yield* paused.handle.pause
      yield* kit.open(Subscription.make("s", topic, handler, { ...options, consumer: "w2" }))
      yield* kit.passing(Effect.sleep(kit.lease).pipe(Effect.repeat({ times: 3 })))
      yield* gate.open
      yield* kit.idle(Subscription.address("s", topic))
      assert.strictEqual(seen.calls.length, 1)
    })
  )

  kit.test("1. pausing gives back what was prefetched and not started, to workers that are free", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const seen = yield* probe()
      const gate = yield* Latch.make()
      const handler = seen.handler((call) => (call.data === "m0" ? gate.await : Effect.void))
      const worker = (consumer: string) => Subscription.make("s", topic, handler, { consumer, prefetch: 10 })
      const paused = yield* kit.open(worker("w1"))
      yield* Topic.publish(topic, "m0")
      yield* kit.next(seen)
      yield* Topic.publishAll(topic, texts(6).slice(1))
      yield* kit.eventually(
        "all are held",
        Effect.map(paused.handle.stats, ({ pending }) => pending === 6)
      )
      yield* paused.handle.pause
      yield* kit.open(worker("w2"))
      const calls = yield* kit.take(seen, 5)
      assertEachOnce(
        calls.map(({ attempt, consumer, data }) => `${data}#${attempt} ${consumer}`),
        texts(6)
          .slice(1)
          .map((data) => `${data}#1 w2`)
      )
      yield* gate.open
      yield* kit.idle(worker("w1"))
      assert.strictEqual(seen.calls.length, 6)
    })
  )

  kit.test("1. a paused subscription closes like any other, and what waits is the next one's", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const seen = yield* probe()
      const subscription = Subscription.make("s", topic, seen.handler())
      const { close, handle } = yield* kit.open(subscription)
      yield* handle.pause
      yield* Topic.publishAll(topic, texts(10))
      yield* close
      assert.strictEqual(seen.calls.length, 0)
      yield* kit.open(subscription)
      yield* kit.idle(subscription)
      assertEachOnce(seen.data(), texts(10))
    })
  )

  kit.test("10. what a paused worker owned goes to the others at once, and back when it is resumed", () =>
    Effect.gen(function* () {
      const topic = keyedTopic(kit, 4)
      const ledger = new Ledger(4)
      const worker = (consumer: string) =>
        Subscription.make("s", topic, ledger.handler(), { consumer, visibilityTimeout: "1 minute" })
      const first = yield* kit.open(worker("w1"))
      yield* kit.open(worker("w2"))
      const handled = (round: number, consumers: ReadonlyArray<string>) =>
        kit.eventually(
          `round ${round} is handled by ${consumers.join(" and ")}`,
          Effect.gen(function* () {
            const data = range(16).map((i) => ({ key: `k${i}`, n: ledger.starts(`k${i}`).length }))
            yield* Topic.publishAll(topic, data)
            yield* kit.idle(worker("w1"))
            const who = ledger.events.slice(-32).map(({ consumer }) => consumer)
            return consumers.every((one) => who.includes(one)) && who.every((one) => consumers.includes(one))
          })
        )
      yield* handled(1, ["w1", "w2"])
      yield* first.handle.pause
      const paused = yield* Clock.currentTimeMillis
      yield* handled(2, ["w2"])
      assert.isBelow((yield* Clock.currentTimeMillis) - paused, 30_000)
      yield* first.handle.resume
      yield* handled(3, ["w1", "w2"])
      ledger.assertOrder()
    })
  )

  kit.test("10. a worker that is resumed while a handler of its runs goes on at once", () =>
    Effect.gen(function* () {
      const topic = keyedTopic(kit)
      const gate = yield* Latch.make()
      const seen = yield* probe<Keyed>()
      const handler = seen.handler(({ data: { key } }) => (key === "slow" ? gate.await : Effect.void))
      const subscription = Subscription.make("s", topic, handler, { concurrency: 2, visibilityTimeout: "1 minute" })
      const { handle } = yield* kit.open(subscription)
      yield* Topic.publishAll(topic, inTurn(["slow"], 2))
      yield* kit.take(seen, 1)
      yield* handle.pause
      yield* handle.resume
      yield* Topic.publishAll(topic, inTurn(["other"], 1))
      yield* kit.take(seen, 1)
      assert.deepStrictEqual(
        seen.data().map(({ key }) => key),
        ["slow", "other"]
      )
      yield* gate.open
      yield* kit.idle(subscription)
    })
  )
}
