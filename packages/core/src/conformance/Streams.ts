/**
 * A subscription as a stream of deliveries, settled by whoever takes them.
 */
import { assert } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Stream from "effect/Stream"
import { DeadLetters, Subscription, Topic, Transport } from "../index.ts"
import { assertEachOnce, deadLetters, texts } from "./Collect.ts"
import type { Category } from "./Kit.ts"
import { group } from "./Workers.ts"

export const streams: Category = (kit) => {
  const retry = { maxRetries: 2, base: kit.ticks(1), jitter: 0 }

  kit.test("1. a stream carries every message, and what is acked is done", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      yield* Topic.publishAll(topic, texts(50))
      const taken = yield* Subscription.stream("s", topic, { from: "beginning" }).pipe(
        Stream.mapEffect((one) => Effect.as(one.ack, one.message.data)),
        Stream.take(50),
        Stream.runCollect,
        kit.passing
      )
      assert.deepStrictEqual([...taken], texts(50))
      const transport = yield* Transport
      const { pending, deadLetters } = yield* transport.inspect(group(topic, "s"))
      assert.deepStrictEqual([pending, deadLetters], [0, 0])
    })
  )

  kit.test("1. what a stream took and did not settle is released when it ends, at no cost of an attempt", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      yield* Topic.publishAll(topic, texts(10))
      const begun = yield* Clock.currentTimeMillis
      const attempts = yield* Subscription.stream("s", topic, { from: "beginning" }).pipe(
        Stream.take(5),
        Stream.map((one) => one.attempt),
        Stream.runCollect,
        kit.passing
      )
      assert.deepStrictEqual([...attempts], [1, 1, 1, 1, 1])
      assert.isAtMost((yield* Clock.currentTimeMillis) - begun, kit.millis(2) + (kit.virtual ? 0 : 2000), "at once")
      const again = yield* Subscription.stream("s", topic).pipe(
        Stream.mapEffect((one) => Effect.as(one.ack, `${one.message.data}#${one.attempt}`)),
        Stream.take(10),
        Stream.runCollect,
        kit.passing
      )
      assertEachOnce(
        [...again],
        texts(10).map((data) => `${data}#1`)
      )
    })
  )

  kit.test("7. what a stream took keeps its lease until it is settled", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const options = { visibilityTimeout: kit.lease, from: "beginning" } as const
      const acked = yield* Deferred.make<void>()
      let taken = 0
      for (const consumer of ["w1", "w2"]) {
        yield* Subscription.stream("s", topic, { ...options, consumer }).pipe(
          Stream.runForEach((one) =>
            Effect.gen(function* () {
              taken++
              yield* Effect.sleep(kit.lease).pipe(Effect.repeat({ times: 3 }))
              yield* one.ack
              yield* Deferred.succeed(acked, undefined)
            })
          ),
          Effect.forkScoped
        )
      }
      yield* Topic.publish(topic, "x")
      yield* kit.passing(Deferred.await(acked))
      yield* kit.idle(Subscription.address("s", topic))
      assert.strictEqual(taken, 1)
    })
  )

  kit.test("11. prefetch bounds what a stream holds unsettled", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const transport = yield* Transport
      yield* Topic.publishAll(topic, texts(50))
      const first = yield* Deferred.make<void>()
      const end = yield* Deferred.make<void>()
      const fiber = yield* Subscription.stream("s", topic, { from: "beginning", prefetch: 4 }).pipe(
        Stream.tap((one) =>
          Effect.gen(function* () {
            yield* Deferred.succeed(first, undefined)
            yield* Deferred.await(end)
            yield* one.ack
          })
        ),
        Stream.take(50),
        Stream.runCount,
        Effect.forkChild
      )
      yield* kit.passing(Deferred.await(first))
      yield* kit.pass(2)
      assert.isAtMost((yield* transport.inspect(group(topic, "s"))).pending, 4)
      yield* Deferred.succeed(end, undefined)
      assert.strictEqual(yield* kit.passing(Fiber.join(fiber)), 50)
    })
  )

  kit.test("5. a stream's retries come back on the stream, and end as dead letters", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      yield* Topic.publishAll(topic, ["a", "b"])
      const seen = yield* Subscription.stream("s", topic, { from: "beginning", retry }).pipe(
        Stream.mapEffect((one) =>
          Effect.as(
            one.message.data === "a" ? one.retry() : one.deadLetter("no b"),
            `${one.message.data}#${one.attempt}`
          )
        ),
        Stream.take(4),
        Stream.runCollect,
        kit.passing
      )
      assertEachOnce([...seen], ["a#1", "b#1", "a#2", "a#3"])
      const letters = yield* deadLetters(Subscription.address("s", topic))
      assert.deepStrictEqual(letters.map((letter) => letter.reason).toSorted(), ["exhausted", "rejected"])
    })
  )

  kit.test("8. a second settle of a stream's delivery is refused with AlreadySettled", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      yield* Topic.publish(topic, "x")
      const reasons = yield* Subscription.stream("s", topic, { from: "beginning" }).pipe(
        Stream.mapEffect((one) =>
          Effect.gen(function* () {
            yield* one.ack
            return (yield* Effect.flip(one.deadLetter("no"))).reason._tag
          })
        ),
        Stream.take(1),
        Stream.runCollect,
        kit.passing
      )
      assert.deepStrictEqual([...reasons], ["AlreadySettled"])
      assert.strictEqual(yield* DeadLetters.count(Subscription.address("s", topic)), 0)
    })
  )

  kit.test("1. a stream that cannot start fails with SubscribeError", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const error = yield* Effect.flip(Stream.runDrain(Subscription.stream("s", topic, { concurrency: 0 })))
      assert.strictEqual(error._tag, "SubscribeError")
      assert.strictEqual(error.reason._tag, "InvalidOption")
    })
  )

  kit.test("1. an interrupted stream leaves nothing pending", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const transport = yield* Transport
      yield* Topic.publishAll(topic, texts(20))
      const first = yield* Deferred.make<void>()
      const fiber = yield* Subscription.stream("s", topic, { from: "beginning" }).pipe(
        Stream.runForEach(() => Effect.andThen(Deferred.succeed(first, undefined), Effect.never)),
        Effect.forkChild
      )
      yield* kit.passing(Deferred.await(first))
      yield* kit.passing(Fiber.interrupt(fiber))
      const again = yield* Subscription.stream("s", topic).pipe(
        Stream.mapEffect((one) => Effect.as(one.ack, one.message.data)),
        Stream.take(20),
        Stream.runCollect,
        kit.passing
      )
      assertEachOnce([...again], texts(20))
      assert.strictEqual((yield* transport.inspect(group(topic, "s"))).pending, 0)
    })
  )
}
