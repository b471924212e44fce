/**
 * What the servers of a cluster say of it, read: who serves which slot, and where a command should have gone.
 */
import type { Reply } from "../Script.ts"
import { wordsOf } from "./connection.ts"
import { slotCount } from "./slots.ts"

/** Where a server listens. */
export interface Address {
  readonly host: string
  readonly port: number
}

/** An address as text, to compare and to look up. */
export const keyOf = ({ host, port }: Address): string => `${host}:${port}`

/** A cluster as one of its servers sees it. */
export interface Topology {
  /** The master of each slot; a hole where none serves it. */
  readonly slots: ReadonlyArray<Address | undefined>
  /** Every server that is named, masters first. */
  readonly known: ReadonlyArray<Address>
}

const addressOf = (reply: Reply | undefined, asked: Address): Address | undefined => {
  if (!Array.isArray(reply)) return undefined
  const port = Number(reply[1])
  // a server that does not know its own name is where it was asked
  const host = reply[0] === null ? "" : String(reply[0])
  return port > 0 ? { host: host === "" || host === "?" ? asked.host : host, port } : undefined
}

/** The reply to CLUSTER SLOTS, from the server at `asked`. */
export const parse = (reply: Reply, asked: Address): Topology => {
  const slots: Array<Address | undefined> = Array.from({ length: slotCount }, () => undefined)
  const masters = new Map<string, Address>()
  const replicas = new Map<string, Address>()
  for (const range of Array.isArray(reply) ? reply : []) {
    if (!Array.isArray(range)) continue
    const [first, last, master, ...others] = range
    const address = addressOf(master, asked)
    if (address === undefined) continue
    const same = masters.get(keyOf(address)) ?? address
    masters.set(keyOf(same), same)
    for (let slot = Number(first); slot <= Number(last); slot++) slots[slot] = same
    for (const other of others) {
      const replica = addressOf(other, asked)
      if (replica !== undefined) replicas.set(keyOf(replica), replica)
    }
  }
  return { slots, known: [...masters.values(), ...replicas.values()] }
}

/** Where a command should have gone: for good, or this once, while its slot is being moved. */
export interface Redirect {
  readonly kind: "moved" | "ask"
  readonly slot: number
  readonly to: Address
}

/** What a rejected command says of where it belongs; nothing was done then. */
export const redirectOf = (error: unknown, asked: Address): Redirect | undefined => {
  const [code, slot, target] = wordsOf(error)
  if ((code !== "MOVED" && code !== "ASK") || slot === undefined || target === undefined) return undefined
  // the host may be an IPv6 address, or missing
  const colon = target.lastIndexOf(":")
  const host = target.slice(0, colon)
  return {
    kind: code === "MOVED" ? "moved" : "ask",
    slot: Number(slot),
    to: { host: host === "" ? asked.host : host, port: Number(target.slice(colon + 1)) }
  }
}
