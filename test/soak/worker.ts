/**
 * A worker process of the soak: one subscription, whose handler fails as the message's number says, and answers to what
 * its parent asks over the channel between them.
 */
import { Agent, Delivery, Subscription } from "@clutch/core"
import { RedisTransport } from "@clutch/redis"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import { readdirSync, writeFileSync } from "node:fs"
import { namespace, outcomeOf, type Question, type Sample, topicOf } from "./messages.ts"

const url = process.argv[2] ?? ""
const total = Number(process.argv[3])

/** One bit a message: allocated once, so that what grows is not ours. */
const seen = new Uint8Array(Math.ceil(total / 8))
let handled = 0
let repeated = 0

const subscription = Subscription.make(
  "work",
  topicOf(),
  ({ data: { n } }) =>
    Effect.flatMap(Delivery, ({ attempt }) => {
      if (!outcomeOf(n).succeeds(attempt)) return Effect.fail("as told")
      const bit = 1 << (n & 7)
      const at = n >> 3
      const before = seen[at] ?? 0
      if ((before & bit) !== 0) repeated += 1
      else handled += 1
      seen[at] = before | bit
      return Effect.void
    }),
  { concurrency: 256, retry: { maxRetries: 2, base: "200 millis", factor: 1 }, from: "beginning" }
)

const tell = (sample: Sample) => process.send?.(sample)
const sample = (): Sample => {
  globalThis.gc?.()
  const { heapUsed, rss } = process.memoryUsage()
  return { handled, repeated, rss, heap: heapUsed, files: readdirSync("/proc/self/fd").length }
}
process.on("message", (question: Question) => {
  if (question.ask === "progress") tell({ handled, repeated })
  else if (question.ask === "sample") tell(sample())
  else {
    writeFileSync(question.file, seen)
    tell({ handled, repeated })
  }
})
// without a parent nobody asks any more
process.on("disconnect", () => process.exit(1))

const layer = Layer.mergeAll(
  RedisTransport.layer({ url, namespace, connectionName: "soak-worker" }),
  // each failure may be a line of log, and there are a hundred thousand
  Logger.layer([])
)

NodeRuntime.runMain(Effect.provide(Agent.run("soak", [subscription]), layer))
