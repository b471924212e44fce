/**
 * The rows: which measurements a scenario has, and what is asked of them.
 */
import type { Contestant, Figure, Task, TaskOf } from "./job.ts"
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

const consume = (concurrency: number, handler: "noop" | "hop" = "noop"): TaskOf<"consume"> => ({
  kind: "consume",
  concurrency,
  handler
})

// about two seconds for each: in the first of them much of the code is still being compiled
const clutch = (task: Task, messages = 500_000) => measurement("clutch", task, messages)
const bullmq = (task: Task, messages = 40_000) => measurement("bullmq", task, messages)
const slow = (contestant: Contestant, task: Task, messages: number) =>
  measurement(contestant, task, messages, { slow: true })

const clutch32 = clutch(consume(32))
const clutch256 = clutch(consume(256))
const rawLoop = measurement("ioredis", consume(1), 500_000)
const rawIovalkey = measurement("iovalkey", consume(1), 500_000)
const floorLoop = slow("socket", consume(1), 500_000)

const consuming = (concurrency: 32 | 256): Scenario => {
  const own = concurrency === 32 ? clutch32 : clutch256
  const bull = bullmq(consume(concurrency))
  const iovalkey = measurement("clutch-iovalkey", consume(concurrency), 500_000)
  return {
    name: `consume-${concurrency}`,
    title: `consume, no-op handler, concurrency ${concurrency}`,
    measurements: [
      own,
      iovalkey,
      bull,
      slow("groupmq", consume(concurrency), 10_000),
      slow("persisted-queue", consume(concurrency), 10_000),
      rawLoop,
      rawIovalkey,
      floorLoop
    ],
    targets: [
      atLeast("Clutch on ioredis / BullMQ", own, 12, bull),
      atLeast("Clutch on ioredis / raw ioredis loop", own, 0.8, rawLoop),
      atLeast("Clutch on iovalkey / BullMQ", iovalkey, 15, bull),
      atLeast("Clutch on iovalkey / raw iovalkey loop", iovalkey, 0.8, rawIovalkey)
    ]
  }
}

const consumeOne: Scenario = (() => {
  const own = clutch(consume(1))
  const bull = bullmq(consume(1), 8000)
  return {
    name: "consume-1",
    title: "consume, no-op handler, concurrency 1 (serial)",
    measurements: [own, bull, slow("groupmq", consume(1), 2000), slow("persisted-queue", consume(1), 3000), rawLoop],
    targets: [atLeast("Clutch / BullMQ", own, 10, bull)]
  }
})()

const consumeHop: Scenario = (() => {
  const own = clutch(consume(32, "hop"))
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
  const own = clutch(task, 1_000_000)
  const bull = bullmq(task, 80_000)
  const pipeline = measurement("ioredis", task, 500_000)
  const floor = measurement("socket", task, 1_500_000)
  return {
    name: "publish-256",
    title: "publish in batches of 256, four under way",
    measurements: [
      own,
      bull,
      slow("groupmq", task, 20_000),
      slow("persisted-queue", task, 20_000),
      pipeline,
      slow("iovalkey", task, 500_000),
      floor
    ],
    targets: [
      atLeast("Clutch / BullMQ addBulk", own, 10, bull),
      atLeast("Clutch / ioredis pipeline of XADD", own, 2, pipeline),
      atLeast("Clutch / socket floor", own, 0.6, floor)
    ]
  }
})()

const publishSingle: Scenario = (() => {
  const task: Task = { kind: "publish-single", fibers: 100 }
  const own = clutch(task, 300_000)
  const bull = bullmq(task, 60_000)
  return {
    name: "publish-1",
    title: "publish one at a time, from 100 fibers",
    measurements: [own, bull, slow("persisted-queue", task, 20_000), slow("ioredis", task, 300_000)],
    targets: [atLeast("Clutch / BullMQ add from 100 promises", own, 3, bull)]
  }
})()

const endToEnd: Scenario = (() => {
  const task: Task = { kind: "end-to-end", concurrency: 32 }
  const own = clutch(task)
  const raw = measurement("ioredis", task, 500_000)
  return {
    name: "end-to-end",
    title: "end to end, one process publishes in batches of 256, another handles",
    measurements: [own, raw],
    targets: [atLeast("Clutch / raw ioredis program", own, 0.8, raw)]
  }
})()

