/**
 * The owner of a log: the one worker that is delivered what the log has for an ordered group.
 *
 * A read that was issued is finished, whoever was interrupted: what it brings is given back before the next one is issued.
 * Whatever leaves open what was delivered ends the claim for those who fetch: closing gives all of it back.
 */
import type { TransportError } from "@clutch/core/Errors"
import type { Entry, Fetched, Owner, OwnerLimit, Settlement } from "@clutch/core/Transport"
import * as Effect from "effect/Effect"
import * as Codec from "../Codec.ts"
import type { Reply } from "../Script.ts"
import * as Scripts from "../Scripts.ts"
import type { Claim } from "./claim.ts"
import { isElsewhere } from "./connection.ts"
import { forRow, own } from "./entry.ts"
import type { RedisEntry } from "./entry.ts"
import { isGone } from "./errors.ts"
import { byOrigin } from "./extend.ts"
import { tellTrimmed } from "./member.ts"
import { settle } from "./order.ts"
import { Sizes } from "./sizes.ts"
import type { Heeds, Ring } from "./bell.ts"
import type { Looks } from "./looks.ts"

/** What the log shows when it was claimed. */
export interface Found extends Pick<Owner, "fence" | "heldBack" | "parked"> {}

export interface Running extends Pick<Owner, "fetch" | "settle" | "extend" | "mark"> {
  /** Something may have come. Says whether a fetch was waiting for it. */
  readonly ring: Ring
  readonly heeds: Heeds
  /** Nothing is to be told to the log any more, but what is held. */
  readonly close: Effect.Effect<void>
}

const releaseOf = (entry: Entry): Settlement => ({ entry, outcome: { _tag: "Release" }, repeated: false })

/** Id, delivery count and fields, as `draw` has what was given back. */
const forGiven = (row: Reply, f: (id: string, count: number, fields: Codec.Fields) => void): void => {
  if (!Array.isArray(row)) return
  forRow([row[0], row[2]], (id, fields) => f(id, Number(row[1]), fields))
}

