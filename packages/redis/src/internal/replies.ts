/**
 * Lists among the replies of ioredis, decoded beside it: its own decoder takes longer for the entries of a read than all
 * else that is done with them here. The bytes of its socket come here first; a list is decoded and kept, and the client is
 * handed a ticket in its place, which whoever sent the command turns in for the list. All else goes on as it came.
 */
import { Refused, TransportError } from "@clutch/core/Errors"
import type { Redis } from "ioredis"
import { send } from "./commands.ts"
import type { Native } from "./connection.ts"
import { nameAt } from "./fieldNames.ts"

type Value = number | Buffer | null | Error | ReadonlyArray<Value>

/** A list of which some is still to come. */
interface Open {
  readonly items: Array<Value>
  readonly length: number
}

const none = Buffer.alloc(0)

const cr = 13
const minus = 45
const zero = 48
const kinds = { text: 36, list: 42, status: 43, error: 45, number: 58 }

/** Replies of RESP2, in whatever pieces they come. */
export class Decoder {
  private bytes: Buffer = none
  private at = 0
  /** Lists that are not whole, each an item of the one before it. */
  private readonly open: Array<Open> = []
  /** The beginning of what is not all there, and how many bytes it lacks at least. */
  private pieces: Array<Buffer> = []
  private lacking = 0
  private tickets = 0
  private readonly kept = new Map<number, ReadonlyArray<Value>>()
  private readonly pass: (bytes: Buffer) => void

  /** `pass` is given what is no list, and a ticket for each that is. */
  constructor(pass: (bytes: Buffer) => void) {
    this.pass = pass
  }

  /** The list that a ticket stands for; what is no ticket stands for itself. */
  claim(reply: unknown): unknown {
    if (!Array.isArray(reply)) return reply
    const ticket = Number(reply[0])
    const list = this.kept.get(ticket)
    if (list === undefined) throw new Error(`there is no list for ticket ${ticket}`)
    this.kept.delete(ticket)
    return list
  }

  write(chunk: Buffer): void {
    this.lacking -= chunk.length
    if (this.lacking > 0) {
      this.pieces.push(chunk)
      return
    }
    // several are those of a long text, which what comes behind it must not hold on to
    const end = this.pieces.length > 1 ? chunk.length + this.lacking : chunk.length
    this.decode(this.pieces.length === 0 ? chunk : Buffer.concat([...this.pieces, chunk.subarray(0, end)]))
    if (end < chunk.length) this.decode(chunk.subarray(end))
  }

  private decode(bytes: Buffer): void {
    this.bytes = bytes
    this.pieces = []
    this.at = 0
    while (this.at < bytes.length) {
      const from = this.at
      this.lacking = 1
      if (this.step(from)) continue
      this.pieces.push(bytes.subarray(from))
      break
    }
    if (this.pieces.length === 0) this.lacking = 0
    this.bytes = none
  }

  /** Decodes the next value, or the beginning of a list. False where it is not all there. */
  private step(from: number): boolean {
    const kind = this.bytes[this.at++]
    if (kind === kinds.text) return this.text(from)
    if (kind === kinds.status || kind === kinds.error) {
      const line = this.line()
      if (line === undefined) return false
      this.place(kind === kinds.error ? new Error(line.toString()) : line, from)
      return true
    }
    if (kind !== kinds.list && kind !== kinds.number) return this.refuse(from)
    const number = this.number()
    if (number === undefined) return false
    if (kind === kinds.number) this.place(number, from)
    else if (number <= 0) this.place(number < 0 ? null : [], from)
    else this.open.push({ items: [], length: number })
    return true
  }

  private text(from: number): boolean {
    const length = this.number()
    if (length === undefined) return false
    if (length < 0) {
      this.place(null, from)
      return true
    }
    const begin = this.at
    const end = begin + length
    this.lacking = end + 2 - this.bytes.length
    if (this.lacking > 0) return false
    this.at = end + 2
    this.place(nameAt(this.bytes, begin, length) ?? this.bytes.subarray(begin, end), from)
    return true
  }

  /** What is no RESP2 is for the client to complain of. */
  private refuse(from: number): boolean {
    this.open.length = 0
    this.pass(this.bytes.subarray(from))
    this.at = this.bytes.length
    return true
  }

  /** Puts a value where it belongs, and each list that is whole by it. */
  private place(value: Value, from: number): void {
    let whole = value
    for (let list = this.open.at(-1); list !== undefined; list = this.open.at(-1)) {
      list.items.push(whole)
      if (list.items.length < list.length) return
      this.open.pop()
      whole = list.items
    }
    if (!Array.isArray(whole)) return this.pass(this.bytes.subarray(from, this.at))
    this.tickets += 1
    this.kept.set(this.tickets, whole)
    this.pass(Buffer.from(`*1\r\n:${this.tickets}\r\n`))
  }

  private line(): Buffer | undefined {
    const from = this.at
    const end = this.bytes.indexOf(cr, from)
    if (end < 0 || end + 1 === this.bytes.length) return undefined
    this.at = end + 2
    return this.bytes.subarray(from, end)
  }

  private number(): number | undefined {
    const { bytes } = this
    const isNegative = bytes[this.at] === minus
    if (isNegative) this.at += 1
    let value = 0
    for (let at = this.at; at + 1 < bytes.length; at++) {
      const digit = bytes[at] ?? cr
      if (digit === cr) {
        this.at = at + 2
        return isNegative ? -value : value
      }
      value = value * 10 + (digit - zero)
    }
    return undefined
  }
}

/** What makes the server send without being asked, in either case. */
const pushing: ReadonlySet<string> = new Set(
  ["subscribe", "psubscribe", "ssubscribe", "monitor"].flatMap((name) => [name, name.toUpperCase()])
)

const refused = (command: string) =>
  new TransportError({
    operation: command,
    reason: new Refused({
      detail: `behind ${command} the server sends what is no reply to a command: use a client of your own for it`
    })
  })

/** The client, with lists decoded here. It refuses commands behind which messages are pushed, as those are no replies. */
export const decoding = (client: Redis): Native => {
  let decoder: Decoder | undefined
  client.on("connect", () => {
    const { stream } = client
    const own = stream.listeners("data")
    // another version may read its socket otherwise: then it decodes all by itself
    if (own.length === 0) return (decoder = undefined)
    const current = new Decoder((bytes) => {
      for (const listener of own) listener.call(stream, bytes)
    })
    decoder = current
    stream.removeAllListeners("data")
    stream.on("data", (chunk) => current.write(chunk))
  })
  return {
    get status() {
      return client.status
    },
    get stream() {
      return client.stream
    },
    connect: () => client.connect(),
    disconnect: (reconnect) => client.disconnect(reconnect),
    callBuffer: (command, args) => {
      if (pushing.has(command)) throw refused(command)
      const current = decoder
      return send(client, command, args).then((reply) => (current === undefined ? reply : current.claim(reply)))
    },
    on: (event, listener) => client.on(event, listener)
  }
}
