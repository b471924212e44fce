/**
 * A worker process: runs until it is told to stop, then drains.
 *
 * REDIS_URL=redis://127.0.0.1:6379 CLUTCH_NAMESPACE=shop node --conditions=@clutch/source packages/examples/src/worker.ts
 *
 * On SIGINT or SIGTERM fetching stops at once, handlers in flight get `drainTimeout`, and what is unfinished then is given
 * back to other workers at no cost of an attempt. Any number of these processes share the work. Where the subscription's
 * own loop dies of a defect, `Agent.run` fails and the process exits with 1, so that a process manager starts another.
 */
import { Agent, Subscription, Topic } from "@clutch/core"
import { RedisTransport } from "@clutch/redis"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import { Config, Console, Effect, Schema } from "effect"

/** A picture to make smaller; `millis` is how long that takes. */
export const Job = Schema.Struct({ file: Schema.String, millis: Schema.Int })

export const Jobs = Topic.make("jobs", { schema: Job })

const resize = Subscription.make(
  "resize",
  Jobs,
  Effect.fn(function* ({ data }) {
    yield* Console.log(`started ${data.file}`)
    yield* Effect.sleep(data.millis)
    yield* Console.log(`finished ${data.file}`)
  }),
  { concurrency: 4, drainTimeout: "10 seconds", from: "beginning" }
)

const Redis = RedisTransport.layerConfig({ url: Config.Redacted("REDIS_URL") })

if (import.meta.main) {
  Agent.run("worker", [resize]).pipe(
    Effect.onInterrupt(() => Console.log("drained, leaving")),
    Effect.provide(Redis),
    NodeRuntime.runMain
  )
}
