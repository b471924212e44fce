/**
 * A worker process for a test: one subscription whose messages say what becomes of them, and a line of JSON on stdout for
 * whatever happens.
 *
 * Its settings come as JSON in CLUTCH_CASE. Messages: `slow:MS`, `die` (the process kills itself), `hang`, `fail`, and
 * `hold` (waits for a line on stdin); any other is done at once.
 */
import { Agent, Delivery, Reclaimer, Subscription, Topic } from "@clutch/core"
import { RedisClient, RedisTransport } from "@clutch/redis"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Schema from "effect/Schema"
import { createInterface } from "node:readline"
import type { WorkerSettings } from "../children.ts"

const settings = JSON.parse(process.env["CLUTCH_CASE"] ?? "{}") as WorkerSettings // what the test wrote
const tell = (line: object) => process.stdout.write(`${JSON.stringify(line)}\n`)

const told = Latch.makeUnsafe(false)
createInterface({ input: process.stdin }).on("line", () => told.openUnsafe())

const topic = Topic.make(settings.topic, { schema: Schema.String })
const { manual = false, retry, ...options } = settings.options
const common = { ...options, ...(retry === undefined ? {} : { retry }) }

const subscription = Subscription.make(
  settings.subscription,
  topic,
  Effect.fnUntraced(function* ({ data }) {
    const delivery = yield* Delivery
    const { attempt, consumer } = delivery
    tell({ event: "start", data, attempt, consumer, at: Date.now() })
    if (data.startsWith("slow:")) yield* Effect.sleep(Number(data.split(":")[1]))
    if (data.startsWith("die")) process.kill(process.pid, "SIGKILL")
    if (data.startsWith("hang")) return yield* Effect.never
    if (data.startsWith("hold")) yield* told.await
    if (data.startsWith("fail")) return yield* Effect.fail("failed as told")
    if (manual) {
      const settled = yield* Effect.match(delivery.ack, {
        onFailure: ({ reason }) => reason._tag,
        onSuccess: () => "acked"
      })
      tell({ event: "settled", data, settled })
    }
    tell({ event: "end", data, attempt })
  }),
  manual ? { ...common, ack: "manual" } : common
)

const transport = RedisTransport.layerClient({ namespace: settings.namespace }).pipe(
  Layer.provide(RedisClient.layer({ ...settings.place, connectionName: settings.name }))
)
const reclaimer = settings.reclaims === false ? Reclaimer.layerElsewhere : Reclaimer.layer
const logger = Logger.make<unknown, void>(({ logLevel, message }) => {
  tell({
    event: "log",
    level: logLevel,
    text: Array.isArray(message) ? message.map(String).join(" ") : String(message)
  })
})

Agent.run(settings.name, [subscription]).pipe(
  Effect.onInterrupt(() => Effect.sync(() => tell({ event: "drained" }))),
  Effect.provide(Layer.provideMerge(reclaimer, transport).pipe(Layer.provideMerge(Logger.layer([logger])))),
  NodeRuntime.runMain
)