/** `looks`: when the log is looked at though nothing rang. */
export const make = (claim: Claim, looks: Looks): Running => {
  const { client } = claim.member
  const mainSizes = new Sizes()
  const retrySizes = new Sizes()
  let rung = true
  let waiter: (() => void) | undefined
  let lost = false
  let closed = false
  /** A read that nobody waits for any more, and the giving back of what it brings. */
  let leftover: Promise<void> | undefined

  const ring: Ring = (news) => {
    if (news === "due") return false
    rung = true
    if (waiter === undefined) return false
    waiter()
    return true
  }

  interface Batch extends Fetched {
    readonly trimmed: number
  }

  /** Extends what is held, and tells what is not any more. */
  const lostOf = async (entries: ReadonlyArray<RedisEntry>): Promise<ReadonlyArray<RedisEntry> | "lost"> => {
    const gone: Array<RedisEntry> = []
    for (let at = 0; at === 0 || at < entries.length; at += Scripts.maxIds) {
      const chunk = entries.slice(at, at + Scripts.maxIds)
      const { fenced, lost: ids } = await client.execute(Scripts.extend, {
        ...claim.proof,
        ...byOrigin(chunk)
      })
      if (!fenced) return "lost"
      for (const entry of chunk) if (ids[entry.origin].includes(entry.id)) gone.push(entry)
    }
    return gone
  }

  const draw = async (limit: OwnerLimit): Promise<Batch | "lost"> => {
    if (!claim.held.isSurveyed()) {
      await claim.held.survey(async (entries) => {
        const gone = await lostOf(entries)
        return gone === "lost" ? entries : gone
      })
    }
    rung = false
    const make = claim.reading()
    const asked = performance.now()
    const count = Math.min(limit.count, Scripts.maxIds)
    const retries = retrySizes.count(count, limit.bytes)
    const mains = limit.unread ? mainSizes.count(count, limit.bytes) : 0
    const drawn = await client.here.execute(Scripts.draw, {
      ...claim.proof,
      count,
      bytes: limit.bytes,
      alone: limit.alone,
      maxAttempts: limit.maxAttempts,
      retries,
      mains
    })
    // what took longer than a lease may have been taken from here meanwhile, and the log with it
    const isLate = performance.now() - asked >= claim.member.visibilityTimeout
    if (typeof drawn === "string" || isLate) return "lost"
    const entries: Array<RedisEntry> = []
    for (const origin of ["main", "retry"] as const) {
      for (const row of drawn.given[origin]) {
        forGiven(row, (id, count, fields) => void entries.push(make(origin, id, count, fields)))
      }
    }
    for (const origin of ["retry", "main"] as const) {
      let bytes = 0
      for (const row of drawn.unread[origin]) {
        forRow(row, (id, fields) => {
          const entry = make(origin, id, 1, fields)
          bytes += entry.size
          entries.push(entry)
        })
      }
      const sizes = origin === "main" ? mainSizes : retrySizes
      sizes.learn(origin === "main" ? mains : retries, drawn.unread[origin].length, bytes)
    }
    return { entries, suspects: drawn.suspects, trimmed: drawn.trimmed }
  }

  const giveBack = async (batch: Batch | "lost") => {
    if (batch === "lost") lost = true
    else {
      const [first, ...rest] = batch.entries.map(releaseOf)
      if (first === undefined) return
      const settled = await Effect.runPromise(settle(claim, [first, ...rest], () => {}))
      if (settled.some((one) => one !== "done")) lost = true
    }
  }

  /** One read. Where its fiber is interrupted meanwhile, what it brings is given back. */
  const read = (limit: OwnerLimit): Effect.Effect<Batch | "lost", TransportError> =>
    Effect.suspend(() => {
      const reading = draw(limit).catch((error: unknown) => {
        // the log is at another server now, which is asked for what it knows of first: nothing was read
        if (isElsewhere(error)) return draw(limit)
        throw error
      })
      return Effect.onInterrupt(Effect.interruptible(client.attempt("fetch", () => reading)), () =>
        Effect.sync(() => {
          const mine = reading
            .then(giveBack)
            .catch(() => {
              lost = true
            })
            .finally(() => {
              if (leftover === mine) leftover = undefined
            })
          leftover = mine
        })
      )
    })

  const wait = Effect.callback<void>((resume) => {
    if (rung) return resume(Effect.void)
    const forget = looks.next(() => done())
    const done = () => {
      forget()
      waiter = undefined
      resume(Effect.void)
    }
    waiter = done
    return Effect.sync(() => {
      forget()
      waiter = undefined
    })
  })

  const end = Effect.sync((): "lost" => {
    lost = true
    return "lost"
  })

  const fetch = (limit: OwnerLimit): Effect.Effect<Fetched | "lost", TransportError> =>
    Effect.suspend(() => {
      if (lost) return end
      if (leftover !== undefined) {
        const before = leftover
        return Effect.andThen(Effect.interruptible(Effect.promise(() => before)), fetch(limit))
      }
      return read(limit).pipe(
        Effect.matchEffect({
          // what the read delivered, if it did, is known to nobody
          onFailure: (error) => (error.reason._tag === "Unknown" || isGone(error) ? end : Effect.fail(error)),
          onSuccess: (batch): Effect.Effect<Fetched | "lost", TransportError> => {
            if (batch === "lost") return end
            const next =
              batch.entries.length > 0 || batch.suspects || limit.alone
                ? Effect.succeed(batch)
                : Effect.andThen(Effect.interruptible(wait), fetch(limit))
            return batch.trimmed === 0 ? next : Effect.andThen(tellTrimmed(claim.member, batch.trimmed), next)
          }
        })
      )
    })

  const extend = (entries: ReadonlyArray<Entry>) =>
    client
      .attempt("extend", (): Promise<ReadonlyArray<Entry> | "lost"> => lostOf(entries.map(own)))
      .pipe(
        Effect.catchIf(isGone, () => Effect.succeed("lost" as const)),
        Effect.tap((answer) => (answer === "lost" ? end : Effect.void))
      )

  return {
    ring,
    heeds: (news) => news !== "due",
    fetch,
    settle: (settlements) => settle(claim, settlements, () => void ring("given")),
    extend,
    mark: (origin, started) =>
      Effect.suspend(() =>
        // a mark speaks of what this claim holds, and would be taken for one of the next
        closed
          ? Effect.succeed("lost")
          : Effect.flatMap(client.run(Scripts.mark, { ...claim.proof, origin, started }), (stands) =>
              stands ? Effect.succeed("done") : end
            )
      ),
    close: Effect.suspend(() => {
      closed = true
      lost = true
      // of what was trimmed the log has nothing to give back
      const [first, ...rest] = claim.held.all().map(releaseOf)
      return first === undefined ? Effect.void : Effect.ignore(settle(claim, [first, ...rest], () => {}))
    })
  }
}
