/**
 * What a person would write against a client of ioredis' shape: no Effect, no schema, no retries, no metrics, no fencing.
 */
import type { Figures, Job, Program } from "../job.ts"
import { type Order, group, keyOf, main, orders, warm } from "../message.ts"
import { meter } from "../meter.ts"

/** The part of a client that is used here. */
export interface Client {
  readonly call: (command: string, args: Array<string | Buffer>) => Promise<unknown>
  readonly callBuffer: (command: string, args: Array<string | Buffer>) => Promise<unknown>
  readonly pipeline: () => Pipeline
  readonly disconnect: () => void
}
interface Pipeline {
  readonly call: (command: string, args: Array<string>) => unknown
  readonly exec: () => Promise<ReadonlyArray<readonly [Error | null, unknown]> | null>
}

export const connect = async ({ contestant, port }: Pick<Job, "contestant" | "port">): Promise<Client> => {
  if (contestant === "iovalkey") {
    const { Redis } = await import("iovalkey")
    return new Redis({ host: "127.0.0.1", port })
  }
  const { Redis } = await import("ioredis")
  // so that replies have the shape of the older protocol, whoever asks; it is as fast
  return new Redis({ host: "127.0.0.1", port, protocol: 2 })
}

/** The shape of what XREADGROUP of one stream answers with. */
export type Rows = ReadonlyArray<readonly [id: Buffer, fields: ReadonlyArray<Buffer>]>
const rowsOf = (reply: unknown): Rows => (reply === null ? [] : (reply as readonly [readonly [Buffer, Rows]])[0][1])

/** How many entries a read asks for: the fastest of those that were tried. */
export const readSize = 1024

export const read = async (client: Client, key: string, name: string, block?: number): Promise<Rows> =>
  rowsOf(
    await client.callBuffer("XREADGROUP", [
      "GROUP",
      name,
      "raw",
      "COUNT",
      String(readSize),
      ...(block === undefined ? [] : ["BLOCK", String(block)]),
      "STREAMS",
      key,
      ">"
    ])
  )

export const join = (client: Client, key: string, name: string = group): Promise<unknown> =>
  client.call("XGROUP", ["CREATE", key, name, "0", "MKSTREAM"])

/** Handles a backlog: the next read is under way while this one is handled, and acks are batched. */
export const drain = async (client: Client, key: string, count: number, handle: (order: Order) => void) => {
  let handled = 0
  let next = read(client, key, group)
  let acked: Promise<unknown> = Promise.resolve()
  while (handled < count) {
    const rows = await next
    next = read(client, key, group)
    const ids: Array<Buffer> = []
    for (const [id, fields] of rows) {
      const data = fields[1]
      if (data === undefined) throw new Error("an entry has no data")
      handle(JSON.parse(data.toString()) as Order) // what was stored by the harness
      ids.push(id)
    }
    handled += rows.length
    if (ids.length > 0) acked = client.call("XACK", [key, group, ...ids])
  }
  await Promise.all([next, acked])
}

const consume = async (job: Job): Promise<Figures> => {
  const clock = await meter(job)
  const client = await connect(job)
  let total = 0
  const handle = (order: Order) => {
    total += order.number
  }
  await join(client, keyOf(warm))
  await drain(client, keyOf(warm), job.warmup, handle)
  await clock.begin()
  await join(client, keyOf(main))
  await drain(client, keyOf(main), job.messages, handle)
  const figures = await clock.end(job.messages)
  client.disconnect()
  if (total === 0) throw new Error("nothing was handled")
  return figures
}

/** Runs batches, so many at once. */
export const inFlight = async <A>(
  all: ReadonlyArray<A>,
  size: number,
  width: number,
  send: (some: ReadonlyArray<A>) => Promise<unknown>
) => {
  let at = 0
  const lane = async () => {
    while (at < all.length) {
      const some = all.slice(at, at + size)
      at += size
      await send(some)
    }
  }
  await Promise.all(Array.from({ length: width }, lane))
}

/** Times a publisher: a warm-up to one topic, then the measured messages to another. */
export const publishing = async (
  job: Job,
  publish: (topic: string, data: ReadonlyArray<Order>) => Promise<unknown>
): Promise<Figures> => {
  const clock = await meter(job)
  const data = orders(job.messages)
  await publish(warm, data.slice(0, job.warmup))
  await clock.begin()
  await publish(main, data)
  return clock.end(job.messages)
}

export const program: Program = {
  consume,
  "publish-batches": async (job) => {
    const client = await connect(job)
    const { batch, inFlight: width } = job.task
    const figures = await publishing(job, (topic, data) =>
      inFlight(data, batch, width, async (some) => {
        const pipeline = client.pipeline()
        for (const one of some) pipeline.call("XADD", [keyOf(topic), "*", "data", JSON.stringify(one)])
        const replies = await pipeline.exec()
        for (const [error] of replies ?? []) if (error !== null) throw error
      })
    )
    client.disconnect()
    return figures
  },
  "publish-single": async (job) => {
    const client = await connect(job)
    const figures = await publishing(job, (topic, data) =>
      inFlight(data, 1, job.task.fibers, ([one]) =>
        client.call("XADD", [keyOf(topic), "*", "data", JSON.stringify(one)])
      )
    )
    client.disconnect()
    return figures
  }
}
