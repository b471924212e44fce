/**
 * Retention "acknowledged": what every group has settled is dropped, and nothing else ever is.
 */
import { assert } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Latch from "effect/Latch"
import * as Metric from "effect/Metric"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import { DeadLetters, type Source, Subscription, Topic, Transport } from "../index.ts"
import type { Consumer } from "../Transport.ts"
import { texts } from "./Collect.ts"
import { counted } from "./Counting.ts"
import { type Category, type Kit, probe } from "./Kit.ts"
import { randomTrimming } from "./RetentionProperty.ts"
import { fetch, join, settle } from "./Workers.ts"

/** A topic that drops what every group has settled. */
const cleared = (kit: Kit, options?: { readonly maxLength?: number; readonly abandonedAfter?: Duration.Input }) =>
  Topic.make(kit.fresh("cleared"), { schema: Schema.String, retention: "acknowledged", ...options })

const log = (source: Source<unknown>) => ({ topic: source.topic, partition: 0 })

/** Trims until nothing is left to trim; how many entries that dropped. */
export const trim = (source: Source<unknown>) =>
  Effect.gen(function* () {
    const transport = yield* Transport
    let sum = 0
    for (;;) {
      const { more, trimmed } = yield* transport.trim(log(source))
      sum += trimmed
      if (!more) return sum
    }
  })

/** The value of the gauge of abandoned groups; none where it was never set. */
const reported = (topic: string, group: string): Effect.Effect<ReadonlyArray<number>> =>
  Effect.map(Metric.snapshot, (all) =>
    all.flatMap((one) => {
      const attributes = JSON.stringify(one.attributes ?? {})
      const here = attributes.includes(`"${topic}"`) && attributes.includes(`"${group}"`)
      return one.id === "clutch.groups.abandoned" && here && one.type === "Gauge" ? [Number(one.state.value)] : []
    })
  )

const ack = { _tag: "Ack" } as const

