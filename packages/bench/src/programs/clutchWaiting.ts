/** Clutch while it mostly waits: how soon, how late, and what idleness costs. */
import { Delivery, Subscription, Topic } from "@clutch/core"
import type { Transport } from "@clutch/core/Transport"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type { Figures, Job, Program, TaskOf } from "../job.ts"
import { group, main, nanos, order } from "../message.ts"
import { countdown } from "../meter.ts"
import { pace, partner, publisher } from "../partner.ts"
import { figuresOf, times } from "../times.ts"
import { asker } from "../wire.ts"
import { run, subscribed, topicOf } from "./clutch.ts"

/** Publishes at a steady rate, each message with its time. */
const publishing = (perSecond: number, count: number) =>
  Effect.flatMap(Effect.context<Transport>(), (context) =>
    Effect.promise(() =>
      pace(perSecond, count, (i) => Effect.runPromiseWith(context)(Topic.publish(topicOf(main), order(i, nanos()))))
    )
  )

const latency = async (job: Job<TaskOf<"latency">>): Promise<Figures> => {
  const { ownConnection, perSecond } = job.task
  const total = job.warmup + job.messages
  if (job.role === "publisher") {
    return run(
      job,
      Effect.flatMap(Effect.context<Transport>(), (context) =>
        Effect.promise(() =>
          publisher(job, [() => Promise.resolve(), () => Effect.runPromiseWith(context)(publishing(perSecond, total))])
        )
      )
    )
  }
  const other = partner(job)
  await other.next()
  const took = times(job)
  const counted = countdown(total)
  const subscription = Subscription.make(
    group,
    topicOf(main),
    ({ data }) =>
      Effect.sync(() => {
        took.handled(data)
        counted.one()
      }),
    { concurrency: 32, ownConnection, from: "beginning" }
  )
  const begun = Effect.promise(other.next)
  await run(
    job,
    Effect.gen(function* () {
      const { close } = yield* Effect.andThen(Effect.forkScoped(begun), subscribed(subscription, counted.all))
      yield* close
    })
  )
  await other.answer
  return took.figures()
}

/** Each message fails once; its second try should come `delay` after that. */
const lateness = (job: Job<TaskOf<"lateness">>): Promise<Figures> => {
  const { delay, perSecond } = job.task
  const failed = new Map<number, number>()
  const late: Array<number> = []
  const total = job.warmup + job.messages
  const counted = countdown(total)
  const subscription = Subscription.make(
    group,
    topicOf(main),
    ({ data }) =>
      Effect.flatMap(Delivery, ({ attempt }) => {
        if (attempt === 1) {
          failed.set(data.number, performance.now())
          return Effect.fail("the first try fails")
        }
        const due = (failed.get(data.number) ?? Number.NaN) + delay
        if (data.number >= job.warmup) late.push(performance.now() - due)
        counted.one()
        return Effect.void
      }),
    { concurrency: 32, from: "beginning", retry: { base: delay, jitter: 0 } }
  )
  return run(
    job,
    Effect.gen(function* () {
      yield* Effect.forkScoped(publishing(perSecond, total))
      const { close } = yield* subscribed(subscription, counted.all)
      yield* close
      return figuresOf(late)
    })
  )
}

/** Every subscription handles one message, then none has anything to do. */
const idle = (job: Job<TaskOf<"idle">>): Promise<Figures> => {
  const counted = countdown(job.task.subscriptions)
  const handled = Effect.sync(counted.one)
  const looking = async (): Promise<Figures> => {
    const admin = await asker(job.port)
    const commands = async () => Number(/total_commands_processed:(\d+)/.exec(await admin.ask("INFO", "stats"))?.[1])
    // what a message leads to, heartbeats and looks ahead included, is over then
    await new Promise((resolve) => setTimeout(resolve, 3000))
    const before = await commands()
    const cpu = process.cpuUsage()
    const begun = performance.now()
    await new Promise((resolve) => setTimeout(resolve, job.messages))
    const { system, user } = process.cpuUsage(cpu)
    const seconds = (performance.now() - begun) / 1000
    const processed = (await commands()) - before - 1
    const clients = await admin.ask("CLIENT", "LIST")
    admin.close()
    return {
      connections: clients.split("\n").filter((line) => line.includes(" name=clutch-")).length,
      commands: processed / seconds,
      cpu: (system + user) / 1e4 / seconds
    }
  }
  return run(
    job,
    Effect.gen(function* () {
      for (let i = 0; i < job.task.subscriptions; i++) {
        const topic = Topic.make(`topic-${i}`, { schema: Schema.String })
        yield* Subscription.subscribe(Subscription.make(group, topic, () => handled))
        yield* Topic.publish(topic, "once")
      }
      yield* Effect.promise(() => counted.all)
      return yield* Effect.promise(looking)
    })
  )
}

export const program: Program = { latency, lateness, idle }
