/** A publisher process of a scenario: numbered messages at a rate, one by one and in batches, until it is told to end. */
import { Metrics, Topic } from "@clutch/core"
import { RedisTransport } from "@clutch/redis"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Effect from "effect/Effect"
import * as FiberSet from "effect/FiberSet"
import * as Metric from "effect/Metric"
import * as Ledger from "./ledger.ts"
import * as Load from "./load.ts"

const settings = Load.settings()
const { by, dir, namespace, publisher, target } = settings
const ledger = Ledger.open(dir, by)
const topic = Load.topic(settings.topic)

/** How often it publishes, in milliseconds. */
const every = 20

// the end of its input tells it to end; so does the death of whoever started it
const input = process.stdin.resume()

const trimmed = Effect.map(
  Metric.value(
    Metric.withAttributes(Metrics.trimmed, {
      "messaging.destination.name": topic.topic,
      "messaging.system": "redis"
    })
  ),
  ({ count }) => count
)

const publish = (ns: ReadonlyArray<number>) =>
  Effect.suspend(() => {
    const data = ns.map((n) => ({ n, key: Load.keyOf(n) }))
    ledger.write({ is: "publishing", ns })
    const from = Ledger.now()
    const published = (stored: number, rest: "unknown" | "refused") =>
      Effect.map(trimmed, (trimmed) => {
        if (stored > 0) ledger.write({ is: "published", ns: ns.slice(0, stored), from, how: "confirmed", trimmed })
        if (stored < ns.length) ledger.write({ is: "published", ns: ns.slice(stored), from, how: rest, trimmed })
      })
    return Effect.matchEffect(Topic.publishAll(topic, data, { timeout: publisher.timeout }), {
      onSuccess: () => published(ns.length, "unknown"),
      onFailure: ({ reason, stored }) => published(stored, reason._tag === "Unknown" ? "unknown" : "refused")
    })
  })

const program = Effect.gen(function* () {
  const running = yield* FiberSet.make()
  const begun = performance.now()
  let n = 0
  while (!input.readableEnded) {
    const wanted = Math.floor(((performance.now() - begun) * publisher.rate) / 1000)
    // what an outage holds up is not made up for: it would come as one flood
    n = Math.max(n, wanted - publisher.rate)
    while (n < wanted) {
      const size = Math.min(wanted - n, n % 3 === 0 ? 1 : 4)
      const first = n
      yield* FiberSet.run(running, publish(Array.from({ length: size }, (_, i) => first + i)))
      n += size
    }
    yield* Effect.sleep(every)
  }
  yield* FiberSet.awaitEmpty(running)
})
program.pipe(
  Effect.scoped,
  Effect.provide(RedisTransport.layer({ ...target, namespace, connectionName: by })),
  NodeRuntime.runMain
)
