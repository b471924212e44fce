/** Raw programs where another process publishes: end to end, and how soon. */
import type { Figures, Job, Program, TaskOf } from "../job.ts"
import { type Order, group, keyOf, main, nanos, order, orders, warm } from "../message.ts"
import { meter } from "../meter.ts"
import { pace, partner, publisher } from "../partner.ts"
import { times } from "../times.ts"
import { type Client, connect, inFlight, join, read } from "./raw.ts"

const add = `for i = 1, #ARGV do redis.call("XADD", KEYS[1], "*", "data", ARGV[i]) end`

/** One script a batch, two under way: the fastest of those that were tried. */
const publish = async (job: Job): Promise<Figures> => {
  const client = await connect(job)
  const sha = String(await client.call("SCRIPT", ["LOAD", add]))
  const send = (topic: string, data: ReadonlyArray<Order>) => () =>
    inFlight(data, 256, 2, (some) =>
      client.call("EVALSHA", [sha, "1", keyOf(topic), ...some.map((one) => JSON.stringify(one))])
    )
  // made before the time begins
  return publisher(job, [send(warm, orders(job.warmup)), send(main, orders(job.messages))])
}

/** Blocking reads on one connection, each asked for before the last one's entries are handled; acks on another. */
const follow = async (reads: Client, acks: Client, key: string, count: number) => {
  let handled = 0
  let next = read(reads, key, group, 100)
  let acked: Promise<unknown> = Promise.resolve()
  while (handled < count) {
    const rows = await next
    next = read(reads, key, group, 100)
    for (const [, fields] of rows) JSON.parse(String(fields[1]))
    handled += rows.length
    if (rows.length > 0) acked = acks.call("XACK", [key, group, ...rows.map(([id]) => id)])
  }
  return { rest: Promise.all([next, acked]) }
}

const endToEnd = async (job: Job): Promise<Figures> => {
  if (job.role === "publisher") return publish(job)
  const other = partner(job)
  const clock = await meter(job)
  const [reads, acks] = [await connect(job), await connect(job)]
  await join(acks, keyOf(warm))
  await join(acks, keyOf(main))
  await other.next()
  const before = await follow(reads, acks, keyOf(warm), job.warmup)
  await before.rest
  await clock.begin()
  await other.next()
  const { rest } = await follow(reads, acks, keyOf(main), job.messages)
  const figures = await clock.end(job.messages)
  await rest
  const theirs = await other.answer
  return { ...figures, node: (figures.node ?? 0) + (theirs.node ?? 0) }
}

/** A blocking read of its own, as soon as the last one's entries are handled. */
const latency = async (job: Job<TaskOf<"latency">>): Promise<Figures> => {
  const total = job.warmup + job.messages
  if (job.role === "publisher") {
    const client = await connect(job)
    return publisher(job, [
      () => Promise.resolve(),
      () =>
        pace(job.task.perSecond, total, (i) =>
          client.call("XADD", [keyOf(main), "*", "data", JSON.stringify(order(i, nanos()))])
        )
    ])
  }
  const other = partner(job)
  const [reads, acks] = [await connect(job), await connect(job)]
  await join(acks, keyOf(main))
  await other.next()
  await other.next()
  const took = times(job)
  for (let handled = 0; handled < total;) {
    const rows = await read(reads, keyOf(main), group, 1000)
    for (const [, fields] of rows) took.handled(JSON.parse(String(fields[1])))
    handled += rows.length
    if (rows.length > 0) void acks.call("XACK", [keyOf(main), group, ...rows.map(([id]) => id)])
  }
  await other.answer
  return took.figures()
}

export const program: Program = { "end-to-end": endToEnd, latency }
