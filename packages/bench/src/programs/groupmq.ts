/**
 * groupmq: ten thousand groups, so that its order within a group holds nothing back; finished jobs are not kept (its
 * default); `autoBatch` where it publishes, which is its own advice for many jobs.
 */
import { Redis } from "ioredis"
import type { Figures, Job, Program } from "../job.ts"
import { type Order, main, orders, warm } from "../message.ts"
import { countdown, meter } from "../meter.ts"
import { inFlight, publishing } from "./raw.ts"

// its own declarations need packages that it does not bring, so this says what is used of it
interface Queue {
  readonly add: (job: { readonly groupId: string; readonly data: Order }) => Promise<unknown>
  readonly close: () => Promise<void>
}
interface Worker {
  readonly run: () => Promise<void>
  readonly close: () => Promise<void>
}
interface Module {
  readonly Queue: new (options: {
    readonly redis: Redis
    readonly namespace: string
    readonly autoBatch?: { readonly size: number; readonly maxWaitMs: number }
  }) => Queue
  readonly Worker: new (options: {
    readonly queue: Queue
    readonly concurrency: number
    readonly handler: (job: { readonly data: Order }) => Promise<unknown>
  }) => Worker
}
const name: string = "groupmq"
const groupmq = (await import(name)) as Module

const client = ({ port }: Job) => new Redis({ host: "127.0.0.1", port, maxRetriesPerRequest: null })

const publisherOf = (job: Job, namespace: string): Queue =>
  new groupmq.Queue({ redis: client(job), namespace, autoBatch: { size: 256, maxWaitMs: 1 } })

const add = (queue: Queue, data: ReadonlyArray<Order>) =>
  Promise.all(data.map((one) => queue.add({ groupId: one.customer, data: one })))

const fill = async (job: Job, namespace: string, count: number) => {
  const queue = publisherOf(job, namespace)
  await inFlight(orders(count), 256, 4, (some) => add(queue, some))
  await queue.close()
}

const measured = async (job: Job, concurrency: number): Promise<Figures> => {
  await fill(job, warm, job.warmup)
  await fill(job, main, job.messages)
  const clock = await meter(job)
  const work = async (namespace: string, count: number) => {
    const counted = countdown(count)
    const worker = new groupmq.Worker({
      queue: new groupmq.Queue({ redis: client(job), namespace }),
      concurrency,
      handler: async () => counted.one()
    })
    void worker.run()
    await counted.all
    return worker
  }
  await (await work(warm, job.warmup)).close()
  await clock.begin()
  const worker = await work(main, job.messages)
  const figures = await clock.end(job.messages)
  await worker.close()
  return figures
}

export const program: Program = {
  consume: (job) => measured(job, job.task.concurrency),
  "publish-batches": (job) => {
    const queues = { warm: publisherOf(job, warm), main: publisherOf(job, main) }
    return publishing(job, (topic, data) =>
      inFlight(data, job.task.batch, job.task.inFlight, (some) => add(topic === warm ? queues.warm : queues.main, some))
    )
  }
}
