/**
 * Deliveries as this backend holds them: what the runtime sees, and what settling needs.
 */
import type { Entry } from "@clutch/core/Transport"
import * as Result from "effect/Result"
import * as Codec from "../Codec.ts"
import type { GroupKeys } from "../RedisKeys.ts"
import type { Reply } from "../Script.ts"
import { nameAt } from "./fieldNames.ts"

export interface RedisEntry extends Entry {
  /** Where `Held` has it. */
  place: number
  /** Its delivery count in the pending list when it was read. */
  readonly count: number
  /** Which incarnation of the consumer read it. */
  readonly nonce: string
  /** How often the connection had been made when it was read. */
  readonly epoch: number
  readonly fields: Codec.Fields
  /** What its field `clutch` says; none on the topic's own stream, or where it cannot be read. */
  readonly meta: Codec.RetryMeta | undefined
}

/** What is common to the entries of one read. */
export interface Read {
  readonly keys: GroupKeys
  readonly codec: Codec.Codec
  readonly nonce: string
  readonly epoch: number
  /** By the server's clock. */
  readonly now: number
}

/** How often it was delivered: a delivery count has its givings back at no cost in millions, as `delivered.lua` does. */
const delivered = (count: number): number => count % 1_000_000

/** The server's clock is known as near as half a round trip, in milliseconds: further off, an id is no time. */
const nearness = 1000

/** Nothing is delivered before it was written. */
const notBefore = (id: string, now: number): number => {
  const written = Number(id.slice(0, id.indexOf("-")))
  return written > now && written - now < nearness ? written : now
}

/** What can be derived is, when it is asked for: thousands of these are held, and are copied by the collector meanwhile. */
class MainEntry implements RedisEntry {
  place = -1
  readonly id: string
  readonly count: number
  readonly fields: Codec.Fields
  readonly size: number
  private readonly read: Read

  constructor(read: Read, id: string, count: number, fields: Codec.Fields) {
    this.read = read
    this.id = id
    this.count = count
    this.fields = fields
    this.size = Codec.size(fields)
  }

  get origin() {
    return "main" as const
  }
  get stream() {
    return this.read.keys.main
  }
  get originalId() {
    return this.id
  }
  get attempt() {
    return delivered(this.count)
  }
  get reclaims() {
    return delivered(this.count) - 1
  }
  get firstDelivered() {
    return notBefore(this.id, this.read.now)
  }
  get redriven() {
    return undefined
  }
  get key() {
    return undefined
  }
  get content() {
    return this.read.codec.decode(this.fields)
  }
  get nonce() {
    return this.read.nonce
  }
  get epoch() {
    return this.read.epoch
  }
  get meta() {
    return undefined
  }
}

/** A class as well: what a literal makes the engine allots among what lives long, once it has seen many wait. */
class RetryEntry implements RedisEntry {
  place = -1
  readonly id: string
  readonly count: number
  readonly fields: Codec.Fields
  readonly size: number
  readonly meta: Codec.RetryMeta | undefined
  private readonly problem: string | undefined
  private readonly read: Read

  constructor(read: Read, id: string, count: number, fields: Codec.Fields) {
    const meta = Codec.retryMeta(fields)
    this.read = read
    this.id = id
    this.count = count
    this.fields = fields
    this.size = Codec.size(fields)
    this.meta = Result.isSuccess(meta) ? meta.success : undefined
    this.problem = Result.isSuccess(meta) ? undefined : meta.failure
  }

  get origin() {
    return "retry" as const
  }
  get stream() {
    return this.read.keys.retry
  }
  get originalId() {
    return this.meta?.original ?? this.id
  }
  get attempt() {
    return (this.meta?.attempt ?? 0) + delivered(this.count)
  }
  get reclaims() {
    return delivered(this.count) - 1
  }
  get firstDelivered() {
    return this.meta?.first ?? this.read.now
  }
  get redriven() {
    return this.meta?.redriven
  }
  get key() {
    return this.meta?.key
  }
  get content() {
    return this.problem === undefined ? this.read.codec.decode(this.fields) : Result.fail(this.problem)
  }
  get nonce() {
    return this.read.nonce
  }
  get epoch() {
    return this.read.epoch
  }
}

export const make = (
  read: Read,
  origin: Entry["origin"],
  id: string,
  count: number,
  fields: Codec.Fields
): RedisEntry => (origin === "main" ? new MainEntry(read, id, count, fields) : new RetryEntry(read, id, count, fields))

/** The entries that XREADGROUP of one stream answered with, one after the other. */
export const forEachRead = (reply: Reply, f: (id: string, fields: Codec.Fields) => void): void => {
  if (reply === null) return
  const stream = Array.isArray(reply) ? reply[0] : undefined
  // a client that speaks RESP3 would seem to have nothing to read, for ever
  if (!Array.isArray(stream)) throw new TypeError("the client does not reply as under RESP2: make it with protocol: 2")
  const rows = stream[1]
  if (!Array.isArray(rows)) return
  for (const row of rows) forRow(row, f)
}

/** One entry, as XRANGE and XREADGROUP have it. Its fields are null where it was trimmed. */
export const forRow = (row: Reply, f: (id: string, fields: Codec.Fields) => void): void => {
  if (!Array.isArray(row)) return
  const id = row[0]
  const fields = row[1]
  // asked for bytes, a client gives nothing else
  if (Buffer.isBuffer(id)) f(id.toString("latin1"), Array.isArray(fields) ? sharingNames(fields as Array<Buffer>) : [])
}

/** Of a client that made each of them, the names are let go of. */
const sharingNames = (fields: Array<Buffer>): Codec.Fields => {
  for (let i = 0; i < fields.length; i += 2) {
    const name = fields[i]
    const shared = name === undefined ? undefined : nameAt(name, 0, name.length)
    if (shared !== undefined) fields[i] = shared
  }
  return fields
}

/** The entry that this backend made, which is what it was given back. */
export const own = (entry: Entry): RedisEntry => {
  // the interface says that an entry is handed back as it was delivered
  const mine = entry as RedisEntry
  if (mine.fields === undefined) throw new TypeError(`entry ${entry.id} was not delivered by this transport`)
  return mine
}
