/**
 * A TCP proxy in front of a Redis, for the faults of a network: cut connections, refused ones, slow or lost replies.
 */
import { once } from "node:events"
import { connect, createServer, type Socket } from "node:net"
import { setTimeout as sleep } from "node:timers/promises"
import { Splitter, words } from "./resp.ts"

export interface Proxy {
  /** What a client under test connects to: the URL of the server behind, with the proxy's host and port. */
  readonly url: string
  readonly port: number
  /** Connections accepted since the start, refused ones not counted. */
  readonly accepted: () => number
  /** Connections open now. */
  readonly open: () => number
  /** Commands that reached the server, by upper-case name, since the start. */
  readonly commands: () => ReadonlyMap<string, number>
  /** Destroys every connection now. Clients may connect again at once. */
  readonly cutAll: () => void
  /**
   * Closes one direction of every connection now. `"replies"`: clients read the end of the stream, and what they write
   * still arrives. `"requests"`: the server reads the end of the stream.
   */
  readonly halfCloseAll: (direction: "replies" | "requests") => void
  /** While true, a new connection is reset as soon as it is made. Those that are open stay. */
  readonly refuse: (refused: boolean) => void
  /** Each piece of a reply is held back for this long, in milliseconds, in order. 0 ends it. */
  readonly delayReplies: (milliseconds: number) => void
  /**
   * Loses one reply: the next request that matches reaches the server, and when the server has answered it, the client's
   * connection is destroyed instead of delivering that reply. Replies to earlier requests are delivered.
   *
   * `match` gets the command with its arguments, separated by spaces, each byte as one character (latin1). A transaction
   * or a script counts by its own name (`EXEC …`, `EVALSHA …`); subscribing has no reply to cut. Resolves when the cut has happened, with the command.
   */
  readonly cutReply: (match: (command: string) => boolean) => Promise<string>
  /** Destroys everything and stops listening. */
  readonly close: () => Promise<void>
}

interface Cut {
  readonly match: (command: string) => boolean
  readonly done: (command: string) => void
}

/** A push of RESP3 comes between replies and answers no request. */
const isPush = (reply: Buffer): boolean => reply[0] === 0x3e

/** These are answered by one push a channel, not by a reply, so they cannot be paired with one. */
const hasNoReply = (name: string): boolean => /^[ps]?(un)?subscribe$/i.test(name)

export const startProxy = async (redisUrl: string): Promise<Proxy> => {
  const upstream = new URL(redisUrl)
  const sockets = new Set<Socket>()
  const pairs = new Map<Socket, Socket>()
  const counts = new Map<string, number>()
  const cuts = new Set<Cut>()
  let accepted = 0
  let open = 0
  let refused = false
  let delay = 0

  const serve = (client: Socket): void => {
    accepted += 1
    open += 1
    const server = connect(Number(upstream.port || 6379), upstream.hostname)
    sockets.add(client).add(server)
    pairs.set(client, server)
    client.setNoDelay()
    server.setNoDelay()

    const requests = new Splitter()
    const replies = new Splitter()
    // one entry for each request that has no reply yet: the cut that waits for it, if any
    const waiting: Array<{ readonly command: string; readonly cut: Cut | undefined }> = []
    let delivering = Promise.resolve()
    // true while a piece is held back: later ones queue behind it
    let slow = false

    const close = () => {
      if (!sockets.delete(client)) return
      sockets.delete(server)
      pairs.delete(client)
      open -= 1
      client.destroy()
      server.destroy()
    }
    for (const socket of [client, server]) socket.on("error", close).on("close", close)

    client.on("data", (chunk) => {
      for (const request of requests.push(chunk)) {
        const [name = "", ...args] = words(request)
        const command = [name, ...args].join(" ")
        counts.set(name.toUpperCase(), (counts.get(name.toUpperCase()) ?? 0) + 1)
        if (!hasNoReply(name)) {
          const cut = [...cuts].find((one) => one.match(command))
          if (cut !== undefined) cuts.delete(cut)
          waiting.push({ command, cut })
        }
        if (server.writable) server.write(request)
      }
    })

    const deliver = (bytes: Buffer): void => {
      if (delay === 0 && !slow) {
        if (client.writable) client.write(bytes)
        return
      }
      slow = true
      const milliseconds = delay
      const mine = (delivering = delivering
        .then(() => (milliseconds > 0 ? sleep(milliseconds) : undefined))
        .then(() => {
          if (client.writable) client.write(bytes)
          // what comes after the last held piece may overtake nothing, so it goes straight through again
          if (mine === delivering) slow = false
        }))
    }
    server.on("data", (chunk) => {
      for (const reply of replies.push(chunk)) {
        const answered = isPush(reply) ? undefined : waiting.shift()
        if (answered?.cut === undefined) {
          deliver(reply)
          continue
        }
        const { command, cut } = answered
        // earlier replies may still be held back, and they are not the ones to lose
        void delivering.then(() => {
          client.end()
          close()
          cut.done(command)
        })
        return
      }
    })
  }

  const listener = createServer((client) => {
    if (!refused) return serve(client)
    client.on("error", () => {})
    client.resetAndDestroy()
  }).listen(0, "127.0.0.1")
  await once(listener, "listening")
  const address = listener.address()
  if (address === null || typeof address === "string") throw new Error("a TCP server has no port")

  const cutAll = () => {
    // a copy: closing one takes its partner out of the set
    for (const socket of Array.from(sockets)) socket.destroy()
  }
  const url = new URL(redisUrl)
  url.hostname = "127.0.0.1"
  url.port = `${address.port}`

  return {
    url: url.toString(),
    port: address.port,
    accepted: () => accepted,
    open: () => open,
    commands: () => counts,
    cutAll,
    halfCloseAll: (direction) => {
      for (const [client, server] of pairs) (direction === "replies" ? client : server).end()
    },
    refuse: (value) => {
      refused = value
    },
    delayReplies: (milliseconds) => {
      delay = milliseconds
    },
    cutReply: (match) => new Promise((done) => cuts.add({ match, done })),
    close: async () => {
      const closed = once(listener, "close")
      listener.close()
      cutAll()
      await closed
    }
  }
}
