/**
 * BullMQ, set up as its documentation advises for throughput: one worker whose `concurrency` is the row's, finished jobs
 * removed at once, jobs added with `addBulk` where there are many, `maxRetriesPerRequest: null` for workers.
 */
import { type Job as BullJob, Queue, Worker } from "bullmq"
import { type Figures, type Job, type Program, type TaskOf } from "../job.ts"
import { type Order, main, nanos, order, orders, warm } from "../message.ts"
import { countdown, meter } from "../meter.ts"
import { pace, partner, publisher } from "../partner.ts"
import { times } from "../times.ts"
import { inFlight, publishing } from "./raw.ts"

const connection = (job: Job) => ({ host: "127.0.0.1", port: job.port, maxRetriesPerRequest: null })

/** What is done with a finished job: nothing of it is kept. */
const remove = { removeOnComplete: true, removeOnFail: true }

const queueOf = (job: Job, name: string, attempts = 1): Queue<Order> =>
  new Queue<Order>(name, { connection: connection(job), defaultJobOptions: { ...remove, attempts } })

const add = (queue: Queue<Order>, data: ReadonlyArray<Order>) =>
  queue.addBulk(data.map((one) => ({ name: "order", data: one })))

const fill = async (job: Job, name: string, count: number, attempts: number) => {
  const queue = queueOf(job, name, attempts)
  await inFlight(orders(count), 256, 4, (some) => add(queue, some))
  await queue.close()
}

/** Works on a backlog until what the handler is counted for has come. */
const work = async (
  job: Job,
  name: string,
  concurrency: number,
  handler: (job: BullJob<Order>) => Promise<unknown>,
  until: Promise<unknown>
) => {
  const worker = new Worker<Order>(name, handler, {
    connection: connection(job),
    concurrency,
    removeOnComplete: { count: 0 },
    removeOnFail: { count: 0 }
  })
  worker.on("error", (error) => {
    throw error
  })
  await until
  return worker
}

const measured = async (
  job: Job,
  concurrency: number,
  attempts: number,
  handler: (one: () => void) => (job: BullJob<Order>) => Promise<unknown>
): Promise<Figures> => {
  await fill(job, warm, job.warmup, attempts)
  await fill(job, main, job.messages, attempts)
  const clock = await meter(job)
  const before = countdown(job.warmup)
  await (await work(job, warm, concurrency, handler(before.one), before.all)).close()
  const counted = countdown(job.messages)
  await clock.begin()
  const worker = await work(job, main, concurrency, handler(counted.one), counted.all)
  const figures = await clock.end(job.messages)
  await worker.close()
  return figures
}

const latency = async (job: Job<TaskOf<"latency">>): Promise<Figures> => {
  const total = job.warmup + job.messages
  if (job.role === "publisher") {
    const queue = queueOf(job, main)
    const figures = await publisher(job, [
      () => Promise.resolve(),
      () => pace(job.task.perSecond, total, (i) => queue.add("order", order(i, nanos())))
    ])
    await queue.close()
    return figures
  }
  const other = partner(job)
  await other.next()
  const took = times(job)
  const counted = countdown(total)
  const working = work(
    job,
    main,
    32,
    async ({ data }) => {
      took.handled(data)
      counted.one()
    },
    counted.all
  )
  await other.next()
  const worker = await working
  await other.answer
  await worker.close()
  return took.figures()
}

export const program: Program = {
  latency,
  consume: (job) => {
    const { concurrency, handler } = job.task
    return measured(job, concurrency, 1, (one) =>
      handler === "noop"
        ? async () => one()
        : async () => {
            await Promise.resolve()
            one()
          }
    )
  },
  "fail-once": (job) =>
    measured(job, job.task.concurrency, 2, (one) => async ({ attemptsMade }) => {
      if (attemptsMade === 0) throw new Error("the first try fails")
      one()
    }),
  dead: (job) => {
    const { attempts, concurrency, share } = job.task
    const every = Math.round(1 / share)
    return measured(job, concurrency, attempts, (one) => async ({ attemptsMade, data }) => {
      if (data.number % every !== 0) return one()
      if (attemptsMade === attempts - 1) one()
      throw new Error("this one always fails")
    })
  },
  "publish-batches": async (job) => {
    const queues = new Map([warm, main].map((name) => [name, queueOf(job, name)] as const))
    const figures = await publishing(job, (topic, data) =>
      inFlight(data, job.task.batch, job.task.inFlight, (some) => add(queues.get(topic) ?? queueOf(job, topic), some))
    )
    for (const queue of queues.values()) await queue.close()
    return figures
  },
  "publish-single": async (job) => {
    const queues = new Map([warm, main].map((name) => [name, queueOf(job, name)] as const))
    const figures = await publishing(job, (topic, data) =>
      inFlight(
        data,
        1,
        job.task.fibers,
        ([one]) => queues.get(topic)?.add("order", one ?? data[0]!) ?? Promise.resolve()
      )
    )
    for (const queue of queues.values()) await queue.close()
    return figures
  }
}
