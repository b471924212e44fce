/**
 * Settling: a list of outcomes becomes few scripts, and each outcome its own answer.
 */
import type { TransportError } from "@clutch/core/Errors"
import type { Entry, Settled, Settlement } from "@clutch/core/Transport"
import type { NonEmptyReadonlyArray } from "effect/Array"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Codec from "../Codec.ts"
import * as Scripts from "../Scripts.ts"
import { own } from "./entry.ts"
import type { RedisEntry } from "./entry.ts"
import { renew } from "./member.ts"
import type { Member } from "./member.ts"

/** How many bytes of failed messages one script stores. */
const maxBytes = 4 * 1024 * 1024

/** One settlement, and its place in the list that was asked for. */
interface Item {
  readonly index: number
  readonly entry: RedisEntry
  readonly settlement: Settlement
}

type Kind = "ack" | "release" | "fail"

const kindOf = (settlement: Settlement): Kind =>
  settlement.outcome._tag === "Ack" ? "ack" : settlement.outcome._tag === "Release" ? "release" : "fail"

/** What proves the ownership of an entry that is held. One that was settled or lost proves nothing any more. */
const proofOf = (member: Member, entry: RedisEntry): string =>
  member.held[entry.origin].get(entry.id) === entry ? entry.nonce : ""

/** A settlement that may have been done, of an entry that was delivered again to this very consumer since: done it was. */
const isDeliveredAnew = (member: Member, entry: RedisEntry): boolean => {
  const held = member.held[entry.origin].get(entry.id)
  return held !== undefined && held !== entry
}

/** What can be settled by one script: the same move, on one of the two logs; acks also by what proves their ownership. */
const groups = (
  member: Member,
  settlements: NonEmptyReadonlyArray<Settlement>
): ReadonlyArray<NonEmptyReadonlyArray<Item>> => {
  const open = new Map<string, { items: [Item, ...Array<Item>]; bytes: number }>()
  const full: Array<NonEmptyReadonlyArray<Item>> = []
  for (const [index, settlement] of settlements.entries()) {
    const entry = own(settlement.entry)
    if (settlement.repeated && isDeliveredAnew(member, entry)) continue
    const kind = kindOf(settlement)
    const nonce = proofOf(member, entry)
    const key = kind === "ack" ? `${entry.origin} ${nonce} ${settlement.repeated}` : `${kind} ${entry.origin}`
    const item = { index, entry, settlement }
    const bytes = kind === "fail" ? entry.size : 0
    const group = open.get(key)
    if (group === undefined) open.set(key, { items: [item], bytes })
    else if (group.items.length >= Scripts.maxIds || group.bytes + bytes > maxBytes) {
      full.push(group.items)
      open.set(key, { items: [item], bytes })
    } else {
      group.items.push(item)
      group.bytes += bytes
    }
  }
  for (const { items } of open.values()) full.push(items)
  return full
}

type Found = Scripts.Found | { readonly deadLetter: string }

const answer = (found: Found | undefined, repeated: boolean): Settled => {
  if (typeof found === "object") return { _tag: "DeadLettered", id: found.deadLetter }
  return found === "done" ? "done" : found === "gone" && repeated ? "unknown" : "lost"
}

const failure = (entry: RedisEntry, outcome: Settlement["outcome"]): Scripts.Failure => {
  const common = { id: entry.id, count: entry.count, first: { at: entry.firstDelivered } }
  const meta = { original: entry.originalId, redriven: entry.meta?.redriven }
  switch (outcome._tag) {
    case "DeadLetter":
      return {
        ...common,
        to: "deadLetters",
        meta: Codec.openDead(entry.origin, entry.fields, {
          ...meta,
          reason: outcome.reason,
          cause: outcome.cause,
          attempts: outcome.attempts,
          from: entry.stream
        })
      }
    case "Retry":
      return {
        ...common,
        to: { retry: Duration.toMillis(outcome.delay) },
        meta: Codec.openRetry(entry.origin, entry.fields, { ...meta, attempt: entry.attempt, cause: outcome.cause })
      }
    default:
      // its entry was trimmed: what is in memory becomes a retry that is due at once, and no attempt was made
      return {
        ...common,
        to: { retry: 0 },
        meta: Codec.openRetry(entry.origin, entry.fields, { ...meta, attempt: entry.attempt - 1, cause: "released" })
      }
  }
}

