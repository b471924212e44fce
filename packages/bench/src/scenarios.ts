/**
 * The rows: which measurements a scenario has, and what is asked of them.
 */
import type { Contestant, Figure, Task } from "./job.ts"
import { type Measurement, measurement } from "./measurements.ts"

/** One thing that is asked for: a figure as a multiple of another's, or as it is. */
export interface Target {
  readonly what: string
  readonly figure: Figure
  readonly of: Measurement
  /** None: the figure itself is what the bound is about. */
  readonly over?: Measurement
  /** A rate is to be at least so much, anything else at most. */
  readonly bound: number
  readonly atLeast: boolean
  readonly unit?: string
}

export interface Scenario {
  readonly name: string
  readonly title: string
  readonly measurements: ReadonlyArray<Measurement>
  readonly targets: ReadonlyArray<Target>
}

const atLeast = (what: string, of: Measurement, bound: number, over: Measurement): Target => ({
  what,
  figure: "rate",
  of,
  over,
  bound,
  atLeast: true
})

const consume = (concurrency: number, handler: "noop" | "hop" = "noop"): Task => ({
  kind: "consume",
  concurrency,
  handler
})

const clutch = (task: Task, messages = 300_000) => measurement("clutch", task, messages)
const bullmq = (task: Task, messages = 30_000) => measurement("bullmq", task, messages)
const slow = (contestant: Contestant, task: Task, messages: number) =>
  measurement(contestant, task, messages, { slow: true })

const clutch32 = clutch(consume(32))
const rawLoop = measurement("ioredis", consume(1), 300_000)
const rawIovalkey = measurement("iovalkey", consume(1), 300_000)
const floorLoop = slow("socket", consume(1), 300_000)

const consuming = (concurrency: 32 | 256): Scenario => {
  const own = concurrency === 32 ? clutch32 : clutch(consume(concurrency))
  const bull = bullmq(consume(concurrency))
  const iovalkey = measurement("clutch-iovalkey", consume(concurrency), 300_000)
  return {
    name: `consume-${concurrency}`,
    title: `consume, no-op handler, concurrency ${concurrency}`,
    measurements: [own, iovalkey, bull, rawLoop, rawIovalkey, floorLoop],
    targets: [
      atLeast("Clutch on ioredis / BullMQ", own, 12, bull),
      atLeast("Clutch on ioredis / raw ioredis loop", own, 0.8, rawLoop),
      atLeast("Clutch on iovalkey / BullMQ", iovalkey, 15, bull),
      atLeast("Clutch on iovalkey / raw iovalkey loop", iovalkey, 0.8, rawIovalkey)
    ]
  }
}

const consumeOne: Scenario = (() => {
  const own = clutch(consume(1), 200_000)
  const bull = bullmq(consume(1), 8000)
  return {
    name: "consume-1",
    title: "consume, no-op handler, concurrency 1 (serial)",
    measurements: [own, bull, rawLoop],
    targets: [atLeast("Clutch / BullMQ", own, 10, bull)]
  }
})()

const consumeHop: Scenario = (() => {
  const own = clutch(consume(32, "hop"), 200_000)
  const bull = bullmq(consume(32, "hop"))
  return {
    name: "consume-hop",
    title: "consume, handler with one async hop, concurrency 32",
    measurements: [own, bull],
    targets: [atLeast("Clutch / BullMQ", own, 10, bull)]
  }
})()

const publishBatches: Scenario = (() => {
  const task: Task = { kind: "publish-batches", batch: 256, inFlight: 4 }
  const own = clutch(task)
  const bull = bullmq(task)
  const pipeline = measurement("ioredis", task, 200_000)
  const floor = measurement("socket", task, 400_000)
  return {
    name: "publish-256",
    title: "publish in batches of 256, four under way",
    measurements: [own, bull, pipeline, slow("iovalkey", task, 200_000), floor],
    targets: [
      atLeast("Clutch / BullMQ addBulk", own, 10, bull),
      atLeast("Clutch / ioredis pipeline of XADD", own, 2, pipeline),
      atLeast("Clutch / socket floor", own, 0.6, floor)
    ]
  }
})()

const publishSingle: Scenario = (() => {
  const task: Task = { kind: "publish-single", fibers: 100 }
  const own = clutch(task, 150_000)
  const bull = bullmq(task, 30_000)
  return {
    name: "publish-1",
    title: "publish one at a time, from 100 fibers",
    measurements: [own, bull, slow("ioredis", task, 100_000)],
    targets: [atLeast("Clutch / BullMQ add from 100 promises", own, 3, bull)]
  }
})()

export const scenarios: ReadonlyArray<Scenario> = [
  consumeOne,
  consuming(32),
  consuming(256),
  consumeHop,
  publishBatches,
  publishSingle
]
