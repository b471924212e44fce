/** Redis passes the suite, in real time, under a namespace of its own. */
import { Conformance } from "@clutch/core/conformance"
import { RedisKeys, RedisTransport } from "@clutch/redis"
import { Effect } from "effect"
import { Redis } from "ioredis"
import { afterAll, inject } from "vitest"

const url = inject("redisUrl")
const namespace = `conformance-${Math.random().toString(36).slice(2)}`
const redis = new Redis(url)
const keys = (pattern: string) => redis.keys(`${namespace}.${pattern}`)

afterAll(async () => {
  const all = await keys("*")
  if (all.length > 0) await redis.unlink(all)
  redis.disconnect()
})

Conformance.suite("redis", {
  layer: RedisTransport.layer({ url, namespace }),
  time: "real",
  pass: Effect.sleep,
  tick: "40 millis",
  lease: "1 second",
  short: process.env["CLUTCH_SHORT"] !== undefined,
  appendRaw: ({ log, subscription, topic }, bytes) =>
    Effect.promise(() => {
      const own = RedisKeys.group(namespace, { topic, partition: 0, subscription })
      return redis.xadd(log === "main" ? own.main : own.retry, "*", "data", Buffer.from(bytes))
    }),
  keys: (topic) => Effect.promise(() => keys(`{${topic}}*`))
})
