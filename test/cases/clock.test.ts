/** What is due is due by the server's clock: a worker whose own is an hour off changes nothing. */
import { DeadLetters, Delivery, Subscription, Topic } from "@clutch/core"
import { RedisKeys } from "@clutch/redis"
import { assert, describe } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import { as, eachOnce, range, recorder, shared, test, texts, unlike, until, worker, xinfo } from "./kit.ts"

const hour = 3_600_000

/** Runs something by a clock that is so many milliseconds off. */
const shifted =
  (millis: number) =>
  <A, E, R>(self: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
    Effect.clockWith((clock) => {
      const nanos = BigInt(millis) * 1_000_000n
      const off: Clock.Clock = {
        currentTimeMillisUnsafe: () => clock.currentTimeMillisUnsafe() + millis,
        currentTimeMillis: Effect.map(clock.currentTimeMillis, (now) => now + millis),
        currentTimeNanosUnsafe: () => clock.currentTimeNanosUnsafe() + nanos,
        currentTimeNanos: Effect.map(clock.currentTimeNanos, (now) => now + nanos),
        monotonicTimeNanosUnsafe: () => clock.monotonicTimeNanosUnsafe(),
        monotonicTimeNanos: clock.monotonicTimeNanos,
        sleep: (duration) => clock.sleep(duration)
      }
      return Effect.provideService(self, Clock.Clock, off)
    })

describe("a worker whose clock is an hour off", () => {
  for (const [what, millis] of [
    ["ahead", hour],
    ["behind", -hour]
  ] as const) {
    test(`5. an hour ahead or behind changes nothing: due times, leases and dead letters' times are the server's (${what})`, () =>
      Effect.gen(function* () {
        const { namespace, options, redis } = yield* shared
        const off = shifted(millis)
        const topic = texts()
        const keys = RedisKeys.group(namespace, { topic: topic.topic, partition: 0, subscription: "billing" })
        const run = as(yield* off(worker(options)))
        const right = as(yield* worker(options))
        const seen = recorder()
        const subscription = Subscription.make(
          "billing",
          topic,
          seen.handler(({ attempt, data }) =>
            data === "dead" || (data === "fails" && attempt < 3)
              ? Effect.fail("no")
              : data === "slow"
                ? Effect.sleep(2500)
                : Effect.void
          ),
          { concurrency: 8, visibilityTimeout: "1 second", retry: { base: 200, factor: 2, jitter: 0, maxRetries: 2 } }
        )
        yield* off(run(Subscription.subscribe(subscription)))
        const begun = Date.now()
        for (const data of ["fails", "dead", "slow"]) yield* off(run(Topic.publish(topic, data)))
        // one whose clock is right may reclaim, and finds nothing to
        const rival = recorder()
        yield* right(
          Subscription.subscribe(
            Subscription.make("billing", topic, rival.handler(), { visibilityTimeout: "1 second", consumer: "rival" })
          ).pipe(Effect.tap((handle) => handle.pause))
        )
        yield* right(Subscription.awaitIdle(subscription))
        const handled = [...seen.data(), ...rival.data()]
        assert.deepStrictEqual(
          ["fails", "dead", "slow"].map((data) => handled.filter((one) => one === data).length),
          [3, 3, 1]
        )
        const [first, second, third] = seen.of("fails").map(({ at }) => at)
        for (const [from, to, delay] of [
          [first, second, 200],
          [second, third, 400]
        ] as const) {
          assert.isAtLeast((to ?? 0) - (from ?? 0), delay)
          assert.isBelow((to ?? 0) - (from ?? 0), delay + 2000)
        }
        const near = (time: number, sentence: string) => {
          assert.isAtLeast(time, begun - 1000, sentence)
          assert.isAtMost(time, Date.now() + 1000, sentence)
        }
        for (const call of seen.calls) near(call.firstDelivered, "first delivered")
        const letters = yield* off(run(Stream.runCollect(DeadLetters.list(subscription))))
        assert.lengthOf(letters, 1)
        near(letters[0] === undefined ? 0 : DateTime.toEpochMillis(letters[0].deadLettered), "dead-lettered")
        near(
          Option.match(letters[0]?.firstDelivered ?? Option.none(), {
            onNone: () => 0,
            onSome: DateTime.toEpochMillis
          }),
          "letter"
        )
        // what is kept beside the streams is the server's time too
        yield* off(run(Topic.publish(topic, "slow")))
        yield* until("a sign of life", async () =>
          Object.keys(await redis.hgetall(keys.state)).some((field) => field.startsWith("h:"))
        )
        const state = yield* Effect.promise(() => redis.hgetall(keys.state))
        for (const [field, value] of Object.entries(state)) if (field.startsWith("h:")) near(Number(value), field)
      }))
  }

  test("7. neither is a dead worker's lease longer or shorter for a reclaimer whose clock is an hour off", () =>
    Effect.gen(function* () {
      const { namespace, options, redis } = yield* shared
      const topic = texts()
      const { main } = RedisKeys.log(namespace, { topic: topic.topic, partition: 0 })
      const messages = range(5).map((i) => `m${i}`)
      const right = as(yield* worker(options))
      yield* right(Topic.publishAll(topic, messages))
      for (const [name, millis] of [
        ["ahead", hour],
        ["behind", -hour]
      ] as const) {
        const off = shifted(millis)
        yield* Effect.promise(async () => {
          // a consumer that took all and died, with a timeout of its own beside the stream
          await redis.xgroup("CREATE", main, name, "0", "MKSTREAM")
          await redis.hset(`${main}.${name}.state`, "v:dead", "1500")
          await redis.xreadgroup("GROUP", name, "dead", "COUNT", 100, "STREAMS", main, ">")
        })
        const died = Date.now()
        const seen = recorder()
        const subscription = Subscription.make(
          name,
          topic,
          seen.handler(() => Effect.asVoid(Delivery)),
          { concurrency: 8 }
        )
        yield* Effect.scoped(
          Effect.gen(function* () {
            const run = as(yield* off(worker(options)))
            yield* off(run(Subscription.subscribe(subscription)))
            yield* until("all are taken over", () => seen.calls.length === messages.length)
            yield* off(run(Subscription.awaitIdle(subscription)))
          })
        )
        assert.deepStrictEqual(unlike(seen.data(), messages), eachOnce)
        for (const { at } of seen.calls) {
          assert.isAtLeast(at - died, 1450)
          assert.isBelow(at - died, 6000)
        }
        const left = yield* Effect.promise(() => xinfo(redis, "GROUPS", main))
        assert.strictEqual(left.find((group) => group["name"] === name)?.["pending"], "0")
      }
    }))
})
