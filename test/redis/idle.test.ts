/**
 * What a process costs that has nothing to do: few connections and few commands, however many subscriptions it runs.
 */
import { Subscription, Topic } from "@clutch/core"
import { Reclaimer } from "@clutch/core/Reclaimer"
import { Transport } from "@clutch/core/Transport"
import { RedisTransport } from "@clutch/redis"
import { assert, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type { Redis } from "ioredis"
import { startRedis } from "../support/redis.ts"
import * as S from "./support.ts"

const subscriptions = 100
const seconds = 40

/** Commands a second that the server processes while so many seconds pass, the asking left out; and our connections. */
const cost = (admin: Redis, seconds: number) =>
  Effect.gen(function* () {
    const processed = Effect.promise(async () =>
      Number(/total_commands_processed:(\d+)/.exec(await admin.info("stats"))?.[1])
    )
    const before = yield* processed
    yield* Effect.sleep(Duration.seconds(seconds))
    const each = ((yield* processed) - before - 1) / seconds
    const connections = String(yield* Effect.promise(() => admin.client("LIST")))
      .split("\n")
      .filter((line) => line.includes(" name=clutch-")).length
    console.log(`${each.toFixed(1)} commands a second, ${connections} connections`)
    return { each, connections }
  })

it.live(
  "100 Subscriptions on 100 topics that have handled a message: at most 5 connections and 20 commands a second",
  () =>
    Effect.gen(function* () {
      const redis = yield* Effect.acquireRelease(
        Effect.promise(() => startRedis()),
        (redis) => Effect.promise(() => redis.stop())
      )
      const admin = yield* S.looker(redis.url)
      yield* Effect.gen(function* () {
        const handled = new Set<string>()
        for (let i = 0; i < subscriptions; i++) {
          const topic = Topic.make(`topic-${i}`, { schema: Schema.String })
          const subscription = Subscription.make("billing", topic, ({ data }) => Effect.sync(() => handled.add(data)))
          yield* Subscription.subscribe(subscription)
          yield* Topic.publish(topic, topic.topic)
        }
        yield* S.until("each has handled its message", () => handled.size === subscriptions)
        // what a message leads to, heartbeats and looks ahead included, is over
        yield* Effect.sleep("3 seconds")
        const { connections, each } = yield* cost(admin, 10)
        assert.isAtMost(each, 20)
        assert.isAtMost(connections, 5)
      }).pipe(Effect.scoped, Effect.provide(RedisTransport.layer({ url: redis.url })))
    }).pipe(Effect.scoped),
  60_000
)

it.live(
  "100 idle consumers: at most 5 connections and 20 commands a second, calls inside scripts included",
  () =>
    Effect.gen(function* () {
      const redis = yield* Effect.acquireRelease(
        Effect.promise(() => startRedis()),
        (redis) => Effect.promise(() => redis.stop())
      )
      const admin = yield* S.looker(redis.url)
      yield* Effect.gen(function* () {
        const transport = yield* Transport
        const reclaimer = yield* Reclaimer
        for (let i = 0; i < subscriptions; i++) {
          const group = S.group(`topic-${i % 20}`, `subscription-${i}`)
          const consumer = yield* S.join(transport, { group, visibilityTimeout: Duration.seconds(30) })
          yield* reclaimer.register(group)
          yield* Effect.forkScoped(Effect.forever(consumer.fetch(S.limit())))
        }
        yield* Effect.sleep("2 seconds")
        const { connections, each } = yield* cost(admin, seconds)
        assert.isAtMost(each, 20)
        assert.isAtMost(connections, 5)
      }).pipe(Effect.scoped, Effect.provide(RedisTransport.layer({ url: redis.url })))
    }).pipe(Effect.scoped),
  90_000
)
