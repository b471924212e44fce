/** Closing drains: fetching stops, handlers get drainTimeout, what is unfinished is released at no cost. */
import { Delivery } from "@clutch/core/Delivery"
import type { SettleError } from "@clutch/core/Errors"
import type { Message } from "@clutch/core/Message"
import * as MemoryTransport from "@clutch/core/MemoryTransport"
import * as Subscription from "@clutch/core/Subscription"
import * as Topic from "@clutch/core/Topic"
import { assert, describe, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { identity } from "effect/Function"
import * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import * as Scope from "effect/Scope"
import * as Tracer from "effect/Tracer"
import {
  given,
  layerWith,
  Lines,
  open,
  pass,
  probe,
  run,
  settled,
  Texts,
  unavailable,
  withConsumers
} from "./support.ts"

/** A log whose scopes wait when they close, as outside tests. */
const patient = layerWith(identity, false)

/** The only group of the log. */
const groupNow = Effect.map(MemoryTransport.snapshot, ({ logs }) => logs[0]?.groups[0] ?? assert.fail("no group"))

describe("Subscription: closing", () => {
  it.effect("fetching stops at once, and handlers in flight end and are acked", () =>
    run(patient, function* () {
      const gate = yield* Latch.make()
      const seen = yield* probe()
      const worker = yield* open(
        Subscription.make(
          "s",
          Texts,
          seen.handler(() => gate.await),
          { concurrency: 2 }
        )
      )
      yield* Topic.publishAll(Texts, ["a", "b", "c"])
      yield* seen.next
      yield* seen.next
      const closing = yield* Effect.forkChild(worker.close)
      yield* pass("10 seconds")
      assert.strictEqual((yield* worker.handle.stats).state, "draining")
      assert.isUndefined(closing.pollUnsafe())
      yield* gate.open
      yield* Fiber.join(closing)
      assert.deepStrictEqual(seen.data(), ["a", "b"])
      const { consumers, pending, waiting } = yield* groupNow
      assert.deepStrictEqual([consumers, pending, waiting], [[], 0, 1])
    })
  )

  it.effect.each([
    [undefined, 20_000],
    ["5 seconds", 5000],
    [0, 0]
  ] as const)("waits for drainTimeout %o (%d ms), then interrupts and releases", ([drainTimeout, limit]) =>
    run(patient, function* () {
      const interrupted: Array<number> = []
      const note = Effect.flatMap(Clock.currentTimeMillis, (at) => Effect.sync(() => void interrupted.push(at)))
      const handler = () => Effect.onInterrupt(Effect.never, () => note)
      const worker = yield* open(Subscription.make("s", Texts, handler, { drainTimeout }))
      yield* Topic.publish(Texts, "x")
      yield* settled
      const closing = yield* Effect.forkChild(worker.close)
      if (limit > 0) {
        yield* pass(limit - 1)
        assert.isUndefined(closing.pollUnsafe())
        yield* pass(1)
      }
      yield* Fiber.join(closing)
      assert.deepStrictEqual(interrupted, [limit])
      const { consumers, due, pending, released } = yield* groupNow
      assert.deepStrictEqual([consumers, due, pending, released], [[], 0, 1, 1])
    })
  )

  it.effect("what was released is another worker's at once, at no cost of an attempt", () =>
    run(patient, function* () {
      const seen = yield* probe()
      const worker = yield* open(Subscription.make("s", Texts, () => Effect.never, { prefetch: 5, drainTimeout: 0 }))
      yield* Topic.publishAll(Texts, ["a", "b", "c"])
      yield* settled
      yield* open(Subscription.make("s", Texts, seen.handler(), { consumer: "second" }))
      yield* worker.close
      for (let i = 0; i < 3; i++) yield* seen.next
      assert.deepStrictEqual(
        seen.calls.map(({ at, attempt, data }) => [data, attempt, at]),
        [
          ["a", 1, 0],
          ["b", 1, 0],
          ["c", 1, 0]
        ]
      )
    })
  )

  it.effect("a handler that fails while its subscription drains has failed: it is not released", () =>
    run(patient, function* () {
      const gate = yield* Latch.make()
      const handler = () => Effect.andThen(gate.await, Effect.fail("no"))
      const worker = yield* open(Subscription.make("s", Texts, handler))
      yield* Topic.publish(Texts, "x")
      yield* settled
      const closing = yield* Effect.forkChild(worker.close)
      yield* settled
      yield* gate.open
      yield* Fiber.join(closing)
      const { due, pending } = yield* groupNow
      assert.deepStrictEqual([due, pending], [1, 0])
    })
  )

  const spans = Tracer.make({ span: (options) => new Tracer.NativeSpan(options) })
  it.effect.each([
    ["no", undefined],
    ["a", undefined],
    ["no", "1 minute"],
    ["a", "1 minute"]
  ] as const)(
    "a handler that fails though closing has interrupted it has failed, with %s tracer and timeout %s",
    ([a, timeout]) =>
      run(patient, function* () {
        const gate = yield* Latch.make()
        const handler = () => Effect.uninterruptible(Effect.andThen(gate.await, Effect.fail("no")))
        const worker = yield* open(Subscription.make("s", Texts, handler, { drainTimeout: "1 second", timeout })).pipe(
          a === "a" ? Effect.provideService(Tracer.Tracer, spans) : identity
        )
        yield* Topic.publish(Texts, "x")
        yield* settled
        const closing = yield* Effect.forkChild(worker.close)
        yield* pass("1500 millis")
        yield* gate.open
        yield* Fiber.join(closing)
        const { due, pending } = yield* groupNow
        assert.deepStrictEqual([due, pending], [1, 0])
      })
  )

  it.effect("finalizers find alive what a handler forked, also where closing interrupts it", () =>
    run(patient, function* () {
      const written: Array<string> = []
      const handler = ({ data }: Message<string>) =>
        Effect.gen(function* () {
          const gate = yield* Latch.make()
          const write = Effect.sync(() => void written.push(data))
          const writer = yield* Effect.forkChild(Effect.andThen(gate.await, write))
          yield* Effect.addFinalizer(() => Effect.andThen(gate.open, Fiber.await(writer)))
          return yield* Effect.never
        })
      const worker = yield* open(Subscription.make("s", Texts, handler, { drainTimeout: 0 }))
      yield* Topic.publish(Texts, "x")
      yield* settled
      yield* worker.close
      assert.deepStrictEqual(written, ["x"])
    })
  )

  it.effect.each([[undefined], ["1 hour"]] as const)(
    "a handler that has ended, and whose finalizer closing interrupts, is released, with timeout %s",
    ([timeout]) =>
      run(patient, function* () {
        const commit = Effect.interruptible(Effect.sleep("10 seconds"))
        const handler = () => Effect.addFinalizer((exit) => (Exit.isSuccess(exit) ? commit : Effect.void))
        const worker = yield* open(Subscription.make("s", Texts, handler, { drainTimeout: "1 second", timeout }))
        yield* Topic.publish(Texts, "x")
        yield* settled
        const closing = yield* Effect.forkChild(worker.close)
        yield* pass("30 seconds")
        yield* Fiber.join(closing)
        const { due, pending, released } = yield* groupNow
        assert.deepStrictEqual([due, pending, released], [0, 1, 1])
      })
  )

  it.effect("a handler whose own finalizer dies while closing interrupts it has failed", () =>
    run(patient, function* () {
      const handler = () => Effect.onInterrupt(Effect.never, () => Effect.die("finalizer"))
      const worker = yield* open(Subscription.make("s", Texts, handler, { drainTimeout: 0 }))
      yield* Topic.publish(Texts, "x")
      yield* settled
      yield* worker.close
      const { due, pending } = yield* groupNow
      assert.deepStrictEqual([due, pending], [1, 0])
    })
  )

  it.effect("a handler that cannot be interrupted is waited for, so that it never runs beside its redelivery", () =>
    run(patient, function* () {
      const gate = yield* Latch.make()
      const handler = () => Effect.uninterruptible(gate.await)
      const worker = yield* open(Subscription.make("s", Texts, handler, { drainTimeout: "1 second" }))
      yield* Topic.publish(Texts, "x")
      yield* settled
      const closing = yield* Effect.forkChild(worker.close)
      yield* pass("1 minute")
      assert.isUndefined(closing.pollUnsafe())
      assert.strictEqual((yield* groupNow).released, 0)
      yield* gate.open
      yield* Fiber.join(closing)
    })
  )

  it.effect("what is in a handler's scope is closed, and waited for, before its message is settled", () =>
    run(patient, function* () {
      const gate = yield* Latch.make()
      const handler = () =>
        Effect.andThen(
          Effect.addFinalizer(() => Effect.sleep("500 millis")),
          Effect.uninterruptible(gate.await)
        )
      const worker = yield* open(Subscription.make("s", Texts, handler, { drainTimeout: "1 second" }))
      yield* Topic.publish(Texts, "x")
      yield* settled
      const closing = yield* Effect.forkChild(worker.close)
      yield* pass("1500 millis")
      yield* gate.open
      yield* pass("499 millis")
      assert.isUndefined(closing.pollUnsafe())
      assert.deepStrictEqual([(yield* groupNow).pending, (yield* groupNow).released], [1, 0])
      yield* pass("1 millis")
      yield* Fiber.join(closing)
      // nothing of it took so long that it had to be said
      assert.isEmpty(yield* Lines)
    })
  )

  it.effect("what is added to a handler's scope when that has ended is closed at once", () =>
    run(patient, function* () {
      let kept: Scope.Scope | undefined
      const handler = () => Effect.map(Effect.scope, (scope) => void (kept = scope))
      const subscription = Subscription.make("s", Texts, handler)
      yield* open(subscription)
      yield* Topic.publish(Texts, "x")
      yield* Subscription.awaitIdle(subscription)
      let closed = false
      if (kept === undefined) return assert.fail("no scope")
      yield* Scope.addFinalizer(
        kept,
        Effect.sync(() => void (closed = true))
      )
      assert.isTrue(closed)
    })
  )

  it.effect("a handler under onReceive that is interrupted by closing stays acked", () =>
    run(patient, function* () {
      const seen = yield* probe()
      const subscription = Subscription.make(
        "s",
        Texts,
        seen.handler(() => Effect.never),
        { ack: "onReceive", drainTimeout: 0 }
      )
      const worker = yield* open(subscription)
      yield* Topic.publish(Texts, "x")
      yield* seen.next
      yield* settled
      yield* worker.close
      const { due, pending } = yield* groupNow
      assert.deepStrictEqual([due, pending], [0, 0])
    })
  )

  it.effect("a handler under onExit that is interrupted by closing is released, not acked", () =>
    run(patient, function* () {
      const subscription = Subscription.make("s", Texts, () => Effect.never, { ack: "onExit", drainTimeout: 0 })
      const worker = yield* open(subscription)
      yield* Topic.publish(Texts, "x")
      yield* settled
      yield* worker.close
      const { pending, released } = yield* groupNow
      assert.deepStrictEqual([pending, released], [1, 1])
    })
  )

  it.effect("a delivery that was settled before closing interrupted its handler stays settled", () =>
    run(patient, function* () {
      const handler = () =>
        Effect.andThen(
          Effect.flatMap(Delivery, ({ ack }) => ack),
          Effect.never
        )
      const worker = yield* open(Subscription.make("s", Texts, handler, { ack: "manual", drainTimeout: 0 }))
      yield* Topic.publish(Texts, "x")
      yield* settled
      yield* worker.close
      assert.strictEqual((yield* groupNow).pending, 0)
    })
  )

  it.effect(
    "12. under layerTest closing does not wait for virtual time: handlers in flight are released at once",
    given(function* () {
      const worker = yield* open(Subscription.make("s", Texts, () => Effect.never))
      yield* Topic.publish(Texts, "x")
      yield* settled
      yield* worker.close
      assert.strictEqual(yield* Clock.currentTimeMillis, 0)
      assert.strictEqual((yield* groupNow).released, 1)
    })
  )

  it.effect(
    "a handler that settles uninterruptibly while the log is down is told Unavailable when its subscription closes",
    () => {
      let down = false
      const layer = layerWith(
        withConsumers((consumer) => ({
          settle: (settlements) => (down ? Effect.fail(unavailable("settle")) : consumer.settle(settlements))
        })),
        false
      )
      return run(layer, function* () {
        const errors: Array<SettleError["reason"]> = []
        const handler = Effect.fnUntraced(function* () {
          errors.push((yield* Effect.flip((yield* Delivery).ack)).reason)
        }, Effect.uninterruptible)
        const worker = yield* open(Subscription.make("s", Texts, handler, { ack: "manual", drainTimeout: "1 second" }))
        down = true
        yield* Topic.publish(Texts, "x")
        yield* pass("10 seconds")
        assert.deepStrictEqual(errors, [])
        const closing = yield* Effect.forkChild(worker.close)
        yield* pass("1 minute")
        const ended = closing.pollUnsafe() !== undefined
        down = false
        yield* pass("1 minute")
        assert.isTrue(ended, "closing hangs for as long as the log is down")
        assert.deepStrictEqual(
          errors.map(({ _tag, message }) => [_tag, message]),
          [["Unavailable", "settle: the log is down"]]
        )
      })
    }
  )

  it.effect("a log that is down holds a closing subscription up for two seconds beyond its handlers, no longer", () => {
    const layer = layerWith(
      withConsumers(() => ({ settle: () => Effect.fail(unavailable("settle")) })),
      false
    )
    return run(layer, function* () {
      const worker = yield* open(Subscription.make("s", Texts, () => Effect.void))
      yield* Topic.publish(Texts, "x")
      yield* settled
      const before = yield* Clock.currentTimeMillis
      const closing = yield* Effect.forkChild(Effect.andThen(worker.close, Clock.currentTimeMillis))
      yield* pass("1 minute")
      const took = (yield* Fiber.join(closing)) - before
      assert.isAtLeast(took, 1000)
      assert.isAtMost(took, 3000)
    })
  })

  it.effect("closing waits for onDeadLetter, up to drainTimeout", () =>
    run(patient, function* () {
      const gate = yield* Latch.make()
      let told = 0
      const subscription = Subscription.make("s", Texts, () => Effect.fail("no"), {
        retry: { maxRetries: 0 },
        onDeadLetter: () =>
          Effect.andThen(
            gate.await,
            Effect.sync(() => void told++)
          )
      })
      const worker = yield* open(subscription)
      yield* Topic.publish(Texts, "x")
      yield* Subscription.awaitIdle(subscription)
      yield* settled
      const closing = yield* Effect.forkChild(worker.close)
      yield* pass("10 seconds")
      assert.isUndefined(closing.pollUnsafe())
      yield* gate.open
      yield* Fiber.join(closing)
      assert.strictEqual(told, 1)
    })
  )

  it.effect("drain of the handle closes now; the scope's end then has nothing left to do", () =>
    run(patient, function* () {
      const seen = yield* probe()
      const worker = yield* open(
        Subscription.make(
          "s",
          Texts,
          seen.handler(() => Effect.sleep("3 seconds"))
        )
      )
      yield* Topic.publish(Texts, "x")
      yield* seen.next
      const draining = yield* Effect.forkChild(worker.handle.drain)
      yield* pass("3 seconds")
      yield* Fiber.join(draining)
      assert.strictEqual(Duration.toSeconds(Duration.millis(yield* Clock.currentTimeMillis)), 3)
      yield* worker.close
      const { consumers, pending } = yield* groupNow
      assert.deepStrictEqual([consumers, pending], [[], 0])
    })
  )
})
