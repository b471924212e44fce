/**
 * RESP by hand on a socket: the least that a publisher or a consumer can do, and what the harness itself asks with.
 */
import { once } from "node:events"
import { connect, type Socket } from "node:net"

export const command = (...args: ReadonlyArray<string>): string => {
  let text = `*${args.length}\r\n`
  for (const arg of args) text += `$${Buffer.byteLength(arg)}\r\n${arg}\r\n`
  return text
}

export const open = async (port: number): Promise<Socket> => {
  const socket = connect({ port, host: "127.0.0.1", noDelay: true })
  await once(socket, "connect")
  return socket
}

export interface Asker {
  /** The reply of a command that answers with a text, a number or a status. */
  readonly ask: (...args: ReadonlyArray<string>) => Promise<string>
  readonly close: () => void
}

/** One question at a time. */
export const asker = async (port: number): Promise<Asker> => {
  const socket = await open(port)
  let received = Buffer.alloc(0)
  let waiting: { readonly resolve: (reply: string) => void; readonly reject: (error: Error) => void } | undefined
  const fail = (error: Error) => {
    waiting?.reject(error)
    waiting = undefined
  }
  socket.on("error", fail)
  socket.on("close", () => fail(new Error("the server closed the connection")))
  socket.on("data", (chunk: Buffer) => {
    received = Buffer.concat([received, chunk])
    const end = received.indexOf("\r\n")
    if (end < 0) return
    const line = received.toString("utf8", 1, end)
    let reply = line
    let length = end + 2
    if (received[0] === 36 && line !== "-1") {
      length += Number(line) + 2
      if (received.length < length) return
      reply = received.toString("utf8", end + 2, length - 2)
    }
    const asked = waiting
    waiting = undefined
    const refused = received[0] === 45
    received = received.subarray(length)
    if (refused) asked?.reject(new Error(reply))
    else asked?.resolve(reply)
  })
  return {
    ask: (...args) =>
      new Promise((resolve, reject) => {
        waiting = { resolve, reject }
        socket.write(command(...args))
      }),
    close: () => socket.destroy()
  }
}

export interface Writer {
  /** Writes commands that each answer with an id, and resolves when all have. */
  readonly add: (commands: string, count: number) => Promise<void>
  readonly close: () => void
}

/** Pipelines XADDs. An id holds no dollar sign, so counting these counts replies. */
export const writer = async (port: number): Promise<Writer> => {
  const socket = await open(port)
  const waiting: Array<{ left: number; readonly resolve: () => void; readonly reject: (error: Error) => void }> = []
  socket.on("data", (chunk: Buffer) => {
    if (chunk.includes("\r\n-")) return void socket.destroy(new Error(chunk.toString("latin1")))
    for (let at = chunk.indexOf(36); at >= 0; at = chunk.indexOf(36, at + 1)) {
      const [first] = waiting
      if (first === undefined) return
      first.left -= 1
      if (first.left > 0) continue
      waiting.shift()
      first.resolve()
    }
  })
  socket.on("error", (error) => waiting.splice(0).forEach((one) => one.reject(error)))
  return {
    add: (commands, count) =>
      new Promise((resolve, reject) => {
        waiting.push({ left: count, resolve, reject })
        socket.write(commands)
      }),
    close: () => socket.destroy()
  }
}

/** Stores a backlog, as fast as a socket takes it. */
export const fill = async (port: number, key: string, count: number, entry: (i: number) => string): Promise<void> => {
  const out = await writer(port)
  const step = 1000
  for (let at = 0; at < count; at += step) {
    const size = Math.min(step, count - at)
    let text = ""
    for (let i = at; i < at + size; i++) text += command("XADD", key, "*", "data", entry(i))
    await out.add(text, size)
  }
  out.close()
}
