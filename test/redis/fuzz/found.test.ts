/** What random bytes have found, each once more and by itself. */
import { DeadLetters, Subscription, Topic } from "@clutch/core"
import { RedisKeys } from "@clutch/redis"
import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import { as, recorder, shared, test, texts, until, worker } from "../../cases/kit.ts"

const last = "18446744073709551615"

const setUp = Effect.gen(function* () {
  const { namespace, options, redis } = yield* shared
  const topic = texts()
  const seen = recorder()
  const run = as(yield* worker(options))
  const keys = RedisKeys.group(namespace, { topic: topic.topic, partition: 0, subscription: "billing" })
  const subscription = Subscription.make("billing", topic, seen.handler(), { from: "beginning" })
  const handle = yield* run(Subscription.subscribe(subscription))
  const died = yield* Effect.forkScoped(handle.join)
  return { redis, topic, seen, run, keys, subscription, died }
})

const letters = (self: Subscription.Address<string>) => Stream.runCollect(DeadLetters.list(self))

describe("random bytes have found", () => {
  test("6. an entry whose id is no date, and cannot be decoded, ended the subscription's loop: it is a dead letter", () =>
    Effect.gen(function* () {
      const { died, keys, redis, run, seen, subscription, topic } = yield* setUp
      yield* run(Topic.publish(topic, "before"))
      yield* until("it is handled", () => seen.of("before").length === 1)
      yield* Effect.promise(() => redis.xadd(keys.main, `${last}-1`, "data", "{"))
      yield* run(Topic.publish(topic, "behind"))
      yield* until("what is behind it is handled", () => seen.of("behind").length === 1)
      yield* run(Subscription.awaitIdle(subscription))
      const [letter] = yield* run(letters(subscription))
      assert.deepStrictEqual([letter?.reason, letter?.originalId], ["poison", `${last}-1`])
      assert.isUndefined(died.pollUnsafe())
    }))

  test("6. a retry whose original id is no id ended the loop: it is a dead letter", () =>
    Effect.gen(function* () {
      const { died, keys, redis, run, seen, subscription, topic } = yield* setUp
      yield* Effect.promise(() => redis.xadd(keys.retry, "*", "data", "{", "clutch", '{"original":"text","attempt":1}'))
      yield* run(Topic.publish(topic, "behind"))
      yield* until("what is behind it is handled", () => seen.of("behind").length === 1)
      yield* run(Subscription.awaitIdle(subscription))
      assert.deepStrictEqual(
        (yield* run(letters(subscription))).map(({ reason }) => reason),
        ["poison"]
      )
      assert.isUndefined(died.pollUnsafe())
    }))

  test("12. a dead letter whose times are no dates hid all others: it is listed like any other", () =>
    Effect.gen(function* () {
      const { keys, redis, run, subscription } = yield* setUp
      const clutch = { original: "1-1", reason: "exhausted", cause: "no", attempts: 3, first: 1e300, failed: -1e300 }
      yield* Effect.promise(() => redis.xadd(keys.deadLetters, "*", "data", '"a"', "clutch", JSON.stringify(clutch)))
      yield* Effect.promise(() => redis.xadd(keys.deadLetters, `${last}-1`, "data", '"b"'))
      assert.strictEqual((yield* run(letters(subscription))).length, 2)
    }))
})
