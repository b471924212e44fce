/** Clutch where another process publishes: end to end, and by key. */
import { Subscription, Topic } from "@clutch/core"
import { PublishError } from "@clutch/core/Errors"
import type { Transport } from "@clutch/core/Transport"
import * as Effect from "effect/Effect"
import { type Figures, type Job, NotAvailable, type Program, type TaskOf } from "../job.ts"
import { Order, group, main, orders, warm } from "../message.ts"
import { type Partner, partner, publisher } from "../partner.ts"
import { measured, publishBatches, run, topicOf } from "./clutch.ts"

const batch = 256

const publish = (job: Job, topicOf: (name: string) => Topic.Topic<Order>): Promise<Figures> =>
  run(
    job,
    Effect.flatMap(Effect.context<Transport>(), (context) => {
      const send = (topic: string, data: ReadonlyArray<Order>) => () =>
        Effect.runPromiseWith(context)(publishBatches(batch, 2)(topicOf(topic), data))
      // made before the time begins
      const steps = [send(warm, orders(job.warmup)), send(main, orders(job.messages))] as const
      return Effect.promise(() => publisher(job, steps))
    })
  )

/** Both processes' CPU. */
const together = async (consumer: Promise<Figures>, other: Partner): Promise<Figures> => {
  const [mine, theirs] = await Promise.all([consumer, other.answer])
  return { ...mine, node: (mine.node ?? 0) + (theirs.node ?? 0) }
}

const endToEnd = (job: Job<TaskOf<"end-to-end">>): Promise<Figures> => {
  if (job.role === "publisher") return publish(job, topicOf)
  const other = partner(job)
  const handling = measured(
    job,
    (topic, one) => {
      const handled = Effect.sync(one)
      return Subscription.make(group, topicOf(topic), () => handled, {
        concurrency: job.task.concurrency,
        from: "beginning"
      })
    },
    { next: other.next }
  )
  return together(handling, other)
}

/** What an option that this version does not take is answered with. */
const refusal = (error: unknown): unknown =>
  error instanceof PublishError && error.reason._tag === "InvalidOption" ? new NotAvailable(error.message) : error

const ordered = async (job: Job<TaskOf<"consume-ordered">>): Promise<Figures> => {
  const { concurrency, keys, partitions } = job.task
  const topicOf = (name: string) =>
    Topic.make(name, { schema: Order, partitions, key: ({ number }) => `key-${number % keys}` })
  if (job.role === "publisher") return publish(job, topicOf).catch((error: unknown) => Promise.reject(refusal(error)))
  const other = partner(job)
  await other.next()
  await other.next()
  await other.answer
  return measured(job, (topic, one) => {
    const handled = Effect.sync(one)
    return Subscription.make(group, topicOf(topic), () => handled, { concurrency, from: "beginning" })
  })
}

export const program: Program = { "end-to-end": endToEnd, "consume-ordered": ordered }
