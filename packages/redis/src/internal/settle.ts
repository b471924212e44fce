/**
 * Settling: a list of outcomes becomes few scripts, and each outcome its own answer.
 */
import type { TransportError } from "@clutch/core/Errors"
import type { Entry, Outcome, Settled, Settlement } from "@clutch/core/Transport"
import * as Arr from "effect/Array"
import type { NonEmptyReadonlyArray } from "effect/Array"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Codec from "../Codec.ts"
import * as Scripts from "../Scripts.ts"
import { isElsewhere } from "./connection.ts"
import { own } from "./entry.ts"
import type { RedisEntry } from "./entry.ts"
import { renew } from "./member.ts"
import type { Member } from "./member.ts"

/** How many failed messages one script stores, and how many bytes of them: each costs many times what an ack does. */
const maxFailures = 256
const maxBytes = 4 * 1024 * 1024

type Kind = "ack" | "release" | "fail"

const kindOf = ({ _tag }: Outcome): Kind => (_tag === "Ack" ? "ack" : _tag === "Release" ? "release" : "fail")

/** What one script settles: the same move, on one of the two logs; acks also by what proves their ownership. */
interface Move {
  readonly kind: Kind
  readonly origin: Entry["origin"]
  /** Of acks; one that was settled or lost proves nothing any more, nor does one of an earlier connection. */
  readonly nonce: string
  readonly repeated: boolean
  readonly entries: [RedisEntry, ...Array<RedisEntry>]
  readonly outcomes: [Outcome, ...Array<Outcome>]
  /** Their places in the list that was asked for. */
  readonly places: Array<number>
  /** Of failures, which are stored. */
  bytes: number
}

const most = { ack: Scripts.maxIds, release: Scripts.maxIds, fail: maxFailures }

/** The moves that settle these, as few as there can be. */
const movesOf = (member: Member, settlements: ReadonlyArray<Settlement>): ReadonlyArray<Move> => {
  const moves: Array<Move> = []
  let place = -1
  for (const { entry: given, outcome, repeated } of settlements) {
    place += 1
    const entry = own(given)
    const { origin } = entry
    if (member.held.isOver(entry)) continue
    const kind = kindOf(outcome)
    const nonce = kind === "ack" && member.held.has(entry) && member.held.isOf(entry) ? entry.nonce : ""
    const bytes = kind === "fail" ? entry.size : 0
    const move = moveFor(moves, kind, origin, nonce, repeated, bytes)
    if (move === undefined) {
      moves.push({ kind, origin, nonce, repeated, entries: [entry], outcomes: [outcome], places: [place], bytes })
    } else {
      move.entries.push(entry)
      move.outcomes.push(outcome)
      move.places.push(place)
      move.bytes += bytes
    }
  }
  return moves
}

/** The last move that one more delivery fits into. Nearly always it is the last of all. */
const moveFor = (
  moves: ReadonlyArray<Move>,
  kind: Kind,
  origin: Entry["origin"],
  nonce: string,
  repeated: boolean,
  bytes: number
): Move | undefined => {
  for (let at = moves.length - 1; at >= 0; at--) {
    const move = moves[at]
    if (move === undefined || move.kind !== kind || move.origin !== origin || move.nonce !== nonce) continue
    if (move.repeated !== repeated || move.places.length >= most[kind] || move.bytes + bytes > maxBytes) continue
    return move
  }
  return undefined
}

/** Acks for a server that did not deliver these: without a proof, and without what it was found not to know. */
const unproven = (member: Member, move: Move): Move | undefined => {
  const kept = Arr.zip(move.entries, move.places).filter(([entry]) => !member.held.isOver(entry))
  if (!Arr.isArrayNonEmpty(kept)) return undefined
  return { ...move, nonce: "", entries: Arr.map(kept, ([entry]) => entry), places: kept.map(([, place]) => place) }
}

type Found = Scripts.Found | { readonly deadLetter: string }

