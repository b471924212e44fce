/**
 * The original bug: a failure of one subscription must not reach another one, and no failure may make a key out of
 * another key that failures made.
 */
import { Agent, DeadLetters, Delivery, DoNotRetry, Subscription, Topic, Transport } from "@clutch/core"
import { RedisKeys } from "@clutch/redis"
import { assert, describe } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import {
  type Admin,
  as,
  eachOnce,
  failsOnce,
  fresh,
  keysOf,
  recorder,
  shared,
  test,
  texts,
  unlike,
  until,
  worker
} from "./kit.ts"

describe("a failure is the failing subscription's alone", () => {
  test("2. two agents on one topic, one fails once: the other is called exactly once", () =>
    Effect.gen(function* () {
      const { options } = yield* shared
      const orders = texts()
      const steady = recorder()
      const failing = recorder()
      const run = as(yield* worker(options))
      const billing = Subscription.make("billing", orders, steady.handler())
      const shipping = Subscription.make("shipping", orders, failing.handler(failsOnce), { retry: { base: 50 } })
      yield* run(Layer.build(Agent.layer("first", [billing])))
      yield* run(Layer.build(Agent.layer("second", [shipping])))
      yield* run(Topic.publish(orders, "x"))
      yield* run(Subscription.awaitIdle(billing))
      yield* run(Subscription.awaitIdle(shipping))
      // time for a call too many, which would come as a due retry does
      yield* Effect.sleep(300)
      assert.deepStrictEqual(steady.data(), ["x"])
      assert.deepStrictEqual(failing.data(), ["x", "x"])
      assert.deepStrictEqual(
        failing.calls.map(({ attempt }) => attempt),
        [1, 2]
      )
    }))

  test("2. the same over two processes' transports: who failed handles its retry, and nobody else", () =>
    Effect.gen(function* () {
      const { options } = yield* shared
      const orders = texts()
      const steady = recorder()
      const failing = recorder()
      const one = as(yield* worker(options))
      const two = as(yield* worker(options))
      const billing = Subscription.make("billing", orders, steady.handler())
      const shipping = Subscription.make("shipping", orders, failing.handler(failsOnce), { retry: { base: 50 } })
      yield* one(Subscription.subscribe(billing))
      yield* two(Subscription.subscribe(shipping))
      for (const data of ["x", "y", "z"]) yield* one(Topic.publish(orders, data))
      yield* one(Subscription.awaitIdle(billing))
      yield* one(Subscription.awaitIdle(shipping))
      assert.deepStrictEqual(steady.data(), ["x", "y", "z"])
      assert.deepStrictEqual(failing.data().toSorted(), ["x", "x", "y", "y", "z", "z"])
    }))
})

// -----------------------------------------------------------------------------
// keys
// -----------------------------------------------------------------------------

/** What the names of a topic and its subscriptions allow, and nothing beside it. */
const strangers = (keys: ReadonlyArray<string>, namespace: string, topic: string, names: ReadonlyArray<string>) => {
  const allowed = new Set<string>()
  for (const subscription of names) {
    const { bell, deadLetters, due, main, retry, state } = RedisKeys.group(namespace, {
      topic,
      partition: 0,
      subscription
    })
    for (const key of [bell, deadLetters, due, main, retry, state]) allowed.add(key)
  }
  return keys.filter(
    (key) => !allowed.has(key) || /\.(retry|due|dlq|state|bell)\..*(retry|due|dlq|state|bell)$/.test(key)
  )
}

const waysToFail = [
  "fails",
  "dies",
  "is not worth a retry",
  "times out",
  "is rejected",
  "is retried by hand",
  "is released once"
] as const

const Job = Schema.Struct({ way: Schema.Literals(waysToFail) })

/** Failures of every kind, each to its end and once more after a redrive, on two subscriptions; their names. */
const failInEveryWay = (namespace: string, topicName: string, redis: Admin) =>
  Effect.gen(function* () {
    const jobs = Topic.make(topicName, { schema: Job })
    const released = new Set<string>()
    const handle = (name: string) =>
      Subscription.make(
        name,
        jobs,
        ({ data, id }) =>
          Effect.gen(function* () {
            const delivery = yield* Delivery
            if (data.way === "dies") return yield* Effect.die("died")
            if (data.way === "is not worth a retry") return yield* new DoNotRetry({ reason: "pointless" })
            if (data.way === "times out") return yield* Effect.never
            if (data.way === "is rejected") return yield* Effect.orDie(delivery.deadLetter("rejected"))
            if (data.way === "is retried by hand") return yield* Effect.orDie(delivery.retry({ after: 5 }))
            if (data.way === "is released once" && !released.has(name + id)) {
              released.add(name + id)
              return yield* Effect.orDie(delivery.release)
            }
            return yield* Effect.fail("failed")
          }),
        { concurrency: 4, timeout: 100, retry: { maxRetries: 2, base: 10, maxDelay: 20 } }
      )
    const names = ["billing", "shipping.express"]
    const subscriptions = names.map(handle)
    for (const subscription of subscriptions) yield* Subscription.subscribe(subscription)
    yield* Topic.publishAll(
      jobs,
      waysToFail.map((way) => ({ way }))
    )
    yield* Effect.promise(async () => {
      const { main, retry } = RedisKeys.group(namespace, { topic: topicName, partition: 0, subscription: "billing" })
      await redis.xadd(main, "*", "data", "no JSON")
      await redis.xadd(main, "*", "unknown", "field")
      await redis.xadd(retry, "*", "data", "no JSON either")
    })
    const letters = [waysToFail.length + 3, waysToFail.length + 2]
    for (const _ of ["at first", "after a redrive"]) {
      for (const [at, subscription] of subscriptions.entries()) {
        const { deadLetters } = RedisKeys.group(namespace, {
          topic: topicName,
          partition: 0,
          subscription: names[at] ?? ""
        })
        yield* until(
          `${names[at]} has ${letters[at]} dead letters`,
          async () => (await redis.xlen(deadLetters)) === letters[at]
        )
        yield* DeadLetters.redrive(subscription)
      }
    }
    for (const subscription of subscriptions) yield* Subscription.awaitIdle(subscription)
    return names
  })

