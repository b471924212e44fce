/**
 * Two workers of an ordered topic that go by one name.
 */
import { assert } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import { Subscription, type SubscribeError, Topic, Transport, type TransportError } from "../index.ts"
import * as Faults from "./Faults.ts"
import type { Category, Kit } from "./Kit.ts"
import { inTurn, type Keyed, keyedTopic, Ledger } from "./Ordered.ts"
import { group, two } from "./Workers.ts"

/** As if of another process: what runs here is not known there. */
const elsewhere = Effect.map(Transport, (transport) => Faults.wrap(transport, (_, call) => call))

const open = (kit: Kit, topic: Topic.Topic<Keyed>, ledger: Ledger, patience: Duration.Input) =>
  Effect.flatMap(elsewhere, (transport) =>
    kit
      .open(Subscription.make("s", topic, ledger.handler(), { consumer: "w", visibilityTimeout: patience }))
      .pipe(Effect.provideService(Transport, transport))
  )

/** Enrols, and is not there to stay yet. */
const arrive = (kit: Kit, topic: Topic.Topic<Keyed>, consumer = "w") =>
  Effect.flatMap(Transport, (transport) =>
    transport.enroll({ group: group(topic, "s"), consumer, from: "beginning", visibilityTimeout: kit.lease })
  )

const enroll = (kit: Kit, topic: Topic.Topic<Keyed>, consumer?: string) =>
  Effect.tap(arrive(kit, topic, consumer), (worker) => Effect.sync(() => worker.keep()))

const refusal = (enrolling: Effect.Effect<unknown, TransportError, Transport | Scope.Scope>) =>
  Effect.map(Effect.flip(enrolling), ({ reason }) => reason._tag)