export const retention: Category = (kit) => {
  /** Takes so much and acks it. */
  const acks = (consumer: Consumer, count: number) =>
    Effect.gen(function* () {
      for (const entry of yield* fetch(kit, consumer, count)) {
        assert.deepStrictEqual(yield* settle(consumer, [{ entry, outcome: ack, repeated: false }]), ["done"])
      }
    })
  const member = (topic: Source<unknown>, group: string) => join(kit, topic, group, { consumer: `${group}-1` })
  /** A member of a group that takes so much and acks it. */
  const settles = (topic: Source<unknown>, group: string, count: number) =>
    Effect.tap(member(topic, group), (consumer) => acks(consumer, count))

  kit.test("12. whoever reclaims drops what every subscription has settled, soon, and counts it", () =>
    Effect.gen(function* () {
      const topic = cleared(kit)
      const one = Subscription.make("one", topic, () => Effect.void)
      const two = Subscription.make("two", topic, () => Effect.void)
      yield* kit.open(one)
      yield* kit.open(two)
      yield* Topic.publishAll(topic, texts(30))
      yield* kit.idle(one)
      yield* kit.idle(two)
      const all = Effect.map(counted("clutch.messages.cleared", topic.topic), (count) => count === 30)
      yield* kit.eventually("all thirty are dropped", all)
      assert.strictEqual(yield* counted("clutch.messages.trimmed", topic.topic), 0)
      yield* Topic.publishAll(topic, texts(5))
      yield* kit.idle(one)
      yield* kit.idle(two)
      const again = Effect.map(counted("clutch.messages.cleared", topic.topic), (count) => count === 35)
      yield* kit.eventually("and what comes later", again)
    })
  )

  kit.test("12. without retention, what is settled stays", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const one = Subscription.make("one", topic, () => Effect.void)
      yield* kit.open(one)
      yield* Topic.publishAll(topic, texts(5))
      yield* kit.idle(one)
      yield* kit.pass(kit.virtual ? 120 : 40)
      const seen = yield* probe()
      const late = Subscription.make("late", topic, seen.handler(), { from: "beginning", concurrency: 1 })
      yield* kit.open(late)
      yield* kit.idle(late)
      assert.deepStrictEqual(seen.data(), texts(5))
    })
  )

  kit.test("12. nothing is dropped while there is no group: nobody has settled anything", () =>
    Effect.gen(function* () {
      const topic = cleared(kit)
      yield* Topic.publishAll(topic, texts(5))
      assert.strictEqual(yield* trim(topic), 0)
      yield* settles(topic, "first", 5)
      assert.strictEqual(yield* trim(topic), 5)
      assert.strictEqual(yield* trim(topic), 0)
    })
  )

  kit.test("1. what is pending for a slow group is never dropped, nor what follows it", () =>
    Effect.gen(function* () {
      const topic = cleared(kit)
      const seen = yield* probe()
      const gate = yield* Latch.make()
      const slow = Subscription.make(
        "slow",
        topic,
        seen.handler(({ data }) => (data === "m2" ? gate.await : Effect.void)),
        { concurrency: 10, from: "beginning" }
      )
      yield* kit.open(slow)
      yield* Topic.publishAll(topic, texts(6))
      yield* settles(topic, "quick", 6)
      yield* kit.take(seen, 6)
      // whoever reclaims drops some of it too
      const dropped = counted("clutch.messages.cleared", topic.topic)
      let mine = 0
      yield* kit.eventually(
        "the two in front are dropped",
        Effect.gen(function* () {
          mine += yield* trim(topic)
          return mine + (yield* dropped) === 2
        })
      )
      yield* kit.pass(kit.virtual ? 120 : 40)
      assert.strictEqual(mine + (yield* trim(topic)) + (yield* dropped), 2)
      yield* gate.open
      yield* kit.idle(slow)
      yield* kit.eventually(
        "then all are",
        Effect.gen(function* () {
          mine += yield* trim(topic)
          return mine + (yield* dropped) === 6
        })
      )
    })
  )

  kit.test("1. what a paused subscription has not read is never dropped", () =>
    Effect.gen(function* () {
      const topic = cleared(kit)
      const other = yield* member(topic, "other")
      const seen = yield* probe()
      const { handle } = yield* kit.open(Subscription.make("paused", topic, seen.handler(), { concurrency: 1 }))
      yield* Topic.publish(topic, "before")
      yield* kit.take(seen)
      yield* handle.pause
      yield* kit.idle(Subscription.address("paused", topic))
      yield* Topic.publishAll(topic, texts(20))
      yield* acks(other, 21)
      yield* trim(topic)
      yield* kit.pass(kit.virtual ? 120 : 40)
      yield* trim(topic)
      yield* handle.resume
      yield* kit.take(seen, 20)
      assert.deepStrictEqual(seen.data(), ["before", ...texts(20)])
    })
  )

  kit.test("1. what a stopped subscription has not read, and what was given back, is never dropped", () =>
    Effect.gen(function* () {
      const topic = cleared(kit)
      const scope = yield* Scope.fork(yield* Effect.scope)
      const leaving = yield* Scope.provide(join(kit, topic, "stopped", { consumer: "leaving" }), scope)
      yield* Topic.publishAll(topic, texts(6))
      yield* settles(topic, "other", 6)
      const [first, second] = yield* fetch(kit, leaving, 3)
      if (first === undefined || second === undefined) return assert.fail()
      yield* settle(leaving, [{ entry: first, outcome: ack, repeated: false }])
      yield* kit.passing(Scope.close(scope, Exit.void))
      assert.strictEqual(yield* trim(topic), 1)
      yield* kit.pass(1)
      assert.strictEqual(yield* trim(topic), 0)
      const back = yield* join(kit, topic, "stopped", { consumer: "back" })
      const rest = yield* fetch(kit, back, 5)
      assert.deepStrictEqual(rest[0]?.originalId, second.originalId)
    })
  )

  kit.test("1. what waits for its retry, or is a dead letter, is settled: its copy is tried again after the drop", () =>
    Effect.gen(function* () {
      const topic = cleared(kit)
      const seen = yield* probe()
      const failing = seen.handler(({ attempt, data }) =>
        data === "m1" || attempt === 1 ? Effect.fail("no") : Effect.void
      )
      const retry = { maxRetries: 1, base: kit.ticks(20), jitter: 0 }
      const failingTwice = Subscription.make("s", topic, failing, { retry, from: "beginning" })
      yield* kit.open(failingTwice)
      yield* Topic.publishAll(topic, texts(2))
      yield* kit.take(seen, 2)
      const dropped = counted("clutch.messages.cleared", topic.topic)
      let mine = 0
      yield* kit.eventually(
        "both are dropped before their retry",
        Effect.gen(function* () {
          mine += yield* trim(topic)
          return mine + (yield* dropped) === 2 && seen.calls.length === 2
        })
      )
      yield* kit.idle(failingTwice)
      assert.deepStrictEqual(seen.data().toSorted(), ["m0", "m0", "m1", "m1"])
      const stats = yield* Subscription.stats(failingTwice)
      assert.deepStrictEqual([stats.pending, stats.due, stats.deadLetters], [0, 0, 1])
      assert.strictEqual(yield* DeadLetters.redrive(failingTwice), 1)
      yield* kit.take(seen)
    })
  )

  kit.test("12. a group that is created later does not see what was dropped, and sees all that follows", () =>
    Effect.gen(function* () {
      for (const from of ["beginning", { id: "0-1" }] as const) {
        const topic = cleared(kit)
        yield* Topic.publishAll(topic, texts(3))
        yield* settles(topic, "early", 2)
        assert.strictEqual(yield* trim(topic), 2)
        const seen = yield* probe()
        const late = Subscription.make("late", topic, seen.handler(), { from, concurrency: 1 })
        yield* kit.open(late)
        yield* kit.idle(late)
        assert.deepStrictEqual(seen.data(), ["m2"])
        yield* Topic.publish(topic, "m3")
        yield* kit.take(seen, 2)
        assert.deepStrictEqual(seen.data(), ["m2", "m3"])
      }
    })
  )

  kit.test("12. what was dropped confuses neither awaitIdle nor stats, and the next message follows the last id", () =>
    Effect.gen(function* () {
      const topic = cleared(kit)
      const transport = yield* Transport
      const consumer = yield* settles(topic, "s", 0)
      const group = { ...log(topic), subscription: "s" }
      const messages = yield* Topic.publishAll(topic, texts(4))
      const last = yield* transport.lastId(log(topic))
      const entries = yield* fetch(kit, consumer, 4)
      const done = entries.slice(0, 3).map((entry) => ({ entry, outcome: ack, repeated: false }))
      yield* Effect.forEach(done, (one) => settle(consumer, [one]))
      assert.strictEqual(yield* trim(topic), 3)
      assert.strictEqual(yield* transport.lastId(log(topic)), last)
      const outstanding = (id: string) => transport.outstanding(group, { through: id, due: "wait" })
      assert.isFalse(yield* outstanding(messages[2]?.id ?? ""))
      assert.isTrue(yield* outstanding(last))
      const [fourth] = entries.slice(3)
      if (fourth === undefined) return assert.fail()
      yield* settle(consumer, [{ entry: fourth, outcome: ack, repeated: false }])
      assert.strictEqual(yield* trim(topic), 1)
      assert.isFalse(yield* outstanding(last))
      assert.deepStrictEqual(yield* transport.inspect(group), {
        waiting: Option.some(0),
        pending: 0,
        due: 0,
        deadLetters: 0,
        heldBack: 0,
        parked: 0,
        oldestHeldBack: Option.none()
      })
      const [next] = yield* Topic.publishAll(topic, ["next"])
      assert.strictEqual(yield* transport.lastId(log(topic)), next?.id)
      assert.notStrictEqual(next?.id, last)
      assert.strictEqual((yield* fetch(kit, consumer, 1))[0]?.originalId, next?.id)
    })
  )

  kit.test("12. maxLength beside it is a hard limit: it drops what nobody has read, and that is counted as lost", () =>
    Effect.gen(function* () {
      const topic = cleared(kit, { maxLength: 5 })
      yield* Topic.publishAll(topic, texts(3))
      yield* settles(topic, "s", 2)
      assert.strictEqual(yield* trim(topic), 2)
      yield* Topic.publishAll(topic, texts(7))
      assert.strictEqual(yield* counted("clutch.messages.trimmed", topic.topic), 3)
      assert.strictEqual(yield* trim(topic), 0)
    })
  )

  kit.test("12. options that contradict each other are refused by publish and subscribe, naming option and fix", () =>
    Effect.gen(function* () {
      const untyped = (options: object) => Topic.make(kit.fresh("t"), { schema: Schema.String, ...options })
      for (const [options, option, fix] of [
        [{ abandonedAfter: "1 day" }, "abandonedAfter", `add that, or leave it out`],
        [{ retention: "acked" }, "retention", `give "acknowledged"`],
        [{ retention: "acknowledged", abandonedAfter: 0 }, "abandonedAfter", "above 0"],
        [{ retention: "acknowledged", abandonedAfter: "soon" }, "abandonedAfter", "above 0"]
      ] as const) {
        const topic = untyped(options)
        const publishing = yield* Effect.flip(Topic.publish(topic, "x"))
        assert.strictEqual(publishing.reason._tag, "InvalidOption")
        assert.include(publishing.message, `"${option}"`)
        assert.include(publishing.message, fix)
        const subscribing = yield* Effect.flip(kit.open(Subscription.make("s", topic, () => Effect.void)))
        assert.include(String(subscribing), fix)
      }
    })
  )

  kit.test(
    "12. an abandoned group is reported, still holds back what it has not settled, and is removed by command",
    () =>
      Effect.gen(function* () {
        const topic = cleared(kit, { abandonedAfter: kit.ticks(30) })
        const scope = yield* Scope.fork(yield* Effect.scope)
        yield* Scope.provide(settles(topic, "gone", 0), scope)
        yield* kit.passing(Scope.close(scope, Exit.void))
        const seen = yield* probe()
        const living = Subscription.make("living", topic, seen.handler())
        yield* kit.open(living)
        yield* Topic.publishAll(topic, texts(3))
        yield* kit.take(seen, 3)
        yield* kit.idle(living)
        const status = (name: string) =>
          Effect.map(Topic.groups(topic), (groups) => groups.find((group) => group.name === name))
        assert.isFalse((yield* status("gone"))?.abandoned)
        yield* kit.eventually(
          "the group is reported",
          Effect.map(reported(topic.topic, "gone"), (values) => values[0] === 1)
        )
        const gone = yield* status("gone")
        assert.isTrue(gone?.abandoned)
        assert.isTrue(Option.isSome(gone?.holds ?? Option.none()))
        assert.isTrue(Duration.isGreaterThan(gone?.silent ?? Duration.zero, kit.ticks(30)))
        assert.isFalse((yield* status("living"))?.abandoned)
        assert.deepStrictEqual(yield* reported(topic.topic, "living"), [])
        assert.strictEqual(yield* trim(topic), 0)
        assert.strictEqual(yield* counted("clutch.messages.cleared", topic.topic), 0)

        const removed = yield* Topic.removeGroup(topic, "gone")
        assert.isTrue(Option.isSome(removed))
        assert.isUndefined(yield* status("gone"))
        yield* kit.eventually(
          "what it held back is dropped",
          Effect.map(counted("clutch.messages.cleared", topic.topic), (count) => count === 3)
        )
        yield* kit.eventually(
          "it is reported no more",
          Effect.map(reported(topic.topic, "gone"), (values) => values[0] === 0)
        )
        assert.deepStrictEqual(yield* Topic.removeGroup(topic, "gone"), Option.none())
      })
  )

  kit.test("12. a silent group that has settled all there is holds nothing back, and is not reported", () =>
    Effect.gen(function* () {
      const topic = cleared(kit, { abandonedAfter: kit.ticks(5) })
      const scope = yield* Scope.fork(yield* Effect.scope)
      yield* Topic.publishAll(topic, texts(3))
      yield* Scope.provide(settles(topic, "done", 3), scope)
      yield* kit.passing(Scope.close(scope, Exit.void))
      yield* kit.pass(20)
      const [status] = yield* Topic.groups(topic)
      assert.deepInclude(status, { name: "done", pending: 0, consumers: 0, abandoned: false, missing: false })
      assert.deepStrictEqual(status?.holds, Option.none())
    })
  )

  kit.test("12. a group with a living worker is not removed, and nothing of it is", () =>
    Effect.gen(function* () {
      const topic = cleared(kit)
      const seen = yield* probe()
      const subscription = Subscription.make("s", topic, seen.handler(), { from: "beginning" })
      const { close } = yield* kit.open(subscription)
      const error = yield* Effect.flip(Topic.removeGroup(topic, "s"))
      assert.strictEqual(error.reason._tag, "Refused")
      assert.include(error.message, "stop them first")
      yield* Topic.publish(topic, "x")
      yield* kit.take(seen)
      yield* kit.idle(subscription)
      yield* close
      assert.isTrue(Option.isSome(yield* Topic.removeGroup(topic, "s")))
      assert.strictEqual((yield* Effect.flip(Subscription.awaitIdle(subscription))).reason._tag, "NoSubscription")
    })
  )

  kit.test("12. removing a group says what went with it, keeps its dead letters, and leaves nothing else", () =>
    Effect.gen(function* () {
      const topic = cleared(kit)
      const scope = yield* Scope.fork(yield* Effect.scope)
      const consumer = yield* Scope.provide(settles(topic, "s", 0), scope)
      yield* Topic.publishAll(topic, texts(5))
      const [dead, later] = yield* fetch(kit, consumer, 3)
      if (dead === undefined || later === undefined) return assert.fail()
      const buried = { _tag: "DeadLetter", reason: "rejected", cause: "no", attempts: 1 } as const
      yield* settle(consumer, [{ entry: dead, outcome: buried, repeated: false }])
      const scheduled = { _tag: "Retry", delay: Duration.hours(1), cause: "no" } as const
      yield* settle(consumer, [{ entry: later, outcome: scheduled, repeated: false }])
      yield* kit.passing(Scope.close(scope, Exit.void))
      const removed = yield* Topic.removeGroup(topic, "s")
      const { deadLetters, due, pending } = Option.getOrThrow(removed)
      assert.deepStrictEqual({ deadLetters, due, pending }, { deadLetters: 1, due: 1, pending: 1 })
      assert.deepStrictEqual(yield* Topic.groups(topic), [])
      const address = Subscription.address("s", topic)
      assert.strictEqual(yield* DeadLetters.count(address), 1)

      const seen = yield* probe()
      const again = Subscription.make("s", topic, seen.handler(), { from: "beginning", concurrency: 1 })
      yield* kit.open(again)
      yield* kit.idle(again)
      assert.deepStrictEqual(seen.data(), texts(5))
      const stats = yield* Subscription.stats(again)
      assert.deepStrictEqual([stats.pending, stats.due, stats.deadLetters], [0, 0, 1])
      assert.strictEqual(yield* DeadLetters.redrive(address), 1)
      yield* kit.take(seen, 6)
    })
  )

  kit.test("12. many thousand settled messages are dropped to the last one, and no other", () =>
    Effect.gen(function* () {
      const topic = cleared(kit)
      const count = kit.many(20_000)
      const consumer = yield* settles(topic, "s", 0)
      yield* Topic.publishAll(topic, texts(count))
      for (let left = count - 7; left > 0;) {
        const [first, ...rest] = (yield* fetch(kit, consumer, Math.min(left, 500))).map((entry) => ({
          entry,
          outcome: ack,
          repeated: false
        }))
        if (first === undefined) return assert.fail()
        left -= rest.length + 1
        yield* settle(consumer, [first, ...rest])
      }
      assert.strictEqual(yield* trim(topic), count - 7)
      const rest = yield* fetch(kit, consumer, 7)
      assert.strictEqual(rest.length, 7)
      assert.strictEqual(yield* trim(topic), 0)
    })
  )

  randomTrimming(kit)
}
