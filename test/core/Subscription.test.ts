import { DuplicateSubscription } from "@clutch/core/Errors"
import * as MemoryTransport from "@clutch/core/MemoryTransport"
import { Reclaimer } from "@clutch/core/Reclaimer"
import * as Subscription from "@clutch/core/Subscription"
import * as Topic from "@clutch/core/Topic"
import { type StartPosition, Transport } from "@clutch/core/Transport"
import { assert, describe, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { TestClock } from "effect/testing"
import {
  given,
  layerWith,
  open,
  pass,
  passing,
  probe,
  run,
  settled,
  Texts,
  unavailable,
  unordered,
  withConsumers
} from "./support.ts"

/** A subscription as untyped as a caller from JavaScript could make it. */
const untyped = (options: Readonly<Record<string, unknown>>) =>
  Subscription.make("s", Texts, () => Effect.void, options)

describe("Subscription", () => {
  describe("what is refused when it starts", () => {
    it.effect.each([
      ["onExit", "retry", { retry: { maxRetries: 1 } }],
      ["onReceive", "retry", { retry: {} }],
      ["onExit", "onDeadLetter", { onDeadLetter: () => Effect.void }],
      ["onReceive", "onDeadLetter", { onDeadLetter: () => Effect.void }]
    ] as const)(
      "ack %s with %s: the error names the option and the fix, and nothing remains",
      ([ack, option, others]) =>
        given(function* () {
          const before = yield* MemoryTransport.snapshot
          const error = yield* Effect.flip(Subscription.subscribe(untyped({ ack, ...others })))
          assert.strictEqual(error._tag, "SubscribeError")
          assert.isTrue(error.reason._tag === "InvalidOption" && error.reason.option === option)
          assert.include(error.message, `remove ${option}, or use ack "onSuccess"`)
          assert.include(error.message, 'subscribe "s" to "texts"')
          assert.deepStrictEqual(yield* MemoryTransport.snapshot, before)
        })()
    )

    it.effect.each([
      ["concurrency", { concurrency: 0 }],
      ["retires", { retires: {} }],
      ["retry.jitter", { retry: { jitter: 2 } }],
      ["size", { size: 0 }]
    ] as const)("%s, by subscribe, by layer and by stream alike", ([option, others]) =>
      given(function* () {
        const subscription = untyped(others)
        const errors = [
          yield* Effect.flip(Subscription.subscribe(subscription)),
          yield* Effect.flip(Effect.scoped(Layer.build(Subscription.layer(subscription))))
        ]
        for (const { reason } of errors) {
          assert.isTrue(reason._tag === "InvalidOption" && reason.option === option)
        }
      })()
    )

    it.effect.each(["a b", "s.retry", "s.dlq", "{s}", ""])("the name %j", (name) =>
      given(function* () {
        const error = yield* Effect.flip(Subscription.subscribe(Subscription.make(name, Texts, () => Effect.void)))
        assert.isTrue(error.reason._tag === "InvalidName" && error.reason.kind === "subscription")
      })()
    )

    it.effect.each([undefined, null, 5, {}])(
      "a name that is no text, of what is subscribed, and of its topic: %o",
      (raw) =>
        given(function* () {
          const name = raw as string // as from JavaScript
          const Named = Topic.make(name, { schema: Schema.String })
          const nameless = Subscription.make(name, Texts, () => Effect.void)
          const lost = Subscription.make("s", Named, () => Effect.void)
          const errors = [
            yield* Effect.flip(Subscription.subscribe(nameless)),
            yield* Effect.flip(Layer.build(Subscription.layer(nameless))),
            yield* Effect.flip(Stream.runDrain(Subscription.stream(name, Texts))),
            yield* Effect.flip(Layer.build(Reclaimer.watch([nameless]))),
            yield* Effect.flip(Subscription.stats(nameless)),
            yield* Effect.flip(Subscription.awaitIdle(Subscription.address(name, Texts))),
            yield* Effect.flip(Topic.removeGroup(Texts, name)),
            yield* Effect.flip(Subscription.subscribe(lost)),
            yield* Effect.flip(Subscription.stats(lost)),
            yield* Effect.flip(Topic.publish(Named, "x")),
            yield* Effect.flip(Topic.publishAll(Named, ["x"])),
            yield* Effect.flip(Topic.groups(Named)),
            yield* Effect.flip(Topic.repartition(Named))
          ]
          for (const [nth, { message, reason }] of errors.entries()) {
            assert.isTrue(
              reason._tag === "InvalidName" && reason.kind === (nth < 7 ? "subscription" : "topic"),
              message
            )
            assert.include(message, "it is no text")
          }
        })()
    )

    it.effect(
      "a second live one of the same topic, name and consumer; not with another consumer, nor after the first closed",
      given(function* () {
        const seen = yield* probe()
        const subscription = Subscription.make("s", Texts, seen.handler())
        const first = yield* open(subscription)
        const error = yield* Effect.flip(Subscription.subscribe(subscription))
        assert.deepStrictEqual(error.reason, new DuplicateSubscription({ topic: "texts", subscription: "s" }))
        assert.include(error.message, "already running")
        yield* open(Subscription.make("s", Texts, seen.handler(), { consumer: "second" }))
        const taken = yield* Effect.flip(
          Subscription.subscribe(Subscription.make("s", Texts, seen.handler(), { consumer: "second" }))
        )
        assert.strictEqual(taken.reason._tag, "DuplicateSubscription")
        yield* Topic.publish(Texts, "x")
        yield* Subscription.awaitIdle(subscription)
        // the refused ones neither took anything nor stopped the first
        assert.deepStrictEqual(seen.data(), ["x"])
        yield* first.close
        yield* open(subscription)
      })
    )

    it.effect(
      "a duplicate on another Transport is none",
      given(function* () {
        const subscription = Subscription.make("s", Texts, () => Effect.void)
        yield* open(subscription)
        const other = yield* MemoryTransport.make
        yield* Effect.provideService(open(subscription), Transport, other)
      })
    )

    it.effect("a log that cannot be joined: the error says why, and the place is free again", () => {
      let down = true
      const layer = layerWith((self) => ({
        ...self,
        join: (options) => (down ? Effect.fail(unavailable("join")) : self.join(options))
      }))
      return run(layer, function* () {
        const subscription = Subscription.make("s", Texts, () => Effect.void)
        const error = yield* Effect.flip(open(subscription))
        assert.strictEqual(error.reason._tag, "Unavailable")
        assert.include(error.message, "the log is down")
        down = false
        yield* open(subscription)
      })
    })
  })

  describe("awaitIdle", () => {
    const failing = Subscription.make("s", Texts, () => Effect.fail("no"), {
      retry: { maxRetries: 3, base: "1 hour", factor: 1, maxDelay: "1 hour", jitter: 0 }
    })

    it.effect(
      'due: "ignore" ends without the clock moving, while a retry waits for its time',
      given(function* () {
        yield* open(failing)
        yield* Topic.publish(Texts, "x")
        yield* Subscription.awaitIdle(failing, { due: "ignore" })
        assert.strictEqual(yield* Clock.currentTimeMillis, 0)
        assert.strictEqual((yield* Subscription.stats(failing)).due, 1)
      })
    )

    it.effect(
      'due: "wait", the default, waits for every retry that it led to, hours of them, up to the dead letter',
      given(function* () {
        yield* open(failing)
        yield* Topic.publish(Texts, "x")
        const idle = yield* Effect.forkChild(Subscription.awaitIdle(failing))
        yield* pass("2 hours")
        assert.isUndefined(idle.pollUnsafe())
        yield* pass("1 hour")
        yield* Fiber.join(idle)
        assert.strictEqual((yield* Subscription.stats(failing)).deadLetters, 1)
      })
    )

    it.effect(
      "later publishes do not prolong it",
      given(function* () {
        const gates = { a: yield* Latch.make(), b: yield* Latch.make() }
        const seen = yield* probe<"a" | "b">()
        const Gates = Topic.make("gates", { schema: Schema.Literals(["a", "b"]) })
        const subscription = Subscription.make(
          "s",
          Gates,
          seen.handler(({ data }) => gates[data].await),
          { concurrency: 2 }
        )
        yield* open(subscription)
        yield* Topic.publish(Gates, "a")
        const idle = yield* Effect.forkChild(Subscription.awaitIdle(subscription), { startImmediately: true })
        yield* settled
        yield* Topic.publish(Gates, "b")
        yield* seen.next
        yield* seen.next
        assert.isUndefined(idle.pollUnsafe())
        yield* gates.a.open
        yield* Fiber.join(idle)
        assert.strictEqual((yield* Subscription.stats(subscription)).pending, 1)
      })
    )

    it.effect(
      "a subscription that was never started is NoSubscription, and the error names both names",
      given(function* () {
        yield* Topic.publish(Texts, "x")
        const error = yield* Effect.flip(Subscription.awaitIdle(Subscription.address("nobody", Texts)))
        assert.strictEqual(error.reason._tag, "NoSubscription")
        assert.include(error.message, '"nobody"')
        assert.include(error.message, '"texts"')
      })
    )

    it.effect.each([
      ["due", { due: "ignored" }],
      ["due", { due: "never" }],
      ["due", { due: null }],
      ["Due", { Due: "ignore" }],
      ["options", null],
      ["options", 5],
      ["options", "ignore"]
    ] as const)("an option that cannot be meant is refused, naming %s: %o", ([option, raw]) =>
      given(function* () {
        yield* open(failing)
        const options = raw as { readonly due?: "wait" } // as from JavaScript
        const error = yield* Effect.flip(Subscription.awaitIdle(failing, options))
        assert.strictEqual(error.operation, "awaitIdle")
        assert.isTrue(error.reason._tag === "InvalidOption" && error.reason.option === option, error.message)
      })()
    )

    it.effect(
      "of an idle subscription ends at once",
      given(function* () {
        const subscription = Subscription.make("s", Texts, () => Effect.void)
        yield* open(subscription)
        yield* Subscription.awaitIdle(subscription)
        yield* Topic.publish(Texts, "x")
        yield* Subscription.awaitIdle(subscription)
        yield* Subscription.awaitIdle(subscription)
      })
    )
  })

  describe("stats", () => {
    it.effect(
      "counts what waits, is pending, due, dead and in flight",
      given(function* () {
        const gate = yield* Latch.make()
        const seen = yield* probe()
        const subscription = Subscription.make(
          "s",
          Texts,
          seen.handler(({ data }) => (data === "slow" ? gate.await : Effect.fail(data))),
          { concurrency: 1, prefetch: 1, retry: { base: "1 minute", while: (why) => why !== "dead" } }
        )
        const { handle } = yield* open(subscription)
        yield* Topic.publishAll(Texts, ["dead", "due", "slow", "w1", "w2"])
        yield* seen.next
        yield* seen.next
        yield* seen.next
        yield* settled
        const inside = yield* handle.stats
        assert.deepStrictEqual(inside, {
          waiting: Option.some(2),
          pending: 1,
          due: 1,
          deadLetters: 1,
          ...unordered,
          inFlight: Option.some(1),
          state: "running",
          problem: Option.none()
        })
        const outside = yield* Subscription.stats(Subscription.address("s", Texts))
        assert.deepStrictEqual(outside, { ...inside, inFlight: Option.none(), state: "unknown" })
      })
    )
  })

  describe("pause and resume", () => {
    it.effect(
      "a paused one starts nothing and holds nothing that waits; what runs goes on; resume takes up the rest",
      given(function* () {
        const gate = yield* Latch.make()
        const seen = yield* probe()
        const subscription = Subscription.make(
          "s",
          Texts,
          seen.handler(() => gate.await),
          { prefetch: 10 }
        )
        const { handle } = yield* open(subscription)
        yield* Topic.publishAll(Texts, ["a", "b", "c"])
        yield* seen.next
        yield* handle.pause
        yield* handle.pause
        yield* settled
        const paused = yield* handle.stats
        assert.deepStrictEqual([paused.state, paused.inFlight], ["paused", Option.some(1)])
        const [log] = (yield* MemoryTransport.snapshot).logs
        assert.strictEqual(log?.groups[0]?.released, 2)
        yield* gate.open
        yield* Topic.publish(Texts, "d")
        yield* pass("1 hour")
        assert.deepStrictEqual(seen.data(), ["a"])
        yield* handle.resume
        yield* handle.resume
        yield* Subscription.awaitIdle(subscription)
        assert.deepStrictEqual(seen.data(), ["a", "b", "c", "d"])
        // the release cost no attempt
        assert.deepStrictEqual(
          seen.calls.map(({ attempt }) => attempt),
          [1, 1, 1, 1]
        )
        assert.strictEqual((yield* handle.stats).state, "running")
      })
    )

    it.effect("resumed while it is still being paused, all of its partitions go on", () => {
      const slow = layerWith(
        withConsumers(({ fetch }) => ({ fetch: (limit) => Effect.onInterrupt(fetch(limit), () => Effect.yieldNow) }))
      )
      return run(slow, function* () {
        const Parts = Topic.make("parts", { schema: Schema.String, partitions: 2 })
        const seen = yield* probe()
        const { handle } = yield* open(Subscription.make("s", Parts, seen.handler()))
        yield* settled
        const pausing = yield* Effect.forkChild(handle.pause, { startImmediately: true })
        yield* handle.resume
        yield* Fiber.join(pausing)
        yield* Topic.publishAll(Parts, ["a", "b", "c", "d"])
        yield* pass("1 minute")
        assert.sameMembers(seen.data(), ["a", "b", "c", "d"])
      })
    })

    it.effect(
      "a paused one hands its waiting deliveries to another worker at once",
      given(function* () {
        const seen = yield* probe()
        const paused = yield* open(Subscription.make("s", Texts, () => Effect.never, { prefetch: 10 }))
        yield* Topic.publishAll(Texts, ["a", "b", "c"])
        yield* settled
        yield* open(Subscription.make("s", Texts, seen.handler(), { consumer: "second" }))
        yield* paused.handle.pause
        yield* seen.next
        yield* seen.next
        assert.deepStrictEqual(seen.data(), ["b", "c"])
        assert.strictEqual(yield* Clock.currentTimeMillis, 0)
      })
    )

    it.effect(
      "one that was drained is not resumed",
      given(function* () {
        const seen = yield* probe()
        const subscription = Subscription.make("s", Texts, seen.handler())
        const { handle } = yield* open(subscription)
        yield* handle.drain
        yield* handle.resume
        yield* Topic.publish(Texts, "x")
        yield* pass("1 minute")
        assert.deepStrictEqual(seen.data(), [])
        assert.strictEqual((yield* handle.stats).state, "draining")
      })
    )
  })

  describe("start positions", () => {
    const history = Effect.gen(function* () {
      const ids: Array<string> = []
      for (const data of ["a", "b", "c"]) {
        ids.push((yield* Topic.publish(Texts, data)).id)
        yield* TestClock.adjust("1 second")
      }
      return ids
    })
    const positions: ReadonlyArray<
      readonly [string, (ids: ReadonlyArray<string>) => StartPosition, ReadonlyArray<string>]
    > = [
      ["new", () => "new", []],
      ["beginning", () => "beginning", ["a", "b", "c"]],
      ["an entry id, exclusive", (ids) => ({ id: ids[0] ?? "" }), ["b", "c"]],
      ["a time, inclusive", () => ({ time: DateTime.makeUnsafe(1000) }), ["b", "c"]],
      ["a time between two", () => ({ time: DateTime.makeUnsafe(1001) }), ["c"]]
    ]
    it.effect.each(positions)("from %s", ([, from, expected]) =>
      given(function* () {
        const ids = yield* history
        const seen = yield* probe()
        const subscription = Subscription.make("s", Texts, seen.handler(), { from: from(ids) })
        yield* open(subscription)
        yield* Topic.publish(Texts, "last")
        yield* Subscription.awaitIdle(subscription)
        assert.deepStrictEqual(seen.data(), [...expected, "last"])
      })()
    )

    it.effect(
      "one that exists goes on where it was, whatever it asks",
      given(function* () {
        yield* history
        const seen = yield* probe()
        const first = yield* open(Subscription.make("s", Texts, seen.handler(), { from: "beginning" }))
        yield* Subscription.awaitIdle(Subscription.address("s", Texts))
        yield* first.close
        yield* Topic.publish(Texts, "d")
        yield* open(Subscription.make("s", Texts, seen.handler(), { from: "beginning" }))
        yield* Subscription.awaitIdle(Subscription.address("s", Texts))
        assert.deepStrictEqual(seen.data(), ["a", "b", "c", "d"])
      })
    )
  })

  it.effect(
    "4. several hours of backoff pass in milliseconds: n + 1 calls, each at its time, then one dead letter",
    given(function* () {
      const began = performance.now()
      const seen = yield* probe()
      const letters = yield* Queue.unbounded<string>()
      const subscription = Subscription.make(
        "s",
        Texts,
        seen.handler(() => Effect.fail("no")),
        {
          retry: { maxRetries: 6, base: "10 minutes", maxDelay: "4 hours", jitter: 0 },
          onDeadLetter: ({ reason, attempts }) => Queue.offer(letters, `${reason} after ${attempts}`)
        }
      )
      yield* open(subscription)
      yield* Topic.publish(Texts, "x")
      yield* passing("10 minutes")(Subscription.awaitIdle(subscription))
      const minutes = seen.calls.map(({ at }) => at / 60_000)
      assert.deepStrictEqual(minutes, [0, 10, 30, 70, 150, 310, 550])
      assert.deepStrictEqual(
        seen.calls.map(({ attempt }) => attempt),
        [1, 2, 3, 4, 5, 6, 7]
      )
      assert.strictEqual(yield* Queue.take(letters), "exhausted after 7")
      assert.isBelow(performance.now() - began, 5000)
    })
  )

  it.effect(
    "a layer runs its subscription as long as it lives",
    given(function* () {
      const seen = yield* probe()
      const subscription = Subscription.make("s", Texts, seen.handler())
      const scope = yield* Scope.make()
      yield* Layer.buildWithScope(Subscription.layer(subscription), scope)
      yield* Topic.publish(Texts, "x")
      yield* seen.next
      yield* Scope.close(scope, Exit.void)
      yield* Topic.publish(Texts, "y")
      yield* pass("1 minute")
      assert.deepStrictEqual(seen.data(), ["x"])
    })
  )

  it.effect(
    "a partition that gave back what waited too long for another one's handler is read again when that has ended",
    given(function* () {
      const Wide = Topic.make("wide", { schema: Schema.String, partitions: 2 })
      const calls = yield* probe()
      const handler = calls.handler(({ data }) => (data === "long" ? Effect.sleep("3500 millis") : Effect.void))
      yield* open(Subscription.make("s", Wide, handler, { concurrency: 1, visibilityTimeout: "4 seconds" }))
      yield* pass(0)
      yield* Topic.publish(Wide, "long")
      yield* pass(0)
      yield* Topic.publish(Wide, "short")
      for (let i = 0; i < 120; i++) yield* pass("500 millis")
      assert.deepStrictEqual(calls.data(), ["long", "short"])
    })
  )
})
