/**
 * Whose a delivery is: leases of slow and of dead workers, and what a worker that lost one may still do.
 */
import { assert } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import * as Layer from "effect/Layer"
import { Delivery, Reclaimer, type SettleError, Subscription, Topic, Transport } from "../index.ts"
import { assertEachOnce, range, texts } from "./Collect.ts"
import { type Category, probe } from "./Kit.ts"
import { cuttable, die, fetch, group, join } from "./Workers.ts"

export const leases: Category = (kit) => {
  const lease = Duration.toMillis(kit.lease)
  const slack = kit.virtual ? kit.millis(1) : 1000
  /** Lets `count` leases pass. */
  const passLeases = (count: number) => kit.pass((lease * count) / kit.millis(1))

  kit.test("7. a slow handler is not reclaimed as long as its worker lives", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const seen = yield* probe()
      const gate = yield* Latch.make()
      const handler = seen.handler(() => gate.await)
      for (const consumer of ["w1", "w2"]) {
        yield* kit.open(Subscription.make("s", topic, handler, { visibilityTimeout: kit.lease, consumer }))
      }
      yield* Topic.publish(topic, "x")
      yield* kit.next(seen)
      yield* passLeases(kit.virtual ? 50 : 4)
      assert.strictEqual(seen.calls.length, 1)
      yield* gate.open
      yield* kit.idle(Subscription.address("s", topic))
      assert.strictEqual(seen.calls.length, 1)
    })
  )

  kit.test("7. what is prefetched behind a slow handler is neither lost nor delivered twice", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const seen = yield* probe()
      const gate = yield* Latch.make()
      const handler = seen.handler((call) => (call.data === "m0" ? gate.await : Effect.void))
      const subscription = Subscription.make("s", topic, handler, {
        visibilityTimeout: kit.lease,
        concurrency: 1,
        prefetch: 10
      })
      yield* kit.open(subscription)
      yield* Topic.publishAll(topic, texts(20))
      yield* kit.next(seen)
      yield* passLeases(3)
      yield* gate.open
      yield* kit.idle(subscription)
      assertEachOnce(seen.data(), texts(20))
      assert.deepStrictEqual([...new Set(seen.calls.map((call) => call.attempt))], [1])
    })
  )

  kit.test("7. what waits unstarted behind a slow handler is released to a worker that is free", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const slow = yield* probe()
      const free = yield* probe()
      const gate = yield* Latch.make()
      const options = { visibilityTimeout: kit.lease, concurrency: 1, prefetch: 10 }
      yield* kit.open(
        Subscription.make(
          "s",
          topic,
          slow.handler(() => gate.await),
          { ...options, consumer: "slow" }
        )
      )
      yield* Topic.publishAll(topic, texts(8))
      yield* kit.next(slow)
      yield* kit.open(Subscription.make("s", topic, free.handler(), { ...options, consumer: "free" }))
      yield* kit.take(free, 7)
      assertEachOnce([...slow.data(), ...free.data()], texts(8))
      assert.deepStrictEqual([...new Set(free.calls.map((call) => call.attempt))], [1])
      yield* gate.open
      yield* kit.idle(Subscription.address("s", topic))
    })
  )

  kit.test("7. a dead consumer's deliveries are reclaimed after its own visibility timeout, not before", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const seen = yield* probe()
      yield* Topic.publish(topic, "x")
      const dead = yield* join(kit, topic, "s")
      yield* fetch(kit, dead, 1)
      const died = yield* Clock.currentTimeMillis
      yield* kit.open(Subscription.make("s", topic, seen.handler(), { visibilityTimeout: Duration.minutes(10) }))
      const { at } = yield* kit.next(seen)
      assert.isAtLeast(at - died, lease - (kit.virtual ? 0 : 100))
      assert.isAtMost(at - died, lease + slack)
    })
  )

  kit.test("7. each consumer is judged by its own visibility timeout, whatever the reclaiming one has", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const seen = yield* probe()
      yield* Topic.publishAll(topic, texts(2))
      yield* die(kit, topic, "s", 1, { consumer: "long", visibility: Duration.times(kit.lease, 3) })
      yield* die(kit, topic, "s", 1, { consumer: "short" })
      const died = yield* Clock.currentTimeMillis
      yield* kit.open(Subscription.make("s", topic, seen.handler(), { visibilityTimeout: kit.lease }))
      const calls = yield* kit.take(seen, 2)
      assert.deepStrictEqual(
        calls.map((call) => call.data),
        ["m1", "m0"]
      )
      assert.isAtMost((calls[0]?.at ?? Infinity) - died, lease + slack)
      assert.isAtLeast((calls[1]?.at ?? 0) - died, 3 * lease - slack)
    })
  )

  kit.test("7. a long pending list is reclaimed whole, each message once", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const seen = yield* probe()
      const count = kit.many(5000)
      const data = texts(count)
      for (let at = 0; at < count; at += 500) yield* Topic.publishAll(topic, data.slice(at, at + 500))
      yield* die(kit, topic, "s", count)
      const subscription = Subscription.make("s", topic, seen.handler(), { concurrency: 64 })
      yield* kit.open(subscription)
      yield* kit.idle(subscription)
      assertEachOnce(seen.data(), data)
      assert.deepStrictEqual([...new Set(seen.calls.map((call) => call.attempt))], [2])
    })
  )

  kit.test("7. a death in one group is no other group's business", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const first = yield* probe()
      const second = yield* probe()
      yield* Topic.publish(topic, "x")
      yield* die(kit, topic, "first", 1)
      yield* kit.open(Subscription.make("first", topic, first.handler(), { from: "beginning" }))
      yield* kit.open(Subscription.make("second", topic, second.handler(), { from: "beginning" }))
      assert.strictEqual((yield* kit.next(second)).attempt, 1)
      assert.strictEqual((yield* kit.next(first)).attempt, 2)
      yield* passLeases(2)
      assert.strictEqual(second.calls.length, 1)
    })
  )

  kit.test("7. a process of its own can do the reclaiming, and the moving of due retries, without handlers", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const seen = yield* probe()
      const handler = seen.handler((call) => (call.attempt === 1 ? Effect.fail("no") : Effect.void))
      const subscription = Subscription.make("s", topic, handler, { retry: { base: kit.ticks(2), jitter: 0 } })
      const elsewhere = yield* Layer.build(Reclaimer.layerElsewhere)
      yield* Effect.provide(kit.open(subscription), elsewhere)
      yield* Topic.publish(topic, "x")
      yield* kit.next(seen)
      yield* kit.pass(6)
      assert.strictEqual(seen.calls.length, 1, "nobody moves retries here")
      yield* Layer.build(Reclaimer.watch([Subscription.address("s", topic)]))
      assert.strictEqual((yield* kit.next(seen)).attempt, 2)
      yield* Topic.publish(topic, "y")
      yield* kit.take(seen, 2)
      yield* kit.idle(subscription)
      assert.deepStrictEqual(seen.data(), ["x", "x", "y", "y"])
    })
  )

  kit.test("8. a handler whose worker was cut off settles in vain: LeaseLost, while another one handles it", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const seen = yield* probe()
      const cut = yield* cuttable
      const gate = yield* Latch.make()
      const result = yield* Deferred.make<void, SettleError>()
      const handler = seen.handler(() =>
        Effect.gen(function* () {
          yield* gate.await
          yield* Deferred.complete(result, (yield* Delivery).ack)
        })
      )
      yield* kit
        .open(Subscription.make("s", topic, handler, { ack: "manual", visibilityTimeout: kit.lease, consumer: "cut" }))
        .pipe(Effect.provideService(Transport, cut.transport))
      yield* Topic.publish(topic, "x")
      yield* kit.next(seen)
      yield* cut.cut
      const other = yield* probe()
      const rescuer = Subscription.make("s", topic, other.handler(), { consumer: "other" })
      yield* kit.open(rescuer)
      assert.strictEqual((yield* kit.next(other)).attempt, 2)
      yield* cut.mend
      yield* gate.open
      const error = yield* Effect.flip(kit.passing(Deferred.await(result)))
      assert.strictEqual(error.reason._tag, "LeaseLost")
      yield* kit.idle(rescuer)
      assert.strictEqual(other.calls.length, 1)
    })
  )

  kit.test("7. maxLease ends the extension of a lease: what hangs for ever is taken over", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const seen = yield* probe()
      const handler = seen.handler((call) => (call.attempt === 1 ? Effect.never : Effect.void))
      const options = { visibilityTimeout: kit.lease, maxLease: Duration.times(kit.lease, 2), drainTimeout: 0 }
      yield* kit.open(Subscription.make("s", topic, handler, { ...options, consumer: "w1" }))
      yield* Topic.publish(topic, "x")
      const hung = yield* kit.next(seen)
      yield* kit.open(Subscription.make("s", topic, handler, { ...options, consumer: "w2" }))
      const again = yield* kit.next(seen)
      assert.strictEqual(again.attempt, 2)
      assert.isAtLeast(again.at - hung.at, 2 * lease - slack)
      assert.isAtMost(again.at - hung.at, 4 * lease + slack)
    })
  )

  kit.test(
    "7. an entry reclaimed for the second time is handled with no other handler of its subscription running",
    () =>
      Effect.gen(function* () {
        const topic = kit.topic()
        const transport = yield* Transport
        const reap = transport.tend(group(topic, "s"))
        yield* Topic.publishAll(topic, texts(3))
        for (const round of range(2)) {
          const dead = yield* join(kit, topic, "s", { consumer: `dead${round}` })
          yield* fetch(kit, dead, 3)
          let reclaimed = 0
          yield* kit.eventually(
            "three deliveries are reclaimed",
            Effect.map(reap, (tended) => (reclaimed += tended.reclaimed) >= 3)
          )
        }
        let running = 0
        const crowd = new Map<string, number>()
        const seen = yield* probe()
        const handler = seen.handler((call) =>
          Effect.acquireUseRelease(
            Effect.sync(() => {
              running++
            }),
            () =>
              Effect.gen(function* () {
                yield* Effect.sleep(kit.ticks(0.5))
                crowd.set(call.data, Math.max(crowd.get(call.data) ?? 0, running))
              }),
            () =>
              Effect.sync(() => {
                running--
              })
          )
        )
        const subscription = Subscription.make("s", topic, handler, { concurrency: 10 })
        yield* kit.open(subscription)
        yield* Topic.publishAll(
          topic,
          range(10).map((i) => `fresh${i}`)
        )
        yield* kit.idle(subscription)
        assertEachOnce(seen.data(), [...texts(3), ...range(10).map((i) => `fresh${i}`)])
        for (const data of texts(3)) assert.strictEqual(crowd.get(data), 1, `handlers beside ${data}`)
      })
  )

  kit.test("7. what may have killed its process waits for the handlers that run", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const transport = yield* Transport
      const reap = transport.tend(group(topic, "s"))
      const reaped = kit.eventually(
        "the delivery is reclaimed",
        Effect.map(reap, ({ reclaimed }) => reclaimed > 0)
      )
      yield* Topic.publish(topic, "suspect")
      yield* fetch(kit, yield* join(kit, topic, "s", { consumer: "dead0" }), 1)
      yield* reaped
      yield* fetch(kit, yield* join(kit, topic, "s", { consumer: "dead1" }), 1)
      let running = 0
      let beside: number | undefined
      const gate = yield* Latch.make()
      const seen = yield* probe()
      const handler = seen.handler(({ data }) =>
        Effect.acquireUseRelease(
          Effect.sync(() => {
            if (data === "suspect") beside = running
            running += 1
          }),
          () => (data === "slow" ? gate.await : Effect.void),
          () =>
            Effect.sync(() => {
              running -= 1
            })
        )
      )
      const subscription = Subscription.make("s", topic, handler, { concurrency: 10 })
      yield* kit.open(subscription)
      yield* Topic.publish(topic, "slow")
      yield* kit.next(seen)
      yield* passLeases(3)
      yield* gate.open
      yield* kit.idle(subscription)
      assert.deepStrictEqual([seen.data(), beside], [["slow", "suspect"], 0])
    })
  )
}
