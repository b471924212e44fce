/**
 * Settling for the owner of a log: what has a place in the order is settled in the order of the list.
 */
import type { TransportError } from "@clutch/core/Errors"
import type { Settled, Settlement } from "@clutch/core/Transport"
import type { NonEmptyReadonlyArray } from "effect/Array"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Codec from "../Codec.ts"
import * as Scripts from "../Scripts.ts"
import type { Claim } from "./claim.ts"
import { isElsewhere } from "./connection.ts"
import { own } from "./entry.ts"
import type { RedisEntry } from "./entry.ts"
import { reported } from "./errors.ts"

/** How many bytes of messages one script stores. */
const maxBytes = 4 * 1024 * 1024

/** One settlement, and its place in the list that was asked for. */
class Item {
  readonly index: number
  readonly entry: RedisEntry
  readonly settlement: Settlement

  constructor(index: number, entry: RedisEntry, settlement: Settlement) {
    this.index = index
    this.entry = entry
    this.settlement = settlement
  }
}

/** What one script settles. */
interface Chunk {
  readonly acks: Array<Item>
  readonly items: Array<Item>
  bytes: number
}

const isStored = ({ outcome }: Settlement): boolean => outcome._tag !== "Ack" && outcome._tag !== "Release"

/** For a server that did not deliver these: it compares each, but what it was found not to know. */
const unproven = (claim: Claim, { acks, items }: Chunk): Chunk => ({
  acks: [],
  items: [...acks, ...items].filter(({ entry }) => !claim.held.isOver(entry)).toSorted((a, b) => a.index - b.index),
  bytes: 0
})

const chunksOf = (claim: Claim, settlements: NonEmptyReadonlyArray<Settlement>): ReadonlyArray<Chunk> => {
  const chunks: Array<Chunk> = []
  const open = (): Chunk => {
    const chunk: Chunk = { acks: [], items: [], bytes: 0 }
    chunks.push(chunk)
    return chunk
  }
  let chunk = open()
  for (const [index, settlement] of settlements.entries()) {
    const entry = own(settlement.entry)
    if (claim.held.isOver(entry)) continue
    const item = new Item(index, entry, settlement)
    // without a look at what is pending, which only tells more where it was asked for before, or of another server
    if (
      settlement.outcome._tag === "Ack" &&
      entry.origin === "main" &&
      !settlement.repeated &&
      claim.held.isOf(entry)
    ) {
      if (chunk.acks.length >= Scripts.maxIds) chunk = open()
      chunk.acks.push(item)
      continue
    }
    const bytes = isStored(settlement) ? entry.size : 0
    if (chunk.items.length >= Scripts.maxIds || (chunk.items.length > 0 && chunk.bytes + bytes > maxBytes)) {
      chunk = open()
    }
    chunk.items.push(item)
    chunk.bytes += bytes
  }
  return chunks
}

const moveOf = ({ entry, settlement: { key, outcome } }: Item): Scripts.Move => {
  const { fields, origin } = entry
  const meta = { original: entry.originalId, redriven: entry.meta?.redriven, key }
  switch (outcome._tag) {
    case "Ack":
      return { to: "ack" }
    case "Release":
      return { to: "release" }
    case "Retry":
      return {
        to: "retry",
        delay: Duration.toMillis(outcome.delay),
        meta: Codec.openRetry(origin, fields, { ...meta, attempt: entry.attempt, cause: outcome.cause })
      }
    case "DeadLetter":
      return {
        to: "dead",
        meta: Codec.openDead(origin, fields, {
          ...meta,
          reason: outcome.reason,
          cause: outcome.cause,
          attempts: outcome.attempts,
          from: entry.stream
        })
      }
    case "Park":
      return { to: "park", meta: parked(entry, key) }
  }
}

/** Its next delivery is the attempt that this one was. */
const parked = (entry: RedisEntry, key: string | undefined): Codec.OpenMeta =>
  Codec.openRetry(entry.origin, entry.fields, {
    original: entry.originalId,
    redriven: entry.meta?.redriven,
    key,
    attempt: entry.attempt - 1,
    cause: entry.meta?.cause
  })

const orderedOf = (item: Item, move: Scripts.Move): Scripts.Ordered => ({
  id: item.entry.id,
  count: item.entry.count,
  origin: item.entry.origin,
  move,
  key: item.settlement.key,
  original: item.entry.originalId,
  first: item.entry.firstDelivered
})

