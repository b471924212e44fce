/** A worker process of a scenario: two subscriptions on the topic, run as an agent until it is told to end, or killed. */
import { Agent, Delivery, Subscription } from "@clutch/core"
import { RedisTransport } from "@clutch/redis"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Ledger from "./ledger.ts"
import * as Load from "./load.ts"
import * as Recording from "./recording.ts"

const settings = Load.settings()
const { by, dir, namespace, target, worker } = settings
const ledger = Ledger.open(dir, by)
const topic = Load.topic(settings.topic)

/** Records a handler's start and end around what it does. */
const recorded =
  (sub: string, work: (n: number, attempt: number) => Effect.Effect<void, string>) =>
  ({ data: { n } }: { readonly data: typeof Load.Work.Type }) =>
    Effect.flatMap(Delivery, ({ attempt, fence, messageId, originalId, partition, stream }) => {
      const delivered = { sub, n, entry: `${stream} ${messageId}`, attempt }
      ledger.write({ is: "started", original: originalId, partition, fence, ...delivered })
      return Effect.onExit(work(n, attempt), (exit) =>
        Effect.sync(() => {
          const how = Exit.isSuccess(exit) ? "succeeded" : Exit.hasInterrupts(exit) ? "interrupted" : "failed"
          ledger.write({ is: "ended", how, ...delivered })
        })
      )
    })

const options = {
  concurrency: worker.concurrency,
  visibilityTimeout: worker.visibilityTimeout,
  from: "beginning",
  retry: { maxRetries: Load.maxRetries, base: 50 }
} as const

const billing = Subscription.make(
  "billing",
  topic,
  recorded("billing", (n, attempt) => {
    const kind = Load.kindOf(n)
    // some end at once, most wait for something
    const millis = n % 5 === 0 ? 0 : ((n * 7) % 10) * 0.1 * worker.work * (kind === "slow" ? 10 : 1)
    const end = kind === "always" || (kind === "once" && attempt === 1) ? Effect.fail(`as told: ${kind}`) : Effect.void
    return millis === 0 ? end : Effect.andThen(Effect.sleep(millis), end)
  }),
  options
)
const audit = Subscription.make(
  "audit",
  topic,
  recorded("audit", () => Effect.void),
  options
)

// whoever started it is gone
process.stdin.on("close", () => process.kill(process.pid, "SIGKILL")).resume()

Agent.run(by, [billing, audit]).pipe(
  Effect.provide(
    Recording.layer(ledger).pipe(Layer.provideMerge(RedisTransport.layer({ ...target, namespace, connectionName: by })))
  ),
  NodeRuntime.runMain
)
