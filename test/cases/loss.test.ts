/**
 * Groups and streams that disappear under a running subscription: it creates them again by itself and goes on.
 */
import { Subscription, Topic } from "@clutch/core"
import { RedisKeys } from "@clutch/redis"
import { assert, describe } from "@effect/vitest"
import type { Message } from "@clutch/core/Message"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Schema from "effect/Schema"
import {
  type Admin,
  as,
  calls,
  collecting,
  flush,
  fresh,
  own,
  range,
  recorder,
  test,
  texts,
  until,
  worker,
  xinfo
} from "./kit.ts"

const setUp = Effect.gen(function* () {
  const { options, redis } = yield* own
  const namespace = fresh("loss")
  const topic = texts()
  const keys = RedisKeys.group(namespace, { topic: topic.topic, partition: 0, subscription: "billing" })
  const open = worker({ ...options, namespace })
  return { redis, topic, keys, open, run: as(yield* open) }
})

type Keys = ReturnType<typeof RedisKeys.group>

const losses: Readonly<Record<string, (redis: Admin, keys: Keys) => Promise<unknown>>> = {
  "the group (XGROUP DESTROY)": (redis, { main }) => redis.xgroup("DESTROY", main, "billing"),
  "the retry group (XGROUP DESTROY)": (redis, { retry }) => redis.xgroup("DESTROY", retry, "billing-retry"),
  "both groups": async (redis, { main, retry }) => {
    await redis.xgroup("DESTROY", main, "billing")
    await redis.xgroup("DESTROY", retry, "billing-retry")
  },
  "the stream (DEL)": (redis, { main }) => redis.del(main),
  "the retry stream (DEL)": (redis, { retry }) => redis.del(retry),
  "the state beside the streams (DEL)": (redis, { state }) => redis.del(state),
  "the bell (DEL)": (redis, { bell }) => redis.del(bell),
  "everything (FLUSHALL)": flush
}

/** Entry ids as numbers that compare. */
const ordinal = (id: string): bigint => {
  const [time = "0", sequence = "0"] = id.split("-")
  return (BigInt(time) << 64n) + BigInt(sequence)
}

/** Waits until the position that is kept beside the stream has reached this entry. */
const remembers = (redis: Admin, keys: Keys, id: string) =>
  until(
    `position ${id} is remembered`,
    async () => ordinal((await redis.hget(keys.state, "position")) ?? "0-0") >= ordinal(id)
  )

