/**
 * Retention that somebody asked for: bounded, counted, and harmless to what is in flight.
 */
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import * as Schema from "effect/Schema"
import { DeadLetters, Subscription, Topic } from "../index.ts"
import { texts } from "./Collect.ts"
import { counted } from "./Counting.ts"
import { type Category, probe } from "./Kit.ts"

export const trimming: Category = (kit) => {
  const short = (maxLength: number) => Topic.make(kit.fresh("short"), { schema: Schema.String, maxLength })

  kit.test("12. a topic with maxLength keeps its newest messages, and what it drops is counted", () =>
    Effect.gen(function* () {
      const topic = short(10)
      for (const data of texts(25)) yield* Topic.publish(topic, data)
      yield* Topic.publishAll(topic, texts(30).slice(25))
      const seen = yield* probe()
      const subscription = Subscription.make("s", topic, seen.handler(), { from: "beginning", concurrency: 1 })
      yield* kit.open(subscription)
      yield* kit.idle(subscription)
      assert.deepStrictEqual(seen.data(), texts(30).slice(20))
      assert.strictEqual(yield* counted("clutch.messages.trimmed", topic.topic), 20)
    })
  )

  kit.test("12. a topic with maxAge drops what is older", () =>
    Effect.gen(function* () {
      const topic = Topic.make(kit.fresh("young"), { schema: Schema.String, maxAge: kit.ticks(10) })
      yield* Topic.publishAll(topic, texts(3))
      yield* kit.pass(15)
      yield* Topic.publish(topic, "young")
      const seen = yield* probe()
      const subscription = Subscription.make("s", topic, seen.handler(), { from: "beginning" })
      yield* kit.open(subscription)
      yield* kit.idle(subscription)
      assert.deepStrictEqual(seen.data(), ["young"])
    })
  )

  kit.test(
    "12. an entry trimmed while in flight is settled from the copy in memory: acked, retried or dead-lettered",
    () =>
      Effect.gen(function* () {
        const topic = short(3)
        const seen = yield* probe()
        const gate = yield* Latch.make()
        const handler = seen.handler((call) =>
          Effect.gen(function* () {
            if (call.attempt > 1) return
            yield* gate.await
            if (call.data === "retried") return yield* Effect.fail("no")
            if (call.data === "dead") return yield* Effect.die("no")
          })
        )
        const subscription = Subscription.make("s", topic, handler, {
          concurrency: 3,
          prefetch: 3,
          retry: { maxRetries: 1, base: kit.ticks(1), jitter: 0 }
        })
        const { handle } = yield* kit.open(subscription)
        yield* Topic.publishAll(topic, ["acked", "retried", "dead"])
        yield* kit.take(seen, 3)
        yield* Topic.publishAll(topic, texts(10))
        yield* gate.open
        yield* kit.idle(subscription)
        const attempts = (data: string) => seen.calls.filter((call) => call.data === data).map((call) => call.attempt)
        assert.deepStrictEqual(attempts("acked"), [1])
        assert.deepStrictEqual(attempts("retried"), [1, 2])
        assert.deepStrictEqual(attempts("dead"), [1, 2])
        const stats = yield* handle.stats
        assert.deepStrictEqual([stats.pending, stats.due, stats.deadLetters], [0, 0, 0])
      })
  )

  kit.test("12. dead letters are not trimmed with their topic", () =>
    Effect.gen(function* () {
      const topic = short(2)
      const subscription = Subscription.make("s", topic, () => Effect.fail("no"), { retry: { maxRetries: 0 } })
      yield* kit.open(subscription)
      for (const data of texts(10)) {
        yield* Topic.publish(topic, data)
        yield* kit.idle(subscription)
      }
      assert.strictEqual(yield* DeadLetters.count(subscription), 10)
    })
  )
}