describe("no key chains", () => {
  test("2. there is no .retry.retry and no .dlq.retry, whatever fails: the keyspace holds six kinds of key", () =>
    Effect.gen(function* () {
      const { namespace, options, redis } = yield* shared
      const topic = fresh("jobs")
      const names = yield* failInEveryWay(namespace, topic, redis).pipe(as(yield* worker(options)))
      const keys = yield* Effect.promise(() => keysOf(redis, namespace))
      assert.deepStrictEqual(strangers(keys, namespace, topic, names), [])
      assert.isFalse(keys.some((key) => /\.retry\.retry|\.dlq\.retry|\.retry\.dlq/.test(key)))
      // the search found what there was to find
      for (const ending of [".retry", ".dlq", ".state"])
        assert.isTrue(
          keys.some((key) => key.endsWith(ending)),
          ending
        )
    }))

  /** What the original bug did: the failure of a retry goes to a key made of the retry's own. */
  const chaining = (inner: Transport["Service"], redis: Admin): Transport["Service"] => ({
    ...inner,
    join: (options) =>
      Effect.map(inner.join(options), (consumer) => ({
        ...consumer,
        settle: (settlements) =>
          Effect.promise(async () => {
            for (const { entry, outcome } of settlements) {
              if (entry.origin === "retry" && outcome._tag === "Retry")
                await redis.xadd(`${entry.stream}.retry`, "*", "data", "1")
              if (entry.origin === "retry" && outcome._tag === "DeadLetter")
                await redis.xadd(`${entry.stream}.dlq`, "*", "data", "1")
            }
          }).pipe(Effect.andThen(consumer.settle(settlements)))
      }))
  })

  test("2. the search for chained keys goes red when the code is made to chain", () =>
    Effect.gen(function* () {
      const { namespace, options, redis } = yield* shared
      const topic = fresh("jobs")
      const honest = yield* worker(options)
      const transport = chaining(Context.get(honest, Transport), redis)
      const names = yield* failInEveryWay(namespace, topic, redis).pipe(as(Context.add(honest, Transport, transport)))
      const found = strangers(yield* Effect.promise(() => keysOf(redis, namespace)), namespace, topic, names)
      assert.includeMembers(
        [...found],
        names.flatMap((name) => [
          `${namespace}.{${topic}}.${name}.retry.retry`,
          `${namespace}.{${topic}}.${name}.retry.dlq`
        ])
      )
    }))

  test("2. a name that would make another's key is refused by publish and subscribe", () =>
    Effect.gen(function* () {
      const { namespace, options, redis } = yield* shared
      const run = as(yield* worker(options))
      for (const name of ["billing.retry", "billing.dlq", "retry", "a.due", "x.state", "y.bell", "a{b}", "a/b"]) {
        const bad = Topic.make(name, { schema: Schema.String })
        const published = yield* Effect.flip(run(Topic.publish(bad, "x")))
        assert.strictEqual(published.reason._tag, "InvalidName", name)
        const refused = yield* Effect.flip(
          run(Subscription.subscribe(Subscription.make(name, texts(), () => Effect.void)))
        )
        assert.strictEqual(refused.reason._tag, "InvalidName", name)
      }
      assert.deepStrictEqual(yield* Effect.promise(() => keysOf(redis, namespace)), [])
    }))
})

describe("replay", () => {
  test("3. replaying the topic from the beginning replays no retry, and misses none written before", () =>
    Effect.gen(function* () {
      const { namespace, options, redis } = yield* shared
      const orders = texts()
      const run = as(yield* worker(options))
      const first = recorder()
      const billing = Subscription.make("billing", orders, first.handler(failsOnce), { retry: { base: 20 } })
      yield* Effect.scoped(
        Effect.gen(function* () {
          yield* run(Subscription.subscribe(billing))
          yield* run(Topic.publishAll(orders, ["a", "b"]))
          yield* run(Subscription.awaitIdle(billing))
        })
      )
      const { main } = RedisKeys.group(namespace, { topic: orders.topic, partition: 0, subscription: "billing" })
      const second = recorder()
      const replay = Subscription.make("replay", orders, second.handler(), { from: "beginning" })
      yield* run(Subscription.subscribe(replay))
      yield* run(Subscription.awaitIdle(replay))
      assert.deepStrictEqual(unlike(second.data(), ["a", "b"]), eachOnce)
      assert.isTrue(second.calls.every(({ attempt, stream }) => attempt === 1 && stream === main))
      assert.deepStrictEqual(yield* Effect.promise(() => redis.xlen(main)), 2)
    }))
})
