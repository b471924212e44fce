/**
 * Order by key where the log falters, or a handler settles before it ends.
 */
import { assert } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import { Delivery, Subscription, Topic, Transport, type TransportError } from "../index.ts"
import * as Faults from "./Faults.ts"
import type { Category } from "./Kit.ts"
import { inTurn, keyedTopic, Ledger } from "./Ordered.ts"

/** A Transport that fails before it does what it is told to fail at; `done` hears of the other calls. */
const faulty = (isFailing: (step: Faults.Step) => boolean, done: (step: Faults.Step) => void = () => {}) =>
  Effect.gen(function* () {
    const inject: Faults.Injector = <A, E, R>(step: Faults.Step, call: Effect.Effect<A, E, R>) =>
      Effect.suspend((): Effect.Effect<A, E | TransportError, R> =>
        isFailing(step)
          ? Effect.fail(Faults.unavailable(step.operation))
          : Effect.tap(call, () => Effect.sync(() => done(step)))
      )
    return Faults.wrap(yield* Transport, inject)
  })

/** A process that stops sees only that the time is another one: this clock is so many milliseconds ahead. */
const shiftedBy = (frozen: () => number) =>
  Effect.map(Clock.Clock, (clock): Clock.Clock => {
    const millis = () => clock.currentTimeMillisUnsafe() + frozen()
    return {
      currentTimeMillisUnsafe: millis,
      currentTimeMillis: Effect.sync(millis),
      currentTimeNanosUnsafe: () => clock.currentTimeNanosUnsafe(),
      currentTimeNanos: clock.currentTimeNanos,
      monotonicTimeNanosUnsafe: () => clock.monotonicTimeNanosUnsafe(),
      monotonicTimeNanos: clock.monotonicTimeNanos,
      sleep: (duration) => clock.sleep(duration)
    }
  })

export const keyFaults: Category = (kit) => {
  kit.test("10. the next of a key starts after the log has the settlement of the one before it", () =>
    Effect.gen(function* () {
      const topic = keyedTopic(kit)
      const ledger = new Ledger(1)
      let settled = 0
      const before: Array<number> = []
      const transport = yield* faulty(
        ({ ofKind, operation }) => operation === "settle" && ofKind <= 3,
        ({ operation }) => {
          if (operation === "settle") settled += 1
        }
      )
      const handler = ledger.handler(() => Effect.sync(() => before.push(settled)))
      const subscription = Subscription.make("s", topic, handler, { concurrency: 4 })
      yield* kit.open(subscription).pipe(Effect.provideService(Transport, transport))
      yield* Topic.publishAll(topic, inTurn(["a"], 3))
      yield* kit.idle(subscription)
      assert.deepStrictEqual(before, [0, 1, 2])
    })
  )

  kit.test("10. the next of a key starts after the handler before it has ended, though that had settled", () =>
    Effect.gen(function* () {
      const topic = keyedTopic(kit)
      const ledger = new Ledger(1)
      const gate = yield* Latch.make()
      const handler = ledger.handler(
        Effect.fnUntraced(function* ({ n }) {
          const delivery = yield* Delivery
          yield* Effect.orDie(delivery.ack)
          if (n === 0) yield* gate.await
        })
      )
      const subscription = Subscription.make("s", topic, handler, { ack: "manual", concurrency: 4 })
      yield* kit.open(subscription)
      yield* Topic.publishAll(topic, inTurn(["a"], 3))
      yield* kit.eventually(
        "the first has begun",
        Effect.sync(() => ledger.events.length > 0)
      )
      yield* kit.pass(3)
      yield* gate.open
      yield* kit.eventually(
        "all are handled",
        Effect.sync(() => ledger.events.length === 6)
      )
      ledger.assertOrder()
    })
  )

  kit.test("10. a worker that was frozen past its lease starts nothing more before the log has renewed it", () =>
    Effect.gen(function* () {
      const topic = keyedTopic(kit)
      const ledger = new Ledger(1)
      let frozen = 0
      let renewals = 0
      const before: Array<number> = []
      const transport = yield* faulty(
        () => false,
        ({ operation }) => {
          if (frozen > 0 && (operation === "extend" || operation === "claim")) renewals += 1
        }
      )
      const shifted = yield* shiftedBy(() => frozen)
      const handler = ledger.handler(({ n }) =>
        Effect.sync(() => {
          before.push(renewals)
          if (n === 0) frozen = 2 * Duration.toMillis(kit.lease)
        })
      )
      const subscription = Subscription.make("s", topic, handler, { visibilityTimeout: kit.lease })
      yield* kit
        .open(subscription)
        .pipe(Effect.provideService(Transport, transport), Effect.provideService(Clock.Clock, shifted))
      yield* Topic.publishAll(topic, inTurn(["a"], 2))
      yield* kit.eventually(
        "both have begun",
        Effect.sync(() => ledger.starts("a").includes(1))
      )
      assert.strictEqual(before[0], 0)
      assert.isAtLeast(before.at(-1) ?? 0, 1)
    })
  )

  kit.test(
    "10. a worker that was frozen before it heard of its claim starts nothing before the log has renewed it",
    () =>
      Effect.gen(function* () {
        const topic = keyedTopic(kit)
        const ledger = new Ledger(1)
        let frozen = 0
        let renewals = 0
        const before: Array<number> = []
        const transport = yield* faulty(
          () => false,
          ({ operation }) => {
            if (operation === "claim") frozen = 2 * Duration.toMillis(kit.lease)
            if (operation === "extend") renewals += 1
          }
        )
        const shifted = yield* shiftedBy(() => frozen)
        const handler = ledger.handler(() => Effect.sync(() => before.push(renewals)))
        const options = { visibilityTimeout: kit.lease, from: "beginning" } as const
        yield* Topic.publishAll(topic, inTurn(["a"], 1))
        yield* kit
          .open(Subscription.make("s", topic, handler, options))
          .pipe(Effect.provideService(Transport, transport), Effect.provideService(Clock.Clock, shifted))
        yield* kit.eventually(
          "it has begun",
          Effect.sync(() => before.length > 0)
        )
        assert.isAtLeast(before[0] ?? 0, 1)
      })
  )
}