const answer = (found: Scripts.OrderedFound, repeated: boolean, problem: TransportError | undefined): Settled => {
  if (typeof found === "object") {
    return { _tag: "DeadLettered", id: found.deadLetter, ...(found.freed ? { freed: true } : undefined) }
  }
  switch (found) {
    case "done":
    case "freed":
      return found
    case "gone":
      return repeated ? "unknown" : "lost"
    case "stopped":
      return problem ?? "lost"
    default:
      return "lost"
  }
}

/** What a call did: whether something may have come for whoever fetches. */
interface Done {
  readonly answers: ReadonlyArray<Settled>
  readonly moved: boolean
}

const run = async (claim: Claim, chunks: ReadonlyArray<Chunk>, answers: Array<Settled>): Promise<Done> => {
  const { client } = claim.member
  let unknown: TransportError | undefined
  let stopped: TransportError | undefined
  let known = false
  let moved = false
  const forget = ({ entry }: Item) => claim.held.drop(entry)
  const chunkOf = async ({ acks, items }: Chunk, moves: ReadonlyArray<Scripts.Move>) => {
    // what is acked without a look proves something to the server that delivered it, and to no other one
    const to = acks.length === 0 ? client : client.here
    const { found, problem, stands } = await to.execute(Scripts.order, {
      ...claim.proof,
      acks: acks.map(({ entry }) => entry.id),
      items: items.map((item, i) => orderedOf(item, moves[i] ?? moveOf(item)))
    })
    known = true
    const error = problem === undefined ? undefined : reported("settle", problem)
    stopped ??= error
    const trimmed: Array<Item> = []
    for (const item of acks) {
      answers[item.index] = stands ? "done" : "lost"
      forget(item)
    }
    for (const [i, item] of items.entries()) {
      const one = found[i] ?? "other"
      if (one === "trimmed") {
        trimmed.push(item)
        continue
      }
      answers[item.index] = answer(one, item.settlement.repeated, error)
      if (one !== "stopped") forget(item)
      moved ||= item.entry.origin === "retry" || (item.settlement.outcome._tag !== "Ack" && one !== "stopped")
    }
    return trimmed
  }
  const left = [...chunks]
  for (let next = left.shift(); next !== undefined; next = left.shift()) {
    // it may have waited, and the server may be another one since
    const chunk = next.acks.every(({ entry }) => claim.held.isOf(entry)) ? next : unproven(claim, next)
    const items = stopped === undefined ? chunk.items : []
    if (stopped !== undefined) for (const { index } of chunk.items) answers[index] = stopped
    if (items.length + chunk.acks.length === 0) continue
    try {
      const trimmed = await chunkOf({ ...chunk, items }, [])
      // only this process still has them: they come back as retries whose time has come
      const again = trimmed.map(({ entry, settlement }): Scripts.Move => ({
        to: "park",
        meta: parked(entry, settlement.key)
      }))
      if (trimmed.length > 0) await chunkOf({ acks: [], items: trimmed, bytes: 0 }, again)
    } catch (error) {
      if (chunk.acks.length > 0 && isElsewhere(error)) {
        left.unshift(unproven(claim, { ...chunk, items }))
        continue
      }
      const explained = client.explain("settle", error)
      if (explained.reason._tag === "Unknown") unknown = explained
      else known = true
      stopped ??= explained
      for (const { index } of [...chunk.acks, ...items]) answers[index] = explained
    }
  }
  if (!known && unknown !== undefined) throw unknown
  return { answers, moved }
}

/** Settles each, and answers in the same order. `moved` is called where what can be fetched may have changed. */
export const settle = (
  claim: Claim,
  settlements: NonEmptyReadonlyArray<Settlement>,
  moved: () => void
): Effect.Effect<ReadonlyArray<Settled>, TransportError> =>
  Effect.map(
    claim.member.client.attempt("settle", () => {
      const chunks = chunksOf(claim, settlements)
      const answers = settlements.map(({ repeated }): Settled => (repeated ? "unknown" : "lost"))
      return claim.inTurn(chunks.length > 1, () => run(claim, chunks, answers))
    }),
    (done) => {
      if (done.moved) moved()
      return done.answers
    }
  )
