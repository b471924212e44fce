/** Running handlers: which effect a delivery runs in, and that no two of them share anything. */
import { Delivery } from "@clutch/core/Delivery"
import * as Subscription from "@clutch/core/Subscription"
import * as Topic from "@clutch/core/Topic"
import type { Message } from "@clutch/core/Message"
import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import * as Schedule from "effect/Schedule"
import { given, open, pass, passing, probe, settled, Texts } from "../support.ts"

class Payments extends Context.Service<Payments, { readonly charge: (data: string) => Effect.Effect<void> }>()(
  "test/Payments"
) {}
const Locale = Context.Reference<string>("test/Locale", { defaultValue: () => "en" })

describe("handlers", () => {
  it.effect(
    "a handler finds what was provided where its subscription was started, and its own Delivery",
    given(function* () {
      const charged: Array<string> = []
      const subscription = Subscription.make("s", Texts, ({ data }) =>
        Effect.gen(function* () {
          const { attempt } = yield* Delivery
          const payments = yield* Payments
          yield* payments.charge(`${data} ${attempt} ${yield* Locale}`)
        })
      )
      const payments = Payments.of({ charge: (data) => Effect.sync(() => void charged.push(data)) })
      yield* open(subscription).pipe(Effect.provideService(Payments, payments), Effect.provideService(Locale, "uk"))
      yield* Effect.provideService(Topic.publish(Texts, "x"), Locale, "fr")
      yield* Subscription.awaitIdle(subscription)
      assert.deepStrictEqual(charged, ["x 1 uk"])
    })
  )

  it.effect(
    "2. same-named, anonymous and partially applied handlers on one topic stay apart",
    given(function* () {
      const calls: Record<string, Array<string>> = { a: [], b: [], c: [], d: [] }
      const curried =
        (key: string) =>
        ({ data }: Message<string>) =>
          Effect.sync(() => void calls[key]?.push(data))
      const handle = curried("a")
      const named = { handle: curried("b") }
      const subscriptions = [
        Subscription.make("a", Texts, handle),
        Subscription.make("b", Texts, named.handle),
        Subscription.make("c", Texts, ({ data }) => Effect.sync(() => void calls["c"]?.push(data))),
        Subscription.make("d", Texts, curried("d"))
      ]
      for (const subscription of subscriptions) yield* open(subscription)
      yield* Topic.publish(Texts, "x")
      for (const subscription of subscriptions) yield* Subscription.awaitIdle(subscription)
      assert.deepStrictEqual(calls, { a: ["x"], b: ["x"], c: ["x"], d: ["x"] })
    })
  )

  it.effect(
    "2. one handler in two subscriptions: the failure of one is not seen by the other",
    given(function* () {
      const seen = { a: yield* probe(), b: yield* probe() }
      const twoNames = (["a", "b"] as const).map((name) =>
        Subscription.make(
          name,
          Texts,
          seen[name].handler(({ attempt }) => (name === "a" && attempt === 1 ? Effect.fail("no") : Effect.void)),
          {
            retry: { base: "1 second" }
          }
        )
      )
      for (const subscription of twoNames) yield* open(subscription)
      yield* Topic.publish(Texts, "x")
      for (const subscription of twoNames) yield* passing("1 second")(Subscription.awaitIdle(subscription))
      assert.deepStrictEqual(seen.a.data(), ["x", "x"])
      assert.deepStrictEqual(seen.b.data(), ["x"])
    })
  )

  it.effect(
    "Effect combinators around a handler share no state between deliveries, nor between the main and the retry path",
    given(function* () {
      // each delivery has its three tries of its own, in the main log and in the retry log
      const tries: Array<string> = []
      const once = Effect.fnUntraced(
        function* ({ data }: Message<string>) {
          const { attempt } = yield* Delivery
          tries.push(`${data}${attempt}`)
          if (attempt === 1) return yield* Effect.fail("no")
        },
        Effect.retry(Schedule.recurs(2)),
        Effect.timeoutOrElse({ duration: "1 minute", orElse: () => Effect.fail("late") })
      )
      const subscription = Subscription.make("s", Texts, once, { concurrency: 2, retry: { base: "1 second" } })
      yield* open(subscription)
      yield* Topic.publishAll(Texts, ["x", "y"])
      yield* passing("1 second")(Subscription.awaitIdle(subscription))
      assert.sameMembers(tries, ["x1", "x1", "x1", "y1", "y1", "y1", "x2", "y2"])
    })
  )

  it.effect(
    "handlers that end at once need no fiber switch: thousands in one turn, in order",
    given(function* () {
      const seen = yield* probe()
      const data = Array.from({ length: 5000 }, (_, i) => `m${i}`)
      const subscription = Subscription.make("s", Texts, seen.handler(), { from: "beginning" })
      yield* Topic.publishAll(Texts, data)
      yield* open(subscription)
      yield* Subscription.awaitIdle(subscription)
      assert.deepStrictEqual(seen.data(), data)
    })
  )

  it.effect(
    "what a handler forked is interrupted when it ends; its scope outlives nothing",
    given(function* () {
      const events: Array<string> = []
      const subscription = Subscription.make("s", Texts, () =>
        Effect.gen(function* () {
          const started = yield* Latch.make()
          const child = Effect.andThen(started.open, Effect.never)
          yield* Effect.forkScoped(Effect.onInterrupt(child, () => Effect.sync(() => void events.push("interrupted"))))
          yield* started.await
          events.push("ended")
        })
      )
      yield* open(subscription)
      yield* Topic.publish(Texts, "x")
      yield* Subscription.awaitIdle(subscription)
      yield* settled
      assert.deepStrictEqual(events, ["ended", "interrupted"])
    })
  )

  it.effect(
    "the timeout of a subscription is of each delivery, not of the time that it waited",
    given(function* () {
      const seen = yield* probe()
      const subscription = Subscription.make(
        "s",
        Texts,
        seen.handler(() => Effect.sleep("8 seconds")),
        { timeout: "10 seconds", prefetch: 5 }
      )
      yield* open(subscription)
      yield* Topic.publishAll(Texts, ["a", "b", "c"])
      yield* pass("24 seconds")
      yield* Subscription.awaitIdle(subscription)
      assert.deepStrictEqual(
        seen.calls.map(({ attempt, data }) => [data, attempt]),
        [
          ["a", 1],
          ["b", 1],
          ["c", 1]
        ]
      )
    })
  )

  it.effect(
    "a time limit inside a handler is a failure of its own, which while is asked about",
    given(function* () {
      const seen = yield* probe()
      // Effect.timeout inside a handler is a failure of the handler's own, which `while` sees
      const asked: Array<unknown> = []
      const handler = seen.handler(() => Effect.timeout(Effect.never, "1 second"))
      const subscription = Subscription.make("s", Texts, handler, {
        retry: { while: (error) => asked.push(error._tag) < 0 }
      })
      yield* open(subscription)
      yield* Topic.publish(Texts, "x")
      yield* pass("2 seconds")
      yield* Subscription.awaitIdle(subscription)
      assert.deepStrictEqual(asked, ["TimeoutError"])
      assert.strictEqual((yield* Subscription.stats(subscription)).deadLetters, 1)
    })
  )
})
