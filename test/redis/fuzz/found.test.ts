/** What random bytes have found, each once more and by itself. */
import { DeadLetters, Subscription, Topic } from "@clutch/core"
import { RedisKeys } from "@clutch/redis"
import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import { as, collecting, fresh, range, recorder, shared, test, texts, until, worker } from "../../cases/kit.ts"

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

  test("12. a group noted under bytes that are no text kept trimming busy for ever: it is forgotten like any other", () =>
    Effect.gen(function* () {
      const { namespace, options, redis } = yield* shared
      const topic = Topic.make(fresh("orders"), { schema: Schema.String, retention: "acknowledged" })
      const { groups, main } = RedisKeys.log(namespace, { topic: topic.topic, partition: 0 })
      yield* Effect.promise(() => redis.hset(groups, Buffer.from([0xff, 0x20, 0x80]), "1"))
      const seen = recorder()
      const run = as(yield* worker(options))
      yield* run(Subscription.subscribe(Subscription.make("billing", topic, seen.handler())))
      yield* run(Topic.publishAll(topic, ["a", "b"]))
      yield* until("what is settled is dropped", async () => seen.calls.length === 2 && (await redis.xlen(main)) === 0)
      assert.deepStrictEqual(yield* Effect.promise(() => redis.hkeys(groups)), ["billing"])
    }))

  test("12. a topic that somebody filled up to the greatest id made a defect of asking for its groups: they are told", () =>
    Effect.gen(function* () {
      const { keys, redis, run, seen, topic } = yield* setUp
      yield* Effect.promise(() => redis.xadd(keys.main, `${last}-${last}`, "data", '"x"'))
      yield* until("it is handled", () => seen.of("x").length === 1)
      const [group] = yield* run(Topic.groups(topic))
      assert.deepStrictEqual([group?.name, group?.holds], ["billing", Option.none()])
      // nor does a position that is none, of a group that has disappeared
      yield* Effect.promise(() => redis.hset(keys.groups, "gone", "1"))
      yield* Effect.promise(() => redis.hset(`${keys.main}.gone.state`, "position", "text"))
      assert.deepStrictEqual(
        (yield* run(Topic.groups(topic))).map(({ name }) => name),
        ["billing", "gone"]
      )
    }))

  test("12. a page of dead letters that ends at the greatest id has none behind it, and made a defect of looking there", () =>
    Effect.gen(function* () {
      const { keys, redis, run, subscription } = yield* setUp
      for (const id of [...range(99).map((i) => `${i + 1}-0`), `${last}-${last}`]) {
        yield* Effect.promise(() => redis.xadd(keys.deadLetters, id, "data", '"a"'))
      }
      assert.strictEqual((yield* run(letters(subscription))).length, 100)
    }))

  for (const ordered of [false, true]) {
    test(`12. of a stream that takes no more ids nobody was told which it is: ${ordered ? "with" : "without"} a key`, () =>
      Effect.gen(function* () {
        const { namespace, options, redis } = yield* shared
        const topic = Topic.make(fresh("orders"), {
          schema: Schema.String,
          ...(ordered ? { key: (text: string) => text } : {})
        })
        const seen = recorder()
        const log = collecting()
        const run = as(yield* Effect.provide(worker(options), log.layer))
        const keys = RedisKeys.group(namespace, { topic: topic.topic, partition: 0, subscription: "billing" })
        const subscription = Subscription.make(
          "billing",
          topic,
          seen.handler(() => Effect.fail("as told")),
          { from: "beginning", retry: { maxRetries: 0 } }
        )
        const fill = (key: string) => Effect.promise(() => redis.xadd(key, `${last}-${last}`, "data", "1"))
        yield* run(Effect.provide(Subscription.subscribe(subscription), log.layer))

        yield* run(Topic.publish(topic, "before"))
        yield* until("there is a dead letter", async () => (await redis.xlen(keys.deadLetters)) === 1)
        yield* fill(keys.retry)
        const redriven = yield* Effect.flip(run(DeadLetters.redrive(subscription, {})))
        assert.include(redriven.message, keys.retry)

        yield* fill(keys.deadLetters)
        yield* run(Topic.publish(topic, "behind"))
        yield* until(
          () => `a line tells of ${keys.deadLetters}`,
          () => log.lines.some(({ text }) => text.includes("settling") && text.includes(keys.deadLetters))
        )

        yield* fill(keys.main)
        const published = yield* Effect.flip(run(Topic.publish(topic, "lost")))
        assert.include(published.message, keys.main)
      }))
  }
})
