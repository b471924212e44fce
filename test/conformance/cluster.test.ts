/** Redis Cluster passes the suite: three masters with replicas, over which the topics of the cases are spread. */
import { Conformance } from "@clutch/core/conformance"
import { RedisKeys, RedisTransport } from "@clutch/redis"
import { Effect } from "effect"
import { Cluster } from "ioredis"
import { afterAll, inject } from "vitest"
import { keysOf } from "../support/place.ts"

const place = inject("place")
const namespace = `conformance-${Math.random().toString(36).slice(2)}`
const redis = new Cluster([...(place.cluster?.nodes ?? [])])

afterAll(() => redis.disconnect())

Conformance.suite("redis cluster", {
  layer: RedisTransport.layer({ ...place, namespace }),
  time: "real",
  pass: Effect.sleep,
  tick: "40 millis",
  lease: "1 second",
  short: true,
  appendRaw: ({ log, subscription, topic }, bytes) =>
    Effect.promise(() => {
      const own = RedisKeys.group(namespace, { topic, partition: 0, subscription })
      return redis.xadd(log === "main" ? own.main : own.retry, "*", "data", Buffer.from(bytes))
    }),
  keys: (topic) => Effect.promise(() => keysOf(redis, `${namespace}.{${topic}}*`))
})