const answer = (found: Found | undefined, repeated: boolean): Settled => {
  if (typeof found === "object") return { _tag: "DeadLettered", id: found.deadLetter }
  return found === "done" ? "done" : found === "gone" && repeated ? "unknown" : "lost"
}

const failure = (entry: RedisEntry, outcome: Outcome): Scripts.Failure => {
  const common = { id: entry.id, count: entry.count, first: entry.firstDelivered }
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

const fail = (
  member: Member,
  origin: Entry["origin"],
  failures: NonEmptyReadonlyArray<Scripts.Failure>
): Promise<ReadonlyArray<Found>> =>
  member.client.execute(Scripts.fail, { keys: member.keys, consumer: member.consumer, origin, failures })

const ack = async (member: Member, { entries, nonce, origin, repeated }: Move): Promise<ReadonlyArray<Found>> => {
  // the nonce proves something to the server that delivered these, and to no other one
  const to = nonce === "" ? member.client : member.client.here
  const { fenced, settled } = await to.execute(Scripts.ack, {
    keys: member.keys,
    consumer: member.consumer,
    origin,
    nonce,
    repeated,
    held: entries
  })
  if (!fenced && nonce === member.nonce) renew(member)
  return settled
}

const release = async (
  member: Member,
  origin: Entry["origin"],
  entries: NonEmptyReadonlyArray<RedisEntry>
): Promise<ReadonlyArray<Found>> => {
  const found = await member.client.execute(Scripts.release, {
    keys: member.keys,
    consumer: member.consumer,
    origin,
    held: entries
  })
  const trimmed = entries.filter((_, i) => found[i] === "trimmed").map((entry) => failure(entry, released))
  if (!Arr.isReadonlyArrayNonEmpty(trimmed)) return found.map((one): Found => (one === "trimmed" ? "gone" : one))
  const moved = await fail(member, origin, trimmed)
  let at = 0
  return found.map((one): Found => (one === "trimmed" ? (moved[at++] ?? "gone") : one))
}

const released: Outcome = { _tag: "Release" }

const apply = (member: Member, move: Move): Promise<ReadonlyArray<Found>> => {
  const { entries, kind, origin, outcomes } = move
  switch (kind) {
    case "ack":
      return ack(member, move)
    case "release":
      return release(member, origin, entries)
    case "fail":
      return fail(member, origin, Arr.zipWith(entries, outcomes, failure))
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
    const run = async (move: Move): Promise<void> => {
      const { entries, nonce, places, repeated } = move
      try {
        const found = await apply(member, move)
        known = true
        let at = 0
        for (const entry of entries) {
          answers[places[at] ?? 0] = answer(found[at], repeated)
          at += 1
          member.held.drop(entry)
        }
      } catch (error) {
        if (nonce !== "" && isElsewhere(error)) {
          const again = unproven(member, move)
          if (again !== undefined) return run(again)
          known = true
          return
        }
        const explained = member.client.explain("settle", error)
        if (explained.reason._tag === "Unknown") unknown = explained
        else known = true
        for (const place of places) answers[place] = explained
      }
    }
    await Promise.all(movesOf(member, settlements).map(run))
    if (!known && unknown !== undefined) throw unknown
    return answers
  })

/** Gives back what nobody was given, without waiting. What `failed` is found by a comparison with the pending list. */
export const giveBack = (member: Member, entries: ReadonlyArray<RedisEntry>, failed: () => void): void => {
  // no longer held: whatever becomes of this call, the pending list alone tells
  for (const entry of entries) member.held.drop(entry)
  for (const origin of ["main", "retry"] as const) {
    for (const some of Arr.chunksOf(
      entries.filter((entry) => entry.origin === origin),
      Scripts.maxIds
    )) {
      if (Arr.isReadonlyArrayNonEmpty(some)) release(member, origin, some).catch(failed)
    }
  }
}