const failOnce: Scenario = (() => {
  const task: Task = { kind: "fail-once", concurrency: 32 }
  const own = clutch(task, 100_000)
  const bull = bullmq(task, 10_000)
  const raw = measurement("ioredis", task, 100_000)
  return {
    name: "fail-once",
    title: "every message fails once",
    measurements: [own, bull, raw],
    targets: [
      atLeast("Clutch / BullMQ", own, 15, bull),
      atLeast("Clutch / raw ioredis program of the same moves", own, 0.8, raw)
    ]
  }
})()

const dead: Scenario = (() => {
  const task: Task = { kind: "dead", concurrency: 32, share: 0.01, attempts: 3 }
  const own = clutch(task)
  const bull = bullmq(task)
  return {
    name: "dead",
    title: "1 % dead after three attempts",
    measurements: [own, bull, clutch32],
    targets: [
      atLeast("Clutch / BullMQ", own, 10, bull),
      atLeast("Clutch / Clutch without failures", own, 0.9, clutch32)
    ]
  }
})()

/** A figure is to be at most so much, or so many times another's. */
const atMost = (
  what: string,
  figure: Figure,
  of: Measurement,
  bound: number,
  over?: Measurement,
  unit?: string
): Target => ({
  what,
  figure,
  of,
  bound,
  atLeast: false,
  ...(over === undefined ? {} : { over }),
  ...(unit === undefined ? {} : { unit })
})

const latency: Scenario = (() => {
  const task = (ownConnection: boolean): Task => ({ kind: "latency", perSecond: 500, ownConnection })
  const shared = clutch(task(false), 3000)
  const own = clutch(task(true), 3000)
  const raw = measurement("ioredis", task(true), 3000)
  const bull = slow("bullmq", task(true), 3000)
  return {
    name: "latency",
    title: "publish to handled at 500 messages a second, two processes",
    measurements: [shared, own, raw, bull],
    targets: [
      atMost("Clutch, shared connections / raw, p50", "p50", shared, 2.5, raw),
      atMost("Clutch, shared connections / raw, p99", "p99", shared, 4, raw),
      atMost("Clutch, ownConnection / raw, p50", "p50", own, 1.3, raw),
      atMost("Clutch, ownConnection / raw, p99", "p99", own, 2, raw)
    ]
  }
})()

const lateness: Scenario = (() => {
  const own = clutch({ kind: "lateness", perSecond: 200, delay: 100 }, 2000)
  return {
    name: "lateness",
    title: "how late a due retry is, 200 failures a second",
    measurements: [own],
    targets: [atMost("lateness of a due retry, p99", "p99", own, 25, undefined, "ms")]
  }
})()

const idle: Scenario = (() => {
  const own = clutch({ kind: "idle", subscriptions: 100 }, 30_000)
  return {
    name: "idle",
    title: "one process, 100 idle subscriptions on 100 topics",
    measurements: [own],
    targets: [
      atMost("connections", "connections", own, 5),
      atMost("commands a second, as the server counts them", "commands", own, 20),
      atMost("CPU", "cpu", own, 1, undefined, "%")
    ]
  }
})()

const traced: Scenario = (() => {
  const own = clutch({ ...consume(32), traced: true })
  return {
    name: "traced",
    title: "tracer set, a span a message, concurrency 32",
    measurements: [own, clutch32],
    targets: [atLeast("Clutch traced / Clutch untraced", own, 0.45, clutch32)]
  }
})()

const ordered: Scenario = (() => {
  const own = clutch({ kind: "consume-ordered", concurrency: 256, partitions: 16, keys: 10_000 })
  return {
    name: "ordered",
    title: "ordered by key, 16 partitions, 10,000 keys, concurrency 256",
    measurements: [own, clutch256],
    targets: [atLeast("Clutch ordered / Clutch unordered", own, 0.7, clutch256)]
  }
})()

const memory: Scenario = (() => {
  const own = slow("clutch", { kind: "memory" }, 1_000_000)
  const raw = slow("ioredis", { kind: "memory" }, 1_000_000)
  return {
    name: "memory",
    title: "resident memory after 1 million messages",
    measurements: [own, raw],
    targets: [
      atMost("Clutch / raw loop with the same modules of Effect", "memory", own, 1.3, raw),
      atMost("growth from 100 thousand messages on", "growth", own, 5, undefined, "%")
    ]
  }
})()

export const scenarios: ReadonlyArray<Scenario> = [
  consumeOne,
  consuming(32),
  consuming(256),
  consumeHop,
  publishBatches,
  publishSingle,
  endToEnd,
  failOnce,
  dead,
  latency,
  lateness,
  idle,
  traced,
  ordered,
  memory
]
