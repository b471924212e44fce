/**
 * After a connection was lost: what the server counts as delivered to this consumer, and never arrived here, is given
 * back to the group at no cost of an attempt.
 */
import type { Entry } from "@clutch/core/Transport"
import * as Effect from "effect/Effect"
import type { Reply } from "../Script.ts"
import * as Scripts from "../Scripts.ts"
import { tellTrimmed } from "./member.ts"
import type { Member } from "./member.ts"

const page = 1000

/** How many were given back, and how many were settled, as nothing was left of them. */
export interface Recovered {
  readonly released: number
  readonly trimmed: number
}

interface Pending {
  readonly id: string
  readonly count: number
}

/** The rows of XPENDING: id, consumer, idle, delivery count. */
const pendingOf = (reply: Reply): ReadonlyArray<Pending> => {
  const result: Array<Pending> = []
  for (const row of Array.isArray(reply) ? reply : []) {
    if (Array.isArray(row)) result.push({ id: String(row[0]), count: Number(row[3]) })
  }
  return result
}

// replies that arrived together are all dealt with then
const turn = () => new Promise<void>((resolve) => setImmediate(resolve))

/**
 * Compares one of the two logs. Replies come in order, so whatever this connection read before is held by the time the
 * pending list is looked at. New entries, which another one reads too, are compared between two reads.
 */
export const recoverFrom = async (member: Member, origin: Entry["origin"]): Promise<Recovered> => {
  const { client, consumer, held, keys } = member
  const group = origin === "main" ? keys.mainGroup : keys.retryGroup
  let released = 0
  let trimmed = 0
  let start = "-"
  for (;;) {
    const reply = await client.submit("XPENDING", [keys[origin], group, start, "+", String(page), consumer])
    await turn()
    const pending = pendingOf(reply)
    const [first, ...rest] = pending.filter(({ id }) => !held.knows(origin, id))
    if (first !== undefined) {
      const found = await client.execute(Scripts.release, { keys, consumer, origin, held: [first, ...rest] })
      released += found.filter((one) => one === "done").length
      // neither the stream nor this process has it
      const gone = [first, ...rest].filter((_, i) => found[i] === "trimmed").map(({ id }) => id)
      if (gone.length > 0) await client.submit("XACK", [keys[origin], group, ...gone])
      trimmed += gone.length
    }
    const last = pending.at(-1)
    if (last === undefined || pending.length < page) return { released, trimmed }
    start = `(${last.id}`
  }
}

/** One line, where something had got lost. */
export const tell = (member: Member, { released, trimmed }: Recovered): Effect.Effect<void> =>
  Effect.andThen(
    tellTrimmed(member, trimmed),
    released === 0
      ? Effect.void
      : Effect.logInfo(
          `${released} deliveries to consumer ${member.consumer} on ${member.keys.main} got lost with a connection ` +
            `and were given back`
        )
  )
