/** Redis Cluster passes the suite: three masters with replicas, over which the topics of the cases are spread. */
import { Conformance } from "@clutch/core/conformance"
import { RedisKeys, RedisTransport } from "@clutch/redis"
import { Effect } from "effect"
import { Cluster } from "ioredis"
import { afterAll, inject } from "vitest"

const nodes = inject("clusterNodes")
const namespace = `conformance-${Math.random().toString(36).slice(2)}`
const redis = new Cluster(nodes.map((node) => ({ ...node })))

afterAll(() => redis.disconnect())

/** Every key of a pattern, wherever it is. */
const keys = async (pattern: string) =>
  (await Promise.all(redis.nodes("master").map((node) => node.keys(`${namespace}.${pattern}`)))).flat()

Conformance.suite("redis cluster", {
  layer: RedisTransport.layer({ url: "redis://cluster", cluster: { nodes }, namespace }),
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
  keys: (topic) => Effect.promise(() => keys(`{${topic}}*`))
})
