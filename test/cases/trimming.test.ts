/** Retention: what it drops is bounded and counted, and what is in flight outlives it. */
import { DeadLetters, Metrics, Subscription, Topic } from "@clutch/core"
import { RedisKeys } from "@clutch/redis"
import { assert, describe } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import { as, collecting, fresh, range, recorder, shared, test, until, worker } from "./kit.ts"

describe("trimming", () => {
  test("12. maxLength bounds the stream's length at every publish, and what is dropped is counted and logged", () =>
    Effect.gen(function* () {
      const { namespace, options, redis } = yield* shared
      const topic = Topic.make(fresh("orders"), { schema: Schema.String, maxLength: 10 })
      const run = as(yield* worker(options))
      const { main } = RedisKeys.log(namespace, { topic: topic.topic, partition: 0 })
      const log = collecting()
      for (const size of [7, 7, 1, 30]) {
        yield* run(Topic.publishAll(topic, range(size).map(String))).pipe(Effect.provide(log.layer))
        assert.isAtMost(yield* Effect.promise(() => redis.xlen(main)), 10)
      }
      const counted = yield* Metric.value(
        Metric.withAttributes(Metrics.trimmed, {
          "messaging.destination.name": topic.topic,
          "messaging.system": "redis"
        })
      )
      assert.strictEqual(counted.count, 7 + 7 + 1 + 30 - 10)
      assert.isTrue(log.lines.some(({ level, text }) => level === "Warn" && text.includes("retention dropped")))
    }))

  test("12. entries trimmed while in flight are settled from the copy in memory: acked, released, retried, dead-lettered", () =>
    Effect.gen(function* () {
      const { namespace, options, redis } = yield* shared
      const topic = Topic.make(fresh("orders"), { schema: Schema.String, maxLength: 1 })
      const run = as(yield* worker(options))
      const seen = recorder()
      const go = yield* Deferred.make<void>()
      const subscription = Subscription.make(
        "billing",
        topic,
        seen.handler(({ attempt, data }) =>
          Effect.gen(function* () {
            if (data === "last") return
            yield* Deferred.await(go)
            if (data === "retried" && attempt === 1) return yield* Effect.fail("once")
            if (data === "dead") return yield* Effect.fail("always")
          })
        ),
        { concurrency: 4, retry: { maxRetries: 1, base: 20 } }
      )
      yield* run(Subscription.subscribe(subscription))
      for (const data of ["acked", "retried", "dead"]) {
        yield* run(Topic.publish(topic, data))
        yield* until(`${data} is in flight`, () => seen.data().includes(data))
      }
      yield* run(Topic.publish(topic, "last"))
      const { main } = RedisKeys.log(namespace, { topic: topic.topic, partition: 0 })
      assert.strictEqual(yield* Effect.promise(() => redis.xlen(main)), 1)
      yield* Deferred.succeed(go, undefined)
      yield* run(Subscription.awaitIdle(subscription))
      yield* until("the dead one is kept", async () => (await redis.xlen(`${main}.billing.dlq`)) === 1)
      assert.deepStrictEqual(
        ["acked", "retried", "dead", "last"].map((data) => seen.of(data).length),
        [1, 2, 2, 1]
      )
      const letters = yield* run(Stream.runCollect(DeadLetters.list(subscription)))
      assert.deepStrictEqual(
        letters.map(({ raw }) => Buffer.from(raw).toString()),
        [JSON.stringify("dead")]
      )
      const { pending } = yield* run(Subscription.stats(subscription))
      assert.strictEqual(pending, 0)
    }))

  test("12. what is trimmed in flight and released by closing is handled by the next worker, from the copy in memory", () =>
    Effect.gen(function* () {
      const { options } = yield* shared
      const topic = Topic.make(fresh("orders"), { schema: Schema.String, maxLength: 1 })
      const run = as(yield* worker(options))
      const first = recorder()
      const second = recorder()
      yield* Effect.scoped(
        Effect.gen(function* () {
          const holding = first.handler(() => Effect.never)
          yield* run(
            Subscription.subscribe(Subscription.make("billing", topic, holding, { concurrency: 2, drainTimeout: 0 }))
          )
          yield* run(Topic.publish(topic, "trimmed"))
          yield* until("it is in flight", () => first.data().includes("trimmed"))
          yield* run(Topic.publish(topic, "kept"))
          yield* until("the next is in flight", () => first.data().includes("kept"))
        })
      )
      yield* run(Subscription.subscribe(Subscription.make("billing", topic, second.handler())))
      yield* until("both are handled", () => second.calls.length === 2)
      assert.deepStrictEqual(second.data().toSorted(), ["kept", "trimmed"])
      assert.isTrue(second.calls.every(({ attempt }) => attempt === 1))
    }))
})
