/**
 * The floor: commands written and replies counted by hand on a socket. No client can be cheaper.
 */
import { type Program } from "../job.ts"
import { group, keyOf, main, warm } from "../message.ts"
import { meter } from "../meter.ts"
import { asker, command, open, writer } from "../wire.ts"
import { inFlight, publishing, readSize } from "./raw.ts"

/** Reads a backlog with replies parsed as they come, entry by entry. */
const drain = async (port: number, key: string, count: number): Promise<void> => {
  const admin = await asker(port)
  await admin.ask("XGROUP", "CREATE", key, group, "0", "MKSTREAM")
  admin.close()
  const socket = await open(port)
  const read = command("XREADGROUP", "GROUP", group, "raw", "COUNT", String(readSize), "STREAMS", key, ">")
  const { promise, reject, resolve } = Promise.withResolvers<void>()
  let buffer: Buffer = Buffer.alloc(0)
  let left = 0
  let handled = 0
  let acks = 0
  let ids: Array<string> = []

  /** Where the line at `at` ends; -1 where it has not come whole. */
  const lineEnd = (at: number) => {
    const end = buffer.indexOf(13, at)
    return end + 1 < buffer.length ? end : -1
  }
  const int = (from: number, to: number) => {
    let value = 0
    for (let i = from; i < to; i++) value = value * 10 + (buffer[i] ?? 0) - 48
    return value
  }
  /** A bulk string's place, or undefined where it has not come whole. */
  const bulk = (at: number): readonly [start: number, end: number] | undefined => {
    const end = lineEnd(at)
    if (end < 0) return undefined
    const start = end + 2
    const stop = start + int(at + 1, end)
    return buffer.length < stop + 2 ? undefined : [start, stop]
  }
  /** Parses one thing at `at`; where it ends, or -1. */
  const step = (at: number): number => {
    const kind = buffer[at]
    if (kind === undefined) return -1
    if (kind === 45) throw new Error(buffer.toString("latin1", at, at + 100))
    if (left === 0) {
      // an ack's number, or the head of a reply: one stream, its key, and how many entries
      const end = lineEnd(at)
      if (end < 0) return -1
      if (kind === 58) {
        acks -= 1
        return end + 2
      }
      if (buffer.toString("latin1", at, end) !== "*1") throw new Error("an empty reply before all was read")
      const name = bulk(end + 6)
      if (name === undefined) return -1
      const last = lineEnd(name[1] + 2)
      if (last < 0) return -1
      left = int(name[1] + 3, last)
      ids = []
      if (handled + left < count) socket.write(read)
      return last + 2
    }
    // "*2", the id, "*2", the name, the data
    const id = bulk(at + 4)
    const name = id === undefined ? undefined : bulk(id[1] + 6)
    const data = name === undefined ? undefined : bulk(name[1] + 2)
    if (id === undefined || data === undefined) return -1
    JSON.parse(buffer.toString("utf8", data[0], data[1]))
    ids.push(buffer.toString("latin1", id[0], id[1]))
    left -= 1
    handled += 1
    if (left === 0) {
      acks += 1
      socket.write(command("XACK", key, group, ...ids))
    }
    return data[1] + 2
  }
  socket.on("data", (chunk: Buffer) => {
    buffer = buffer.length === 0 ? chunk : Buffer.concat([buffer, chunk])
    let at = 0
    try {
      for (let next = step(at); next >= 0; next = step(at)) at = next
    } catch (error) {
      return reject(error)
    }
    buffer = buffer.subarray(at)
    if (handled >= count && acks === 0) resolve()
  })
  socket.on("error", reject)
  socket.write(read)
  await promise
  socket.destroy()
}

export const program: Program = {
  consume: async (job) => {
    const clock = await meter(job)
    await drain(job.port, keyOf(warm), job.warmup)
    await clock.begin()
    await drain(job.port, keyOf(main), job.messages)
    return clock.end(job.messages)
  },
  "publish-batches": async (job) => {
    const out = await writer(job.port)
    const { batch, inFlight: width } = job.task
    const figures = await publishing(job, (topic, data) => {
      const head = `*5\r\n$4\r\nXADD\r\n$${keyOf(topic).length}\r\n${keyOf(topic)}\r\n$1\r\n*\r\n$4\r\ndata\r\n$`
      return inFlight(data, batch, width, (some) => {
        let text = ""
        for (const one of some) {
          const json = JSON.stringify(one)
          text += `${head}${Buffer.byteLength(json)}\r\n${json}\r\n`
        }
        return out.add(text, some.length)
      })
    })
    out.close()
    return figures
  }
}
