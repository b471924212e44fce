/**
 * A failure is the failing subscription's alone.
 */
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import * as Layer from "effect/Layer"
import { Agent, DeadLetters, Subscription, Topic } from "../index.ts"
import { range, texts } from "./Collect.ts"
import { type Category, probe } from "./Kit.ts"

/** The last parts of the keys that backends derive from a subscription. */
const parts: ReadonlySet<string> = new Set(["retry", "dlq", "deadLetters", "due", "state", "bell"])

export const isolation: Category = (kit) => {
  const retry = { base: kit.ticks(1), jitter: 0 }

  kit.test("2. two agents on one topic, one fails once: the other is called exactly once", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const fine = yield* probe()
      const failing = yield* probe()
      const once = failing.handler((call) => (call.attempt === 1 ? Effect.fail("once") : Effect.void))
      yield* Layer.build(Agent.layer("a", [Subscription.make("fine", topic, fine.handler(), { retry })]))
      yield* Layer.build(Agent.layer("b", [Subscription.make("failing", topic, once, { retry })]))
      yield* Topic.publish(topic, "x")
      yield* kit.take(failing, 2)
      yield* kit.idle(Subscription.address("failing", topic))
      yield* kit.idle(Subscription.address("fine", topic))
      yield* kit.pass(10)
      assert.deepStrictEqual(fine.data(), ["x"])
      assert.deepStrictEqual(failing.data(), ["x", "x"])
    })
  )

  kit.test("2. no other subscription sees a retry, a dead letter or a redrive", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const others = yield* Effect.forEach(range(5), () => probe())
      for (const [i, seen] of others.entries()) {
        yield* kit.open(Subscription.make(`other${i}`, topic, seen.handler(), { retry }))
      }
      const failing = yield* probe()
      const subscription = Subscription.make(
        "failing",
        topic,
        failing.handler(() => Effect.fail("no")),
        {
          retry: { ...retry, maxRetries: 2 }
        }
      )
      yield* kit.open(subscription)
      yield* Topic.publish(topic, "x")
      yield* kit.idle(subscription)
      yield* DeadLetters.redrive(subscription)
      yield* kit.idle(subscription)
      yield* kit.pass(5)
      assert.strictEqual(failing.calls.length, 6)
      for (const seen of others) assert.deepStrictEqual(seen.data(), ["x"])
    })
  )

  kit.test("2. dead letters are per subscription", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const no = () => Effect.fail("no")
      const first = Subscription.make("first", topic, no, { retry: { maxRetries: 0 } })
      const second = Subscription.make("second", topic, no, { retry: { maxRetries: 0 } })
      const third = Subscription.make("third", topic, () => Effect.void)
      for (const one of [first, second]) yield* kit.open(one)
      yield* kit.open(third)
      yield* Topic.publishAll(topic, texts(3))
      for (const one of [first, second]) yield* kit.idle(one)
      yield* kit.idle(third)
      assert.strictEqual(yield* DeadLetters.discard(first, "all"), 3)
      assert.strictEqual(yield* DeadLetters.count(first), 0)
      assert.strictEqual(yield* DeadLetters.count(second), 3)
      assert.strictEqual(yield* DeadLetters.count(third), 0)
    })
  )

  kit.test("2. subscriptions of one name on two topics share nothing", () =>
    Effect.gen(function* () {
      const good = kit.topic()
      const bad = kit.topic()
      const seen = yield* probe()
      const fine = Subscription.make("s", good, seen.handler(), { retry })
      const failing = Subscription.make("s", bad, () => Effect.fail("no"), { retry: { ...retry, maxRetries: 1 } })
      yield* kit.open(fine)
      yield* kit.open(failing)
      yield* Topic.publish(good, "good")
      yield* Topic.publish(bad, "bad")
      yield* kit.idle(fine)
      yield* kit.idle(failing)
      assert.deepStrictEqual(seen.data(), ["good"])
      assert.strictEqual(yield* DeadLetters.count(fine), 0)
      assert.strictEqual(yield* DeadLetters.count(failing), 1)
    })
  )

  kit.test("2. a subscription whose name is the end of another's shares nothing with it", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const names = ["billing", "billing-retry", "retry", "dlq", "due", "billing-dlq"]
      const probes = new Map<string, ReadonlyArray<number>>()
      const opened: Array<Subscription.Address> = []
      for (const name of names) {
        const seen = yield* probe()
        const failing = name === "billing"
        const handler = seen.handler((call) => {
          probes.set(
            name,
            seen.calls.map((one) => one.attempt)
          )
          return failing && call.attempt === 1 ? Effect.fail("no") : Effect.void
        })
        const subscription = Subscription.make(name, topic, handler, { retry })
        // a name that collides may be refused, but never mixed up
        const exit = yield* Effect.exit(kit.open(subscription))
        if (exit._tag === "Success") opened.push(subscription)
      }
      yield* Topic.publish(topic, "x")
      for (const one of opened) yield* kit.idle(one)
      for (const one of opened)
        assert.deepStrictEqual(probes.get(one.name), one.name === "billing" ? [1, 2] : [1], one.name)
    })
  )

  kit.test("2. a subscription that is stuck holds up no other", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const gate = yield* Latch.make()
      const stuck = yield* probe()
      const seen = yield* probe()
      yield* kit.open(
        Subscription.make(
          "stuck",
          topic,
          stuck.handler(() => gate.await),
          { concurrency: 1 }
        )
      )
      const free = Subscription.make("free", topic, seen.handler())
      yield* kit.open(free)
      yield* Topic.publishAll(topic, texts(200))
      yield* kit.next(stuck)
      yield* kit.idle(free)
      assert.strictEqual(seen.calls.length, 200)
      assert.strictEqual(stuck.calls.length, 1)
      yield* gate.open
      yield* kit.idle(Subscription.address("stuck", topic))
    })
  )

  kit.test("2. closing one subscription leaves the others running", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const seen = yield* probe()
      const stays = Subscription.make("stays", topic, seen.handler())
      const leaves = yield* kit.open(Subscription.make("leaves", topic, () => Effect.void))
      yield* kit.open(stays)
      yield* Topic.publishAll(topic, texts(10))
      yield* leaves.close
      yield* Topic.publishAll(topic, texts(20).slice(10))
      yield* kit.idle(stays)
      assert.deepStrictEqual(seen.data().toSorted(), [...texts(20)].toSorted())
    })
  )

  kit.testIf(kit.options.keys !== undefined, "2. there is no .retry.retry and no .dlq.retry, whatever fails", () =>
    Effect.gen(function* () {
      const { keys } = kit.options
      if (keys === undefined) return
      const topic = kit.topic()
      const subscription = Subscription.make("failing", topic, () => Effect.fail("no"), {
        retry: { ...retry, maxRetries: 3 },
        onDeadLetter: () => Effect.fail("no as well")
      })
      yield* kit.open(subscription)
      yield* Topic.publishAll(topic, texts(3))
      yield* kit.idle(subscription)
      yield* DeadLetters.redrive(subscription)
      yield* kit.idle(subscription)
      const all = yield* keys(topic.topic)
      assert.isAbove(all.length, 0)
      for (const key of all) {
        const derived = key.split(/[.:{}]/).filter((part) => parts.has(part))
        assert.isAtMost(derived.length, 1, `a chained key: ${key}`)
      }
    })
  )

  kit.test("3. replaying the topic from the beginning replays no retry", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const failing = yield* probe()
      const handler = failing.handler((call) => (call.attempt < 3 ? Effect.fail("no") : Effect.void))
      const subscription = Subscription.make("failing", topic, handler, { retry })
      yield* kit.open(subscription)
      yield* Topic.publishAll(topic, texts(5))
      yield* kit.idle(subscription)
      assert.strictEqual(failing.calls.length, 15)
      const replay = yield* probe()
      const again = Subscription.make("replay", topic, replay.handler(), { from: "beginning", concurrency: 1 })
      yield* kit.open(again)
      yield* kit.idle(again)
      assert.deepStrictEqual(replay.data(), texts(5))
    })
  )
}
