import { build } from "esbuild"
import { Redis } from "ioredis"
import { randomUUID } from "node:crypto"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, beforeAll, describe, expect, inject, it } from "vitest"
import { type Consumer, makeConsumer } from "./consumer.ts"
import { run } from "./pack.mjs"

const worker = `
import { Agent, Subscription, Topic } from "@clutch/core"
import { RedisTransport } from "@clutch/redis"
import { Effect, Layer, Schema } from "effect"

const [url, namespace] = process.argv.slice(2)
const Jobs = Topic.make("jobs", { schema: Schema.Struct({ n: Schema.Number }) })
// the first attempt fails, so that the Lua scripts are needed too
let attempts = 0
const worker = Subscription.make("worker", Jobs, ({ data }) =>
  Effect.suspend(() => {
    attempts += 1
    if (attempts === 1) return Effect.fail("once")
    console.log("handled " + data.n + " at attempt " + attempts)
    return Effect.void
  }), { retry: { base: "10 millis" } })
const layer = Agent.layer("bundle", [worker]).pipe(Layer.provideMerge(RedisTransport.layer({ url: url!, namespace: namespace! })))
await Effect.gen(function*() {
  yield* Topic.publish(Jobs, { n: 7 })
  yield* Subscription.awaitIdle(worker)
}).pipe(Effect.provide(layer), Effect.runPromise)
`

/** Only a value of Topic: nothing here needs the runtime of subscriptions. */
const topicOnly = `
import { Topic } from "@clutch/core"
import { Schema } from "effect"
export const Orders = Topic.make("orders", { schema: Schema.String })
`

/** Where a bundler finds the modules that make up what a subscription does. */
const runtimeModules =
  /@clutch\/core\/dist\/(Subscription|Agent|MemoryTransport|DeadLetters|Reclaimer|internal\/(engine|subscribe|handlers)|conformance|testing)\b/

describe("bundlers", () => {
  let consumer: Consumer
  const outside = mkdtempSync(join(tmpdir(), "clutch-bundle-"))
  beforeAll(() => {
    consumer = makeConsumer(inject("tarballs"))
    consumer.write("worker.ts", worker)
    consumer.write("topic.ts", topicOnly)
  })
  afterAll(() => {
    consumer?.remove()
    rmSync(outside, { recursive: true, force: true })
  })

  const bundle = (entry: string, outfile: string) =>
    build({
      entryPoints: [join(consumer.folder, entry)],
      outfile,
      bundle: true,
      format: "esm",
      platform: "node",
      metafile: true,
      logLevel: "silent",
      // ioredis is CommonJS and asks for node's modules with require
      banner: { js: `import { createRequire } from "node:module"; const require = createRequire(import.meta.url);` }
    })

  it("make one file of a worker, which runs on Redis without node_modules", async () => {
    const file = join(outside, "worker.mjs")
    await bundle("worker.ts", file)
    const namespace = `bundle-${randomUUID()}`
    const printed = run(outside, process.execPath, file, inject("redisUrl"), namespace)
    const redis = new Redis(inject("redisUrl"))
    await redis.unlink(await redis.keys(`${namespace}.*`))
    redis.disconnect()
    expect(printed).toContain("handled 7 at attempt 2")
  })

  it("drop the runtime of subscriptions where only Topic is used", async () => {
    const { metafile } = await bundle("topic.ts", join(outside, "topic.mjs"))
    const kept = Object.values(metafile.outputs).flatMap(({ inputs }) =>
      Object.entries(inputs).flatMap(([file, { bytesInOutput }]) => (bytesInOutput > 0 ? [file] : []))
    )
    expect(kept.filter((file) => runtimeModules.test(file))).toEqual([])
    expect(kept.some((file) => file.includes("@clutch/core/dist/Topic"))).toBe(true)
  })
})
