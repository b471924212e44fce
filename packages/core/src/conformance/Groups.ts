/**
 * Competing consumers inside a group, broadcast across groups, and names that keep subscriptions apart.
 */
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { type Message, Subscription, Topic } from "../index.ts"
import { assertEachOnce, range, texts } from "./Collect.ts"
import { type Call, type Category, probe } from "./Kit.ts"

export const groups: Category = (kit) => {
  kit.test("2. groups are broadcast: each subscription of a topic handles every message", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const first = yield* probe()
      const second = yield* probe()
      yield* kit.open(Subscription.make("first", topic, first.handler()))
      yield* kit.open(Subscription.make("second", topic, second.handler()))
      yield* Topic.publishAll(topic, texts(20))
      yield* kit.take(first, 20)
      yield* kit.take(second, 20)
      assertEachOnce(first.data(), texts(20))
      assertEachOnce(second.data(), texts(20))
    })
  )

  kit.test("2. two workers share a group: each message is handled once, and both get some", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const seen = yield* probe()
      const busy = seen.handler(() => Effect.sleep(kit.ticks(0.2)))
      for (const consumer of ["w1", "w2"]) {
        yield* kit.open(Subscription.make("s", topic, busy, { consumer, concurrency: 2, prefetch: 4 }))
      }
      for (const data of texts(60)) yield* Topic.publish(topic, data)
      yield* kit.idle(Subscription.address("s", topic))
      assertEachOnce(seen.data(), texts(60))
      for (const consumer of ["w1", "w2"]) {
        assert.isAtLeast(seen.calls.filter((call) => call.consumer === consumer).length, 10, `load of ${consumer}`)
      }
    })
  )

  kit.test("2. ten workers share a group: a thousand messages are handled once each", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const seen = yield* probe()
      for (const i of range(10)) {
        yield* kit.open(Subscription.make("s", topic, seen.handler(), { consumer: `w${i}`, concurrency: 4 }))
      }
      const data = texts(kit.many(1000))
      yield* kit.passing(Effect.forEach(data, (one) => Topic.publish(topic, one), { concurrency: 50 }))
      yield* kit.idle(Subscription.address("s", topic))
      assertEachOnce(seen.data(), data)
    })
  )

  kit.test("2. a worker that joins later takes its share of what comes", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const seen = yield* probe()
      const slow = seen.handler(() => Effect.sleep(kit.ticks(0.5)))
      yield* kit.open(Subscription.make("s", topic, slow, { consumer: "early", concurrency: 1, prefetch: 1 }))
      yield* Topic.publishAll(topic, texts(5))
      yield* kit.next(seen)
      yield* kit.open(Subscription.make("s", topic, slow, { consumer: "late", concurrency: 1, prefetch: 1 }))
      yield* Topic.publishAll(
        topic,
        texts(20).map((one) => `late ${one}`)
      )
      yield* kit.idle(Subscription.address("s", topic))
      assert.strictEqual(seen.calls.length, 25)
      assert.isAtLeast(seen.calls.filter((call) => call.consumer === "late").length, 5)
    })
  )

  kit.test("2. a worker that leaves takes nothing with it: the others handle the rest", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const seen = yield* probe()
      const slow = seen.handler(() => Effect.sleep(kit.ticks(0.2)))
      const leaver = yield* kit.open(Subscription.make("s", topic, slow, { consumer: "leaver", concurrency: 2 }))
      yield* kit.open(Subscription.make("s", topic, slow, { consumer: "stayer", concurrency: 2 }))
      yield* Topic.publishAll(topic, texts(40))
      yield* kit.take(seen, 4)
      yield* leaver.close
      yield* kit.idle(Subscription.address("s", topic))
      assertEachOnce(seen.data(), texts(40))
    })
  )

  kit.test("2. explicit consumer names are respected; others are unique", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const named = yield* probe()
      const unnamed = yield* probe()
      yield* kit.open(Subscription.make("named", topic, named.handler(), { consumer: "worker-7" }))
      yield* kit.open(Subscription.make("a", topic, unnamed.handler()))
      yield* kit.open(Subscription.make("b", topic, unnamed.handler()))
      yield* Topic.publish(topic, "x")
      assert.strictEqual((yield* kit.next(named)).consumer, "worker-7")
      const calls = yield* kit.take(unnamed, 2)
      assert.strictEqual(new Set(calls.map((call) => call.consumer)).size, 2)
    })
  )

  kit.test("2. a duplicate of a live subscription is refused with DuplicateSubscription, and the first goes on", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const seen = yield* probe()
      const subscription = Subscription.make("s", topic, seen.handler())
      yield* kit.open(subscription)
      const again = yield* Effect.flip(Effect.scoped(Subscription.subscribe(subscription)))
      assert.strictEqual(again._tag, "SubscribeError")
      assert.strictEqual(again.reason._tag, "DuplicateSubscription")
      assert.include(again.message, topic.topic)
      const other = yield* Effect.flip(
        Effect.scoped(Subscription.subscribe(Subscription.make("s", topic, () => Effect.void)))
      )
      assert.strictEqual(other.reason._tag, "DuplicateSubscription")
      yield* Topic.publish(topic, "x")
      assert.strictEqual((yield* kit.next(seen)).data, "x")
    })
  )

  kit.test("2. what is refused as a duplicate is the same topic, name and consumer: any other one is welcome", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const seen = yield* probe()
      yield* kit.open(Subscription.make("s", topic, seen.handler(), { consumer: "w1" }))
      yield* kit.open(Subscription.make("s", topic, seen.handler(), { consumer: "w2" }))
      yield* kit.open(Subscription.make("t", topic, seen.handler(), { consumer: "w1" }))
      yield* kit.open(Subscription.make("s", kit.topic(), seen.handler(), { consumer: "w1" }))
      const error = yield* Effect.flip(
        Effect.scoped(Subscription.subscribe(Subscription.make("s", topic, seen.handler(), { consumer: "w2" })))
      )
      assert.strictEqual(error.reason._tag, "DuplicateSubscription")
    })
  )

  kit.test("2. a name is free again once its subscription is closed", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const seen = yield* probe()
      const subscription = Subscription.make("s", topic, seen.handler())
      for (const data of texts(5)) {
        const { close } = yield* kit.open(subscription)
        yield* Topic.publish(topic, data)
        assert.strictEqual((yield* kit.next(seen)).data, data)
        yield* close
      }
    })
  )

  kit.test("2. same-named, anonymous and partially applied handlers on one topic stay apart", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const seen = yield* probe()
      const who = new Map<string, Array<string>>()
      const note = (name: string, failing: boolean) => (message: Message<string>) =>
        seen.handler((call: Call) => {
          who.set(name, [...(who.get(name) ?? []), call.data])
          return failing && call.attempt === 1 ? Effect.fail("once") : Effect.void
        })(message)
      const retry = { base: kit.ticks(1), jitter: 0 }
      // three functions of one `.name`, two of none: what tells them apart is what a person wrote
      const named = (n: number, failing: boolean) => {
        const handle = (message: Message<string>) => note(`named${n}`, failing)(message)
        return handle
      }
      const partial = note.bind(undefined, "partial", false)
      const list = [
        Subscription.make("one", topic, named(1, true), { retry }),
        Subscription.make("two", topic, named(2, false), { retry }),
        Subscription.make("three", topic, (message) => note("anonymous1", true)(message), { retry }),
        Subscription.make("four", topic, (message) => note("anonymous2", false)(message), { retry }),
        Subscription.make("five", topic, partial(), { retry })
      ]
      for (const subscription of list) yield* kit.open(subscription)
      yield* Topic.publish(topic, "x")
      for (const subscription of list) yield* kit.idle(subscription)
      assert.deepStrictEqual(Object.fromEntries(who), {
        named1: ["x", "x"],
        named2: ["x"],
        anonymous1: ["x", "x"],
        anonymous2: ["x"],
        partial: ["x"]
      })
    })
  )

  kit.test("2. one handler in two subscriptions: each has its own failures", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const seen = yield* probe()
      const shared = seen.handler((call) =>
        call.group.startsWith("failing") && call.attempt < 3 ? Effect.fail("not yet") : Effect.void
      )
      const retry = { base: kit.ticks(1), jitter: 0 }
      const failing = Subscription.make("failing", topic, shared, { retry })
      const fine = Subscription.make("fine", topic, shared, { retry })
      yield* kit.open(failing)
      yield* kit.open(fine)
      yield* Topic.publish(topic, "x")
      yield* kit.idle(failing)
      yield* kit.idle(fine)
      const attempts = (group: string) =>
        seen.calls.filter((call) => call.group.startsWith(group)).map((call) => call.attempt)
      assert.deepStrictEqual(attempts("failing"), [1, 2, 3])
      assert.deepStrictEqual(attempts("fine"), [1])
    })
  )
}