export const namesakes: Category = (kit) => {
  /** Until whoever shows no sign of life is taken for dead. */
  const silence = kit.pass(Duration.toMillis(kit.lease) / kit.millis(1) + 1)

  kit.test("10. the second of two workers of one name starts when the first has left, and takes nothing from it", () =>
    Effect.gen(function* () {
      const topic = keyedTopic(kit)
      const ledger = new Ledger(1)
      const gate = yield* Latch.make()
      const first = ledger.handler(() => gate.await)
      const options = { consumer: "w", visibilityTimeout: kit.lease }
      const opened = yield* kit.open(Subscription.make("s", topic, first, options))
      yield* Topic.publishAll(topic, inTurn(["a"], 1))
      yield* kit.eventually(
        "it is handled",
        Effect.sync(() => ledger.events.length === 1)
      )
      const others = new Ledger(1)
      const second = yield* Effect.forkChild(open(kit, topic, others, "1 minute"))
      yield* silence
      assert.isUndefined(second.pollUnsafe())
      yield* gate.open
      yield* kit.idle(Subscription.address("s", topic))
      yield* opened.close
      yield* kit.passing(Fiber.join(second), "the start of the second")
      yield* Topic.publish(topic, { key: "a", n: 1 })
      yield* kit.idle(Subscription.address("s", topic))
      assert.deepStrictEqual(
        ledger.events.map(({ attempt, n, what }) => [what, n, attempt]),
        [
          ["start", 0, 1],
          ["success", 0, 1]
        ]
      )
      assert.deepStrictEqual(
        others.events.map(({ attempt, consumer, n, what }) => [what, n, attempt, consumer]),
        [
          ["start", 1, 1, "w"],
          ["success", 1, 1, "w"]
        ]
      )
    })
  )

  kit.test("10. a worker is refused as a duplicate where its namesake lives on, and that is not disturbed", () =>
    Effect.gen(function* () {
      const topic = keyedTopic(kit)
      const ledger = new Ledger(1)
      yield* open(kit, topic, ledger, kit.lease)
      const refused = yield* kit.passing(Effect.flip(open(kit, topic, new Ledger(1), kit.lease)), "the refusal")
      // that is all that subscribing fails with
      const { message, reason } = refused as SubscribeError
      assert.strictEqual(reason._tag, "DuplicateSubscription")
      assert.include(message, "consumer")
      yield* Topic.publishAll(topic, inTurn(["a"], 3))
      yield* kit.idle(Subscription.address("s", topic))
      assert.deepStrictEqual(ledger.starts("a"), [0, 1, 2])
    })
  )

  kit.test("10. the name of a worker that died is free when its visibility timeout ends, with all that it held", () =>
    Effect.gen(function* () {
      const topic = keyedTopic(kit)
      const ledger = new Ledger(1)
      yield* Topic.publishAll(topic, inTurn(["a"], 2))
      const dead = yield* Effect.flatMap(enroll(kit, topic), ({ claim }) => claim)
      yield* two(kit, Option.getOrThrow(dead))
      const died = yield* Clock.currentTimeMillis
      yield* kit.passing(open(kit, topic, ledger, kit.lease), "the start of its heir")
      assert.isAtLeast((yield* Clock.currentTimeMillis) - died, Duration.toMillis(kit.lease) - (kit.virtual ? 0 : 100))
      yield* kit.idle(Subscription.address("s", topic))
      assert.deepStrictEqual(
        ledger.events.map(({ attempt, n, what }) => [what, n, attempt]),
        [
          ["start", 0, 2],
          ["success", 0, 2],
          ["start", 1, 2],
          ["success", 1, 2]
        ]
      )
    })
  )

  kit.test("10. a worker whose name another took while it was silent is told so, and ends no claim of it", () =>
    Effect.gen(function* () {
      const topic = keyedTopic(kit)
      yield* Topic.publishAll(topic, inTurn(["a"], 2))
      const silent = yield* enroll(kit, topic)
      yield* silent.claim
      yield* silence
      const heir = yield* enroll(kit, topic)
      const owner = Option.getOrThrow(yield* heir.claim)
      assert.strictEqual(yield* refusal(silent.roster), "DuplicateSubscription")
      yield* two(kit, owner)
      // and when that one is silent, it is itself again, and the other is not
      yield* silence
      assert.deepStrictEqual((yield* silent.roster).workers, ["w"])
      assert.strictEqual(yield* owner.extend([]), "lost")
      assert.isTrue(Option.isSome(yield* silent.claim))
    })
  )

  kit.test("10. a worker that was silent has its name again as soon as its namesake has left", () =>
    Effect.gen(function* () {
      const topic = keyedTopic(kit)
      const silent = yield* enroll(kit, topic)
      yield* silence
      yield* Effect.scoped(Effect.andThen(enroll(kit, topic), refusal(silent.roster)))
      assert.deepStrictEqual((yield* silent.roster).workers, ["w"])
    })
  )

  kit.test("10. a name is its living owner's, also after one that took it meanwhile was undone", () =>
    Effect.gen(function* () {
      const topic = keyedTopic(kit)
      const silent = yield* enroll(kit, topic)
      yield* silent.claim
      yield* silence
      yield* Effect.scoped(arrive(kit, topic))
      yield* silent.roster
      const owner = Option.getOrThrow(yield* silent.claim)
      assert.strictEqual(yield* refusal(enroll(kit, topic)), "DuplicateSubscription")
      assert.deepStrictEqual(yield* owner.extend([]), [])
    })
  )

  kit.test("10. a worker that lost its name leaves its namesake alone when it goes", () =>
    Effect.gen(function* () {
      const topic = keyedTopic(kit)
      const gone = yield* Scope.fork(yield* Effect.scope)
      yield* Scope.provide(enroll(kit, topic), gone)
      yield* silence
      const heir = yield* enroll(kit, topic)
      // whoever claims, takes from all the others what proves that they hold something
      yield* Effect.flatMap(enroll(kit, topic, "other"), ({ claim }) => claim)
      yield* Scope.close(gone, Exit.void)
      assert.strictEqual(yield* refusal(enroll(kit, topic)), "DuplicateSubscription")
      assert.sameMembers([...(yield* heir.roster).workers], ["w", "other"])
    })
  )

  kit.test("10. a former owner of a name moves no mark of its heir", () =>
    Effect.gen(function* () {
      const topic = keyedTopic(kit)
      yield* Topic.publishAll(topic, inTurn(["a"], 2))
      const former = Option.getOrThrow(yield* Effect.flatMap(enroll(kit, topic), ({ claim }) => claim))
      yield* silence
      const heir = Option.getOrThrow(yield* Effect.flatMap(enroll(kit, topic), ({ claim }) => claim))
      yield* two(kit, heir)
      assert.strictEqual(yield* former.mark("main", []), "lost")
      yield* silence
      const last = Option.getOrThrow(yield* Effect.flatMap(enroll(kit, topic, "other"), ({ claim }) => claim))
      const taken = yield* two(kit, last)
      assert.deepStrictEqual(
        taken.map(({ attempt }) => attempt),
        [2, 2]
      )
    })
  )
}
