import { Transport } from "@clutch/core/Transport"
import type { Message } from "@clutch/core/Message"
import * as Subscription from "@clutch/core/Subscription"
import { layerTest } from "@clutch/core/testing"
import * as Topic from "@clutch/core/Topic"
import { assert, describe, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { TestClock } from "effect/testing"
import { pass, settled, Texts } from "./support.ts"

describe("layerTest", () => {
  it.effect("a scope that closes does not wait for virtual time, whatever runs in it", () =>
    Effect.gen(function* () {
      const began = performance.now()
      yield* Effect.scoped(
        Effect.gen(function* () {
          yield* Subscription.subscribe(Subscription.make("a", Texts, () => Effect.never))
          yield* Subscription.subscribe(
            Subscription.make("b", Texts, () => Effect.sleep("10 hours"), { drainTimeout: "1 day" })
          )
          yield* Subscription.subscribe(
            Subscription.make("c", Texts, () => Effect.fail("no"), {
              retry: { maxRetries: 0 },
              onDeadLetter: () => Effect.never
            })
          )
          yield* Topic.publish(Texts, "x")
          yield* settled
        })
      )
      assert.strictEqual(yield* Clock.currentTimeMillis, 0)
      assert.isBelow(performance.now() - began, 2000)
    }).pipe(Effect.provide(layerTest))
  )

  it.effect("hours of backoff pass by moving the clock, a retry at its time", () =>
    Effect.scoped(
      Effect.gen(function* () {
        const times: Array<number> = []
        const handler = () =>
          Effect.flatMap(Clock.currentTimeMillis, (now) => {
            times.push(now / 3_600_000)
            return Effect.fail("no")
          })
        const retry = { maxRetries: 3, base: "1 hour", maxDelay: "1 day", jitter: 0 } as const
        const subscription = Subscription.make("s", Texts, handler, { retry })
        yield* Subscription.subscribe(subscription)
        yield* Topic.publish(Texts, "x")
        // the first attempt, then all of the backoff in one step
        yield* Subscription.awaitIdle(subscription, { due: "ignore" })
        yield* TestClock.adjust("7 hours")
        yield* Subscription.awaitIdle(subscription)
        assert.deepStrictEqual(times, [0, 1, 3, 7])
      })
    ).pipe(Effect.provide(layerTest))
  )

  let first: ReadonlyArray<string> | undefined
  it.effect.each([1, 2, 3, 4])("the same program takes the same steps each time: run %d", () =>
    Effect.scoped(
      Effect.gen(function* () {
        const steps: Array<string> = []
        for (const name of ["a", "b"]) {
          const handler = ({ data }: Message<string>) =>
            Effect.flatMap(Clock.currentTimeMillis, (now) => {
              steps.push(`${name} ${data} ${now}`)
              return data === "x" && now < 5000 ? Effect.fail("no") : Effect.sleep("700 millis")
            })
          const retry = { base: "1 second", jitter: 0 } as const
          yield* Subscription.subscribe(Subscription.make(name, Texts, handler, { concurrency: 2, retry }))
        }
        for (const data of ["x", "y", "z", "x"]) {
          yield* Topic.publish(Texts, data)
          yield* pass("300 millis")
        }
        yield* pass("1 minute")
        // four attempts of each x, one of each other, for each of the two
        assert.strictEqual(steps.length, 20)
        first ??= steps
        assert.deepStrictEqual(steps, first)
      })
    ).pipe(Effect.provide(Layer.fresh(layerTest)))
  )

  it.effect("two tests that provide it afresh share nothing", () =>
    Effect.gen(function* () {
      const publish = Effect.provide(Topic.publish(Texts, "x"), layerTest, { local: true })
      const last = Effect.provide(
        Transport.use((transport) => transport.lastId({ topic: Texts.topic, partition: 0 })),
        layerTest,
        { local: true }
      )
      yield* publish
      assert.strictEqual(yield* last, "0-0")
    })
  )
})
