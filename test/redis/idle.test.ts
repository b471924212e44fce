/**
 * What a process costs that has nothing to do: few connections and few commands, however many subscriptions it runs.
 */
import { Reclaimer } from "@clutch/core/Reclaimer"
import { Transport } from "@clutch/core/Transport"
import { RedisTransport } from "@clutch/redis"
import { assert, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { startRedis } from "../support/redis.ts"
import * as S from "./support.ts"

const subscriptions = 100
const seconds = 40

it.live(
  "100 idle subscriptions: at most 5 connections and 20 commands a second, calls inside scripts included",
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
        const processed = Effect.promise(async () =>
          Number(/total_commands_processed:(\d+)/.exec(await admin.info("stats"))?.[1])
        )
        const before = yield* processed
        yield* Effect.sleep(Duration.seconds(seconds))
        const each = ((yield* processed) - before - 1) / seconds
        const clients = String(yield* Effect.promise(() => admin.client("LIST")))
          .split("\n")
          .filter((line) => line.includes(" name=clutch-")).length
        console.log(`${each.toFixed(1)} commands a second, ${clients} connections`)
        assert.isAtMost(each, 20)
        assert.isAtMost(clients, 5)
      }).pipe(Effect.scoped, Effect.provide(RedisTransport.layer({ url: redis.url })))
    }).pipe(Effect.scoped),
  90_000
)
