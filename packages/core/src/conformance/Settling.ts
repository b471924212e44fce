/**
 * Settling as the log sees it: one atomic step each, by the owner alone, harmless when repeated.
 */
import { assert } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import { DeadLetters, Subscription, Topic, Transport } from "../index.ts"
import { range, texts } from "./Collect.ts"
import { type Category, probe } from "./Kit.ts"
import { fetch, group, join, settle } from "./Workers.ts"

export const settling: Category = (kit) => {
  const slack = kit.virtual ? kit.millis(1) : 1000

  kit.test("8. a worker that lost its lease learns it when it settles: refused, and not applied", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const seen = yield* probe()
      const gate = yield* Latch.make()
      yield* Topic.publish(topic, "x")
      const dead = yield* join(kit, topic, "s")
      const [entry] = yield* fetch(kit, dead, 1)
      if (entry === undefined) return assert.fail("no delivery")
      const subscription = Subscription.make(
        "s",
        topic,
        seen.handler(() => gate.await)
      )
      yield* kit.open(subscription)
      yield* kit.next(seen)
      for (const outcome of [
        { _tag: "Ack" },
        { _tag: "Release" },
        { _tag: "Retry", delay: Duration.zero, cause: "late" },
        { _tag: "DeadLetter", reason: "rejected", cause: "late", attempts: 1 }
      ] as const) {
        assert.deepStrictEqual(yield* settle(dead, [{ entry, outcome, repeated: false }]), ["lost"], outcome._tag)
      }
      assert.deepStrictEqual(yield* dead.extend([entry]), [entry])
      yield* gate.open
      yield* kit.idle(subscription)
      assert.strictEqual(seen.calls.length, 1)
      assert.strictEqual(yield* DeadLetters.count(subscription), 0)
    })
  )

  kit.test("8. what was taken from a worker and given to it again is another delivery: the first one is refused", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      yield* Topic.publish(topic, "x")
      const transport = yield* Transport
      const worker = yield* join(kit, topic, "s")
      const [first] = yield* fetch(kit, worker, 1)
      // it costs no attempt, so both deliveries are attempt 1 of one entry by one consumer
      yield* worker.mark("main", "0-0")
      yield* kit.eventually(
        "the lease ends and the delivery is taken back",
        Effect.map(transport.tend(group(topic, "s")), ({ reclaimed }) => reclaimed > 0)
      )
      const [second] = yield* fetch(kit, worker, 1)
      if (first === undefined || second === undefined) return assert.fail("no delivery")
      assert.deepStrictEqual([first.id, first.attempt], [second.id, second.attempt])
      for (const outcome of [{ _tag: "Ack" }, { _tag: "Retry", delay: Duration.zero, cause: "late" }] as const) {
        const settled = yield* settle(worker, [{ entry: first, outcome, repeated: false }])
        assert.deepStrictEqual(settled, ["lost"], outcome._tag)
      }
      assert.strictEqual((yield* transport.inspect(group(topic, "s"))).pending, 1)
      assert.deepStrictEqual(yield* settle(worker, [{ entry: second, outcome: { _tag: "Ack" }, repeated: false }]), [
        "done"
      ])
      assert.strictEqual((yield* transport.inspect(group(topic, "s"))).pending, 0)
    })
  )

  kit.test("1. a release reaches another worker at once, without waiting for a timeout", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const seen = yield* probe()
      yield* Topic.publish(topic, "x")
      const raw = yield* join(kit, topic, "s", { visibility: Duration.hours(1) })
      const [entry] = yield* fetch(kit, raw, 1)
      if (entry === undefined) return assert.fail("no delivery")
      yield* kit.open(Subscription.make("s", topic, seen.handler()))
      const released = yield* Clock.currentTimeMillis
      assert.deepStrictEqual(yield* settle(raw, [{ entry, outcome: { _tag: "Release" }, repeated: false }]), ["done"])
      const call = yield* kit.next(seen)
      assert.strictEqual(call.attempt, 1)
      assert.isAtMost(call.at - released, slack)
    })
  )

  kit.test("1. a consumer that leaves gives back what it holds, at once and at no cost of an attempt", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      yield* Topic.publishAll(topic, texts(3))
      yield* join(kit, topic, "s", { consumer: "leaves", visibility: Duration.hours(1) }).pipe(
        Effect.flatMap((consumer) => fetch(kit, consumer, 3)),
        Effect.scoped
      )
      const seen = yield* probe()
      yield* kit.open(Subscription.make("s", topic, seen.handler()))
      const left = yield* Clock.currentTimeMillis
      const calls = yield* kit.take(seen, 3)
      assert.deepStrictEqual([...new Set(calls.map((call) => call.attempt))], [1])
      assert.isAtMost((yield* Clock.currentTimeMillis) - left, slack)
    })
  )

  kit.test("1. a settle repeated because its reply was lost changes nothing: it finds nothing to settle", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      yield* Topic.publishAll(topic, texts(3))
      const raw = yield* join(kit, topic, "s")
      const entries = yield* fetch(kit, raw, 3)
      const transport = yield* Transport
      const outcomes = [
        { _tag: "Ack" },
        { _tag: "Retry", delay: Duration.hours(1), cause: "no" },
        { _tag: "DeadLetter", reason: "rejected", cause: "no", attempts: 1 }
      ] as const
      for (const [i, outcome] of outcomes.entries()) {
        const entry = entries[i]
        if (entry === undefined) return assert.fail("no delivery")
        assert.deepStrictEqual(
          yield* settle(raw, [{ entry, outcome, repeated: false }]),
          [outcome._tag === "DeadLetter" ? "DeadLettered" : "done"],
          outcome._tag
        )
        assert.deepStrictEqual(yield* settle(raw, [{ entry, outcome, repeated: true }]), ["unknown"], outcome._tag)
        assert.deepStrictEqual(yield* settle(raw, [{ entry, outcome, repeated: false }]), ["lost"], outcome._tag)
      }
      const { pending, due, deadLetters } = yield* transport.inspect(group(topic, "s"))
      assert.deepStrictEqual([pending, due, deadLetters], [0, 1, 1])
    })
  )

  kit.test("1. a list of settlements is answered one by one, in order", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      yield* Topic.publishAll(topic, texts(4))
      const raw = yield* join(kit, topic, "s")
      const [a, b, c, d] = yield* fetch(kit, raw, 4)
      if (a === undefined || b === undefined || c === undefined || d === undefined) return assert.fail("deliveries")
      yield* raw.settle([{ entry: b, outcome: { _tag: "Ack" }, repeated: false }])
      const settled = yield* settle(raw, [
        { entry: a, outcome: { _tag: "Ack" }, repeated: false },
        { entry: b, outcome: { _tag: "Ack" }, repeated: false },
        { entry: c, outcome: { _tag: "DeadLetter", reason: "rejected", cause: "no", attempts: 1 }, repeated: false },
        { entry: d, outcome: { _tag: "Release" }, repeated: false }
      ])
      assert.deepStrictEqual(settled, ["done", "lost", "DeadLettered", "done"])
    })
  )

  kit.test("7. extending is for the owner alone", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      yield* Topic.publishAll(topic, texts(2))
      const first = yield* join(kit, topic, "s", { consumer: "first" })
      const second = yield* join(kit, topic, "s", { consumer: "second" })
      const [a] = yield* fetch(kit, first, 1)
      const [b] = yield* fetch(kit, second, 1)
      if (a === undefined || b === undefined) return assert.fail("deliveries")
      assert.deepStrictEqual(yield* first.extend([a, b]), [b])
      assert.deepStrictEqual(yield* settle(second, [{ entry: b, outcome: { _tag: "Ack" }, repeated: false }]), ["done"])
    })
  )

  kit.test("7. a dead consumer with pending entries is never removed with them", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const transport = yield* Transport
      yield* Topic.publishAll(topic, texts(2))
      const first = yield* join(kit, topic, "s", { consumer: "first", visibility: Duration.hours(1) })
      const second = yield* join(kit, topic, "s", { consumer: "second", visibility: Duration.hours(1) })
      const [a] = yield* fetch(kit, first, 1)
      const [b] = yield* fetch(kit, second, 1)
      if (a === undefined || b === undefined) return assert.fail("deliveries")
      yield* settle(first, [{ entry: a, outcome: { _tag: "Ack" }, repeated: false }])
      for (const _ of range(20)) {
        yield* transport.tend(group(topic, "s"))
        // on virtual time far beyond any bound on the silence of a consumer
        yield* kit.pass(kit.virtual ? 100 : 1)
      }
      assert.strictEqual((yield* transport.inspect(group(topic, "s"))).pending, 1)
      assert.deepStrictEqual(yield* settle(second, [{ entry: b, outcome: { _tag: "Ack" }, repeated: false }]), ["done"])
    })
  )
}
