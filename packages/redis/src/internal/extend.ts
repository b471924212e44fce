/**
 * Keeping what is held, and showing that this consumer lives.
 */
import type { TransportError } from "@clutch/core/Errors"
import type { Entry } from "@clutch/core/Transport"
import type { NonEmptyReadonlyArray } from "effect/Array"
import * as Effect from "effect/Effect"
import * as Scripts from "../Scripts.ts"
import { own as ownEntry } from "./entry.ts"
import type { RedisEntry } from "./entry.ts"
import { isGone } from "./errors.ts"
import { heal, renew } from "./member.ts"
import type { Member } from "./member.ts"

/** By the log that they were read from. */
export const byOrigin = (entries: ReadonlyArray<RedisEntry>) => ({
  main: entries.filter(({ origin }) => origin === "main"),
  retry: entries.filter(({ origin }) => origin === "retry")
})

/** Extends in calls of what one script may be given; without entries it is a sign of life. */
const extendChunk = async (member: Member, entries: ReadonlyArray<RedisEntry>): Promise<Scripts.Extended["lost"]> => {
  const { nonce } = member
  const { fenced, lost } = await member.client.execute(Scripts.extend, {
    ...member.proof,
    ...byOrigin(entries)
  })
  member.seen = performance.now()
  if (!fenced && nonce === member.nonce) renew(member)
  return lost
}

/** Tells the server that this consumer lives. */
export const signOfLife = (member: Member): Effect.Effect<void, TransportError> =>
  Effect.asVoid(member.client.attempt("extend", () => extendChunk(member, [])))

/** Extends what is held, and tells what is not any more. */
export const lostOf = async (
  member: Member,
  entries: ReadonlyArray<RedisEntry>
): Promise<ReadonlyArray<RedisEntry>> => {
  const chunks: Array<ReadonlyArray<RedisEntry>> = []
  for (let at = 0; at < entries.length; at += Scripts.maxIds) chunks.push(entries.slice(at, at + Scripts.maxIds))
  const lost = await Promise.all(
    chunks.map(async (chunk) => {
      const { main, retry } = await extendChunk(member, chunk)
      const ids = { main: new Set(main), retry: new Set(retry) }
      return chunk.filter(({ id, origin }) => ids[origin].has(id))
    })
  )
  return lost.flat()
}

export const extend = (member: Member, entries: NonEmptyReadonlyArray<Entry>) =>
  member.client
    .attempt("extend", (): Promise<ReadonlyArray<Entry>> => lostOf(member, entries.map(ownEntry)))
    .pipe(
      // with the group, every lease is gone
      Effect.catchIf(isGone, () => Effect.as(heal(member), entries))
    )
