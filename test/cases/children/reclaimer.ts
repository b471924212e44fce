/** A process that reclaims and moves due retries for subscriptions whose workers leave that to it; it has no handlers. */
import { Reclaimer, Subscription, Topic } from "@clutch/core"
import { RedisTransport } from "@clutch/redis"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import type { WorkerSettings } from "../children.ts"

const { name, namespace, place, subscription, topic } = JSON.parse(process.env["CLUTCH_CASE"] ?? "{}") as WorkerSettings // what the test wrote

Reclaimer.watch([Subscription.address(subscription, Topic.make(topic, { schema: Schema.String }))]).pipe(
  Layer.provideMerge(Layer.effectDiscard(Effect.sync(() => process.stdout.write(`{"event":"watching"}\n`)))),
  Layer.provide(RedisTransport.layer({ ...place, namespace, connectionName: name })),
  Layer.launch,
  NodeRuntime.runMain
)