const map = <A, B>([first, ...rest]: NonEmptyReadonlyArray<A>, f: (a: A) => B): [B, ...Array<B>] => [
  f(first),
  ...rest.map(f)
]

const heldOf = ({ entry }: Item): Scripts.Held => ({ id: entry.id, count: entry.count })

const fail = (
  member: Member,
  origin: Entry["origin"],
  items: NonEmptyReadonlyArray<Item>
): Promise<ReadonlyArray<Found>> =>
  member.client.execute(Scripts.fail, {
    keys: member.keys,
    consumer: member.consumer,
    origin,
    failures: map(items, ({ entry, settlement }) => failure(entry, settlement.outcome))
  })

const ack = async (member: Member, entry: RedisEntry, items: NonEmptyReadonlyArray<Item>) => {
  const { origin } = entry
  const nonce = proofOf(member, entry)
  const { fenced, settled } = await member.client.execute(Scripts.ack, {
    keys: member.keys,
    consumer: member.consumer,
    origin,
    nonce,
    repeated: items[0].settlement.repeated,
    held: map(items, heldOf)
  })
  if (!fenced && nonce === member.nonce) renew(member)
  return settled
}

const release = async (member: Member, origin: Entry["origin"], items: NonEmptyReadonlyArray<Item>) => {
  const found = await member.client.execute(Scripts.release, {
    keys: member.keys,
    consumer: member.consumer,
    origin,
    held: map(items, heldOf)
  })
  const [first, ...rest] = items.filter((_, i) => found[i] === "trimmed")
  if (first === undefined) return found.map((one): Found => (one === "trimmed" ? "gone" : one))
  const moved = await fail(member, origin, [first, ...rest])
  let at = 0
  return found.map((one): Found => (one === "trimmed" ? (moved[at++] ?? "gone") : one))
}

const apply = (member: Member, items: NonEmptyReadonlyArray<Item>): Promise<ReadonlyArray<Found>> => {
  const { entry, settlement } = items[0]
  switch (kindOf(settlement)) {
    case "ack":
      return ack(member, entry, items)
    case "release":
      return release(member, entry.origin, items)
    case "fail":
      return fail(member, entry.origin, items)
  }
}

/** Settles each, and answers in the same order. Scripts that cannot be stored leave the others alone. */
export const settle = (
  member: Member,
  settlements: NonEmptyReadonlyArray<Settlement>
): Effect.Effect<ReadonlyArray<Settled>, TransportError> =>
  member.client.attempt("settle", async () => {
    const answers = settlements.map(({ repeated }): Settled => (repeated ? "unknown" : "lost"))
    let unknown: TransportError | undefined
    let known = false
    await Promise.all(
      groups(member, settlements).map(async (items) => {
        try {
          const found = await apply(member, items)
          known = true
          for (const [i, { entry, index, settlement }] of items.entries()) {
            answers[index] = answer(found[i], settlement.repeated)
            const held = member.held[entry.origin]
            if (held.get(entry.id) === entry) held.delete(entry.id)
          }
        } catch (error) {
          const explained = member.client.explain("settle", error)
          if (explained.reason._tag === "Unknown") unknown = explained
          else known = true
          for (const { index } of items) answers[index] = explained
        }
      })
    )
    if (!known && unknown !== undefined) throw unknown
    return answers
  })

/** Gives back what nobody was given, without waiting. What fails is found by the next comparison with the pending list. */
export const giveBack = (member: Member, entries: ReadonlyArray<RedisEntry>): void => {
  const items = entries.map((entry, index): Item => {
    // no longer held: whatever becomes of this call, the pending list alone tells
    member.held[entry.origin].delete(entry.id)
    return { index, entry, settlement: { entry, outcome: { _tag: "Release" }, repeated: false } }
  })
  for (const origin of ["main", "retry"] as const) {
    const mine = items.filter(({ entry }) => entry.origin === origin)
    for (let at = 0; at < mine.length; at += Scripts.maxIds) {
      const [first, ...rest] = mine.slice(at, at + Scripts.maxIds)
      if (first !== undefined) release(member, origin, [first, ...rest]).catch(() => {})
    }
  }
}
