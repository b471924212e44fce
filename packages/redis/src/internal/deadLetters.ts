/**
 * Dead letters: read as they lie, redriven and discarded by id.
 */
import type { TransportError } from "@clutch/core/Errors"
import type { DeadEntry, Group, Transport } from "@clutch/core/Transport"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Codec from "../Codec.ts"
import * as Keys from "../RedisKeys.ts"
import type { Reply } from "../Script.ts"
import * as Scripts from "../Scripts.ts"
import { hasFollowers } from "./asking.ts"
import { forRow } from "./entry.ts"
import type { Shared } from "./shared.ts"

const entryOf = (codec: Codec.Codec, id: string, fields: Codec.Fields): DeadEntry => {
  const meta = Codec.deadMeta(fields)
  const stored = Number(id.split("-")[0])
  // written by somebody else: shown all the same
  const { attempts, cause, failed, first, original, reason } = Result.getOrElse(meta, (problem) => ({
    attempts: 0,
    cause: problem,
    failed: undefined,
    first: undefined,
    original: id,
    reason: "poison" as const
  }))
  return {
    id,
    originalId: original,
    content: codec.decode(fields),
    raw: Codec.raw(fields),
    reason,
    cause,
    attempts,
    firstDelivered: first === undefined ? Option.none() : Option.some(first),
    deadLettered: failed ?? stored
  }
}

export const make = ({ client, codec, namespace }: Shared): Transport["Service"]["deadLetters"] => {
  const keysOf = (group: Group) => Keys.group(namespace, group)

  /** A command on the dead letters of a group. */
  const on = (group: Group) => {
    const { deadLetters } = keysOf(group)
    return (command: string, args: ReadonlyArray<string>) =>
      client.at(deadLetters).command(command, [deadLetters, ...args])
  }

  const read = (reply: Reply): ReadonlyArray<DeadEntry> => {
    const entries: Array<DeadEntry> = []
    for (const row of Array.isArray(reply) ? reply : []) {
      forRow(row, (id, fields) => entries.push(entryOf(codec, id, fields)))
    }
    return entries
  }

  const range = (group: Group, start: string, end: string, limit: number) =>
    Effect.map(on(group)("XRANGE", [start, end, "COUNT", String(limit)]), read)

  const redrive = (
    group: Group,
    ids: ReadonlyArray<string>,
    delay: Duration.Duration
  ): Effect.Effect<number, TransportError> =>
    client.attempt("redrive", async () => {
      const keys = keysOf(group)
      const millis = Duration.toMillis(delay)
      let redriven = 0
      let at = 0
      for (;;) {
        const [first, ...rest] = ids.slice(at, at + Scripts.maxIds)
        if (first === undefined) return redriven
        const done = await client.execute(Scripts.redrive, { keys, ids: [first, ...rest], delay: millis })
        redriven += done.redriven
        at += Math.max(1, done.processed)
      }
    })

  const discard = (group: Group, ids: ReadonlyArray<string>): Effect.Effect<number, TransportError> =>
    client.attempt("discard", async () => {
      const { deadLetters } = keysOf(group)
      let discarded = 0
      for (let at = 0; at < ids.length; at += Scripts.maxIds) {
        discarded += Number(
          await client.at(deadLetters).submit("XDEL", [deadLetters, ...ids.slice(at, at + Scripts.maxIds)])
        )
      }
      return discarded
    })

  return {
    page: (group, { after, limit }) =>
      after === undefined
        ? range(group, "-", "+", limit)
        : hasFollowers(after)
          ? range(group, `(${after}`, "+", limit)
          : Effect.succeed([]),
    get: (group, id) => Effect.map(range(group, id, id, 1), (found) => Option.fromNullishOr(found[0])),
    count: (group) => Effect.map(on(group)("XLEN", []), Number),
    redrive,
    discard
  }
}
