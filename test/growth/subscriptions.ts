/**
 * What a message costs, from publishing to its ack, where a process has one subscription or hundreds, each to a topic of
 * its own: CPU of the server, and of this process.
 */
import { type Reclaimer, Subscription, Topic, type Transport } from "@clutch/core"
import { RedisTransport } from "@clutch/redis"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import { Redis } from "ioredis"
import { startRedis } from "../support/redis.ts"
import { quantile } from "./lab.ts"

/** Messages a round. */
const many = 200

/** Microseconds a message. */
export interface Cost {
  readonly subscriptions: number
  readonly redis: number
  readonly node: number
}

const text = "x".repeat(200)

/** Microseconds of CPU that the server's main thread has used. */
const cpu = async (redis: Redis): Promise<number> => {
  const info = await redis.info("cpu")
  const read = (field: string) => Number(new RegExp(`^${field}:([\\d.]+)`, "m").exec(info)?.[1])
  const main = read("used_cpu_sys_main_thread") + read("used_cpu_user_main_thread")
  return 1e6 * (Number.isNaN(main) ? read("used_cpu_sys") + read("used_cpu_user") : main)
}

/** Publishes to all topics in turn; so many rounds. */
const measured = Effect.fnUntraced(function* (redis: Redis, count: number, rounds: number) {
  let arrived = Deferred.makeUnsafe<void>()
  const topics = Array.from({ length: count }, (_, i) => Topic.make(`topic-${i}`, { schema: Schema.String }))
  yield* Effect.forEach(topics, (topic) =>
    Subscription.subscribe(
      Subscription.make("work", topic, () => Effect.sync(() => Deferred.doneUnsafe(arrived, Effect.void)), {
        from: "beginning"
      })
    )
  )
  let next = 0
  /** Alone on its way: many at once to one topic share what they cost, and to many topics they do not. */
  const one = Effect.suspend(() => {
    const topic = topics[next++ % count]
    arrived = Deferred.makeUnsafe<void>()
    return topic === undefined ? Effect.void : Effect.andThen(Topic.publish(topic, text), Deferred.await(arrived))
  })
  const all = Effect.repeat(one, { times: many - 1 })
  yield* all
  const costs: Array<{ redis: number; node: number }> = []
  for (let i = 0; i < rounds; i++) {
    const before = process.cpuUsage()
    const server = yield* Effect.promise(() => cpu(redis))
    yield* all
    const used = (yield* Effect.promise(() => cpu(redis))) - server
    const { system, user } = process.cpuUsage(before)
    costs.push({ redis: used / many, node: (system + user) / many })
  }
  const of = (side: "redis" | "node") =>
    quantile(
      costs.map((one) => one[side]),
      0.25
    )
  return { subscriptions: count, redis: of("redis"), node: of("node") } satisfies Cost
})

/** One process after the other would be: a server and a transport of its own for each number. */
export const subscriptions = async (
  counts: ReadonlyArray<number>,
  rounds: number,
  tell: (line: string) => void
): Promise<ReadonlyArray<Cost>> => {
  const costs: Array<Cost> = []
  for (const count of counts) {
    const server = await startRedis()
    const redis = new Redis(server.port)
    try {
      const layer: Layer.Layer<Transport | Reclaimer, unknown> = Layer.fresh(RedisTransport.layer({ url: server.url }))
      const cost = await Effect.runPromise(Effect.scoped(measured(redis, count, rounds)).pipe(Effect.provide(layer)))
      tell(
        `${count} subscriptions: ${cost.redis.toFixed(1)} µs of Redis and ${cost.node.toFixed(1)} µs of Node a message`
      )
      costs.push(cost)
    } finally {
      redis.disconnect()
      await server.stop()
    }
  }
  return costs
}
