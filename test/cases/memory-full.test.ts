/** Memory is full (`noeviction`): what shrinks the server goes on, what cannot be stored waits, and publishing says so. */
import { DeadLetters, Subscription, Topic } from "@clutch/core"
import { RedisKeys } from "@clutch/redis"
import { assert, describe } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import {
  type Admin,
  as,
  collecting,
  fresh,
  info,
  limitMemory,
  own,
  range,
  recorder,
  test,
  texts,
  until,
  worker
} from "./kit.ts"

const fill = (redis: Admin) => Effect.promise(() => limitMemory(redis, 1))
const empty = (redis: Admin) => Effect.promise(() => limitMemory(redis, 0))

const setUp = Effect.gen(function* () {
  const { options, redis } = yield* own
  const namespace = fresh("memory")
  const topic = texts()
  const keys = RedisKeys.group(namespace, { topic: topic.topic, partition: 0, subscription: "billing" })
  const open = worker({ ...options, namespace })
  return { redis, topic, keys, open, run: as(yield* open) }
})

describe("memory is full", () => {
  test("1. acks, releases and leases work; failures stay pending with their lease, and are stored once memory is back", () =>
    Effect.gen(function* () {
      const { keys, open, redis, run, topic } = yield* setUp
      const seen = recorder()
      const go = yield* Deferred.make<void>()
      const subscription = Subscription.make(
        "billing",
        topic,
        seen.handler(({ attempt, data }) =>
          Effect.gen(function* () {
            yield* Deferred.await(go)
            if (data === "fails once" && attempt === 1) return yield* Effect.fail("once")
            if (data === "fails always") return yield* Effect.fail("always")
            // several times its lease, while nothing can be stored
            if (data === "slow") yield* Effect.sleep(2500)
          })
        ),
        { concurrency: 10, visibilityTimeout: "1 second", retry: { base: 20, maxRetries: 1 }, from: "beginning" }
      )
      const log = collecting()
      const handle = yield* Effect.provide(run(Subscription.subscribe(subscription)), log.layer)
      const plain = range(6).map((i) => `plain ${i}`)
      yield* run(Topic.publishAll(topic, [...plain, "fails once", "fails always", "slow"]))
      yield* until("all are in flight", () => seen.calls.length === 9)
      // somebody who would reclaim, were a lease to end, and takes nothing else
      const other = recorder()
      const second = as(yield* open)
      const scope = yield* Scope.make()
      const rival = Subscription.make("billing", topic, other.handler(), { from: "beginning", concurrency: 10 })
      const rivals = yield* Scope.provide(second(Subscription.subscribe(rival)), scope)
      yield* rivals.pause
      yield* fill(redis)
      yield* Deferred.succeed(go, undefined)
      const pending = async () => Number((await redis.xpending(keys.main, "billing"))[0])
      yield* until("what succeeds is acked", async () => (await pending()) === 3)
      yield* until("the slow one, whose lease was extended, is acked", async () => (await pending()) === 2, 10_000)
      assert.strictEqual(yield* Effect.promise(() => redis.zcard(keys.due)), 0)
      assert.strictEqual(yield* Effect.promise(() => redis.xlen(keys.deadLetters)), 0)
      const stats = yield* run(handle.stats)
      assert.strictEqual(stats.state, "unhealthy")
      assert.isTrue(
        Option.exists(stats.problem, (text) => text.includes("OOM")),
        String(stats.problem)
      )
      assert.isAbove(yield* Effect.promise(() => info(redis, "memory", "maxmemory")), 0)
      yield* empty(redis)
      yield* until(
        "both failures end as they should",
        async () => (await redis.xlen(keys.deadLetters)) === 1 && (await pending()) === 0
      )
      yield* run(Subscription.awaitIdle(subscription))
      const all = [...seen.data(), ...other.data()]
      const times = (data: string) => all.filter((one) => one === data).length
      assert.deepStrictEqual(["fails once", "fails always", "slow", ...plain].map(times), [
        2,
        2,
        1,
        ...plain.map(() => 1)
      ])
      assert.strictEqual(yield* run(DeadLetters.count(subscription)), 1)
      // acks that go on meanwhile are no change of state
      const settling = log.lines
        .filter(({ text }) => /^settling (is failing|works again)/.test(text))
        .map(({ level }) => level)
      assert.deepStrictEqual(settling, ["Warn", "Info"])
      yield* Scope.close(scope, Exit.void)
    }))

  test("1. what a closing worker gives back is taken by another one while memory is full", () =>
    Effect.gen(function* () {
      const { open, redis, run, topic } = yield* setUp
      const first = recorder()
      const second = recorder()
      const scope = yield* Scope.make()
      const hanging = Subscription.make(
        "billing",
        topic,
        first.handler(() => Effect.never),
        { concurrency: 4, drainTimeout: 0, from: "beginning" }
      )
      yield* Scope.provide(run(Subscription.subscribe(hanging)), scope)
      yield* run(Topic.publishAll(topic, ["a", "b", "c", "d"]))
      yield* until("all are in flight", () => first.calls.length === 4)
      const other = as(yield* open)
      yield* other(Subscription.subscribe(Subscription.make("billing", topic, second.handler(), { concurrency: 4 })))
      yield* fill(redis)
      yield* Scope.close(scope, Exit.void)
      yield* until("all are handled by the other one", () => second.calls.length === 4)
      assert.deepStrictEqual(second.data().toSorted(), ["a", "b", "c", "d"])
      assert.isTrue(second.calls.every(({ attempt }) => attempt === 1))
    }))

  test("1. a subscription can be started while memory is full, so that what is there can be worked off", () =>
    Effect.gen(function* () {
      const { redis, run, topic } = yield* setUp
      const seen = recorder()
      yield* run(Topic.publishAll(topic, ["a", "b"]))
      yield* fill(redis)
      const subscription = Subscription.make("billing", topic, seen.handler(), { from: "beginning" })
      yield* run(Subscription.subscribe(subscription))
      yield* until("both are handled", () => seen.calls.length === 2)
      yield* run(Subscription.awaitIdle(subscription))
    }))

  test("13. publishing fails with a typed error that says so, at once or after its timeout, and stores nothing", () =>
    Effect.gen(function* () {
      const { keys, redis, run, topic } = yield* setUp
      yield* run(Topic.publish(topic, "before"))
      yield* fill(redis)
      for (const [timeout, least] of [
        [0, 0],
        [400, 400]
      ] as const) {
        const begun = performance.now()
        const error = yield* Effect.flip(run(Topic.publishAll(topic, range(600).map(String), { timeout })))
        assert.strictEqual(error._tag, "PublishError")
        assert.strictEqual(error.reason._tag, "Unavailable")
        assert.include(error.message, "OOM")
        assert.strictEqual(error.stored, 0)
        assert.isAtLeast(performance.now() - begun, least)
        assert.isBelow(performance.now() - begun, least + 2000)
      }
      assert.strictEqual(yield* Effect.promise(() => redis.xlen(keys.main)), 1)
      yield* empty(redis)
      yield* run(Topic.publish(topic, "after"))
      assert.strictEqual(yield* Effect.promise(() => redis.xlen(keys.main)), 2)
    }))
})