describe("a group or stream that disappears", () => {
  for (const [what, lose] of Object.entries(losses)) {
    for (const ownConnection of [false, true]) {
      const how = ownConnection ? ", on a connection of its own" : ""
      test(`9. ${what} is lost while the subscription waits: it goes on by itself${how}`, () =>
        Effect.gen(function* () {
          const { keys, redis, run, topic } = yield* setUp
          const seen = recorder()
          let failing = false
          const subscription = Subscription.make(
            "billing",
            topic,
            seen.handler(({ attempt }) => (failing && attempt === 1 ? Effect.fail("once") : Effect.void)),
            { retry: { base: 30 }, concurrency: 4, ownConnection, from: "beginning" }
          )
          yield* run(Subscription.subscribe(subscription))
          yield* run(Topic.publishAll(topic, ["a", "b"]))
          yield* run(Subscription.awaitIdle(subscription))
          for (const round of [1, 2]) {
            yield* Effect.promise(() => lose(redis, keys))
            failing = false
            yield* run(Topic.publish(topic, `after ${round}`))
            yield* until(`what came after loss ${round} is handled`, () => seen.data().includes(`after ${round}`))
            failing = true
            yield* run(Topic.publish(topic, `fails ${round}`))
            yield* until(`what fails after loss ${round} is retried`, () =>
              seen.of(`fails ${round}`).some(({ attempt }) => attempt === 2)
            )
            yield* run(Subscription.awaitIdle(subscription))
          }
          // at least once: what was handled before may repeat where the position was lost with the group
          for (const data of ["after 1", "after 2", "fails 1", "fails 2"])
            assert.isAtLeast(seen.of(data).length, 1, data)
        }))
    }
  }

  test("9. with entries left: what is in flight when the group is lost, is handled to its end, and nothing is skipped", () =>
    Effect.gen(function* () {
      const { keys, redis, run, topic } = yield* setUp
      const seen = recorder()
      let lost = false
      const log = collecting()
      const subscription = Subscription.make(
        "billing",
        topic,
        seen.handler(({ data }) => (data === "held" && !lost ? until("the group is lost", () => lost) : Effect.void)),
        { concurrency: 1, prefetch: 4, visibilityTimeout: "1 second", from: "beginning" }
      )
      yield* run(Subscription.subscribe(subscription)).pipe(Effect.provide(log.layer))
      const early = range(5).map((i) => `early ${i}`)
      const rest = range(20).map((i) => `rest ${i}`)
      const messages = yield* run(Topic.publishAll(topic, [...early, "held", ...rest]))
      yield* until("it is held", () => seen.data().includes("held"))
      yield* remembers(redis, keys, messages[4]?.id ?? "")
      yield* Effect.promise(() => redis.xgroup("DESTROY", keys.main, "billing"))
      lost = true
      yield* until("all of the rest is handled", () => rest.every((one) => seen.data().includes(one)))
      yield* run(Subscription.awaitIdle(subscription))
      // it went on from the lowest unsettled id, which the heartbeats had kept beside the stream
      assert.deepStrictEqual(seen.data().slice(0, 5), early)
      for (const one of early) assert.lengthOf(seen.of(one), 1, `${one} repeats`)
      yield* until("how many may repeat is logged", () =>
        log.lines.some(
          ({ level, text }) => level === "Warn" && /had disappeared, now created again.*may repeat/.test(text)
        )
      )
    }))

  test("9. a group that another worker recreates is not replayed from the beginning", () =>
    Effect.gen(function* () {
      const { keys, open, redis, run, topic } = yield* setUp
      const first = recorder()
      const second = recorder()
      const slow = ({ data }: { readonly data: string }) => (data.startsWith("slow") ? Effect.sleep(900) : Effect.void)
      const options = { concurrency: 4, visibilityTimeout: "1 second", from: "beginning" } as const
      const one = Subscription.make("billing", topic, first.handler(slow), { ...options, consumer: "one" })
      const two = Subscription.make("billing", topic, second.handler(slow), { ...options, consumer: "two" })
      yield* run(Subscription.subscribe(one))
      const early = yield* run(
        Topic.publishAll(
          topic,
          range(10).map((i) => `early ${i}`)
        )
      )
      yield* run(Subscription.awaitIdle(one))
      yield* run(Topic.publish(topic, "slow"))
      yield* remembers(redis, keys, early[9]?.id ?? "")
      yield* run(Subscription.awaitIdle(one))
      yield* Effect.promise(() => redis.xgroup("DESTROY", keys.main, "billing"))
      yield* as(yield* open)(Subscription.subscribe(two))
      assert.lengthOf(yield* Effect.promise(() => xinfo(redis, "GROUPS", keys.main)), 1)
      const late = range(20).map((i) => `late ${i}`)
      yield* run(Topic.publishAll(topic, late))
      yield* until("all that is new is handled", () =>
        late.every((data) => [...first.data(), ...second.data()].includes(data))
      )
      yield* run(Subscription.awaitIdle(one))
      assert.deepStrictEqual(
        second.data().filter((data) => data.startsWith("early")),
        []
      )
      for (const { data } of early) assert.lengthOf(first.of(data), 1, `${data} repeats`)
    }))

  test("9. an idle worker whose group is lost replays nothing that it had settled and whose position was remembered", () =>
    Effect.gen(function* () {
      const { keys, redis, run, topic } = yield* setUp
      const seen = recorder()
      const subscription = Subscription.make("billing", topic, seen.handler(), {
        from: "beginning",
        visibilityTimeout: "1 second"
      })
      yield* run(Subscription.subscribe(subscription))
      const early = yield* run(Topic.publishAll(topic, ["a", "b", "c"]))
      yield* run(Subscription.awaitIdle(subscription))
      const position = yield* Effect.promise(() => redis.hget(keys.state, "position"))
      yield* Effect.promise(() => redis.xgroup("DESTROY", keys.main, "billing"))
      yield* run(Topic.publish(topic, "d"))
      yield* until("the next is handled", () => seen.data().includes("d"))
      yield* run(Subscription.awaitIdle(subscription))
      const repeated = position === early[2]?.id ? [] : ["a", "b", "c"]
      assert.deepStrictEqual(seen.data(), ["a", "b", "c", ...repeated, "d"], `remembered: ${position}`)
    }))

  test("9. what is published right after everything was flushed is not lost, though nobody has noticed yet", () =>
    Effect.gen(function* () {
      const { redis, run, topic } = yield* setUp
      const seen = recorder()
      // "new": a group that came after what was published would never see it
      const subscription = Subscription.make("billing", topic, seen.handler(), { from: "new" })
      yield* run(Subscription.subscribe(subscription))
      for (const round of range(20)) {
        yield* Effect.promise(() => flush(redis))
        yield* run(Topic.publish(topic, `round ${round}`))
        yield* until(`round ${round} is handled`, () => seen.data().includes(`round ${round}`))
      }
    }))

  test("10. of a topic with a key, none overtakes one of its key that comes again or failed as the group was lost", () =>
    Effect.gen(function* () {
      const { options, redis } = yield* own
      const namespace = fresh("loss")
      const topic = Topic.make(fresh("orders"), {
        schema: Schema.String,
        key: (text) => text.slice(0, 1),
        partitions: 2
      })
      const run = as(yield* worker({ ...options, namespace }))
      const ended: Array<string> = []
      const early: Array<string> = []
      let calls = 0
      const handler = ({ data }: Message<string>) =>
        Effect.suspend(() => {
          const key = data.slice(0, 1)
          const n = Number(data.slice(1))
          if (n > 0 && !ended.includes(`${key}${n - 1}`)) early.push(data)
          calls += 1
          if (calls % 3 === 0) return Effect.fail("no")
          ended.push(data)
          return Effect.void
        })
      const subscription = Subscription.make("billing", topic, handler, {
        concurrency: 4,
        from: "beginning",
        retry: { base: "5 millis", maxDelay: "5 millis", maxRetries: "unlimited" }
      })
      yield* run(Subscription.subscribe(subscription))
      for (const round of range(4)) {
        const numbers = range(5).map((n) => 5 * round + n)
        yield* run(
          Topic.publishAll(
            topic,
            numbers.flatMap((n) => ["a", "b", "c", "d"].map((key) => `${key}${n}`))
          )
        )
        const before = calls
        yield* until("some of them are handled", () => calls >= before + 5)
        for (const partition of range(2)) {
          const { main } = RedisKeys.group(namespace, { topic: topic.topic, partition, subscription: "billing" })
          yield* Effect.promise(() => redis.xgroup("DESTROY", main, "billing"))
        }
      }
      yield* until("all is handled", () => new Set(ended).size === 80)
      yield* run(Subscription.awaitIdle(subscription))
      assert.deepStrictEqual(early, [])
    }))

  test("9. nothing is idle while the group has disappeared, and is remembered", () =>
    Effect.gen(function* () {
      const { keys, open, redis, run, topic } = yield* setUp
      const seen = recorder()
      const subscription = Subscription.make("billing", topic, seen.handler(), { from: "beginning" })
      yield* Effect.scoped(run(Subscription.subscribe(subscription)))
      yield* Effect.promise(() => redis.xgroup("DESTROY", keys.main, "billing"))
      yield* run(Topic.publish(topic, "a"))
      const idle = yield* Effect.forkChild(run(Subscription.awaitIdle(subscription)), { startImmediately: true })
      yield* as(yield* open)(Subscription.subscribe(subscription))
      yield* Fiber.join(idle)
      assert.deepStrictEqual(seen.data(), ["a"])
    }))

  test("9. losing its groups again and again makes no hot loop", () =>
    Effect.gen(function* () {
      const { keys, redis, run, topic } = yield* setUp
      const seen = recorder()
      yield* run(Subscription.subscribe(Subscription.make("billing", topic, seen.handler(), { from: "beginning" })))
      const before = yield* Effect.promise(() => calls(redis, "evalsha"))
      for (const _ of range(10)) {
        yield* Effect.promise(() => redis.xgroup("DESTROY", keys.main, "billing"))
        yield* Effect.sleep(50)
      }
      const after = yield* Effect.promise(() => calls(redis, "evalsha"))
      assert.isAtMost(after - before, 200)
      yield* run(Topic.publish(topic, "x"))
      yield* until("it is handled", () => seen.data().includes("x"))
    }))
})
