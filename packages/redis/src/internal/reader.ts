/**
 * Fetching: what waits for anybody first, then retries, then new entries; and waiting where there is nothing.
 *
 * A read that was issued is finished, whoever was interrupted: what it brings is handed to the next fetch, or given back.
 */
import type { TransportError } from "@clutch/core/Errors"
import type { Entry, Fetched, FetchLimit } from "@clutch/core/Transport"
import * as Effect from "effect/Effect"
import type { Reply } from "../Script.ts"
import * as Scripts from "../Scripts.ts"
import * as Entries from "./entry.ts"
import type { RedisEntry } from "./entry.ts"
import * as Blocking from "./blocking.ts"
import { codeOf, isElsewhere } from "./connection.ts"
import { isGone } from "./errors.ts"
import { lostOf } from "./extend.ts"
import { heal, tellCreated } from "./member.ts"
import type { Member } from "./member.ts"
import { recoverFrom, tell } from "./recover.ts"
import type { Recovered } from "./recover.ts"
import type { Heeds, Ring } from "./bell.ts"
import type { Looks } from "./looks.ts"
import { giveBack } from "./settle.ts"
import { Sizes } from "./sizes.ts"

/** Under load, what was released and what is retried is looked for this often, in milliseconds. */
const checkEvery = 10

/** How much is left for these in a read of new entries that does not wait for them: as much as came last time, and this. */
const spare = 16

/** Of so many new entries at once, the next are not waited for where one is woken the soonest, but read with all else. */
const many = 64

export interface Reader {
  readonly fetch: (limit: FetchLimit) => Effect.Effect<Fetched, TransportError>
  /** Something may have come. Says whether a fetch was waiting for it. */
  readonly ring: Ring
  readonly heeds: Heeds
  /** Released and retried entries are to be looked for next, before new ones. */
  readonly expect: () => void
  /** The pending list is to be compared with what is held, before the next read. */
  readonly suspect: () => void
  /** Does so now, where nobody fetches. */
  readonly review: Effect.Effect<void, TransportError>
  /** Ends a read that blocks, and waits for that: behind it, nothing is delivered here. For when nobody fetches. */
  readonly close: Effect.Effect<void>
}

interface Batch {
  readonly entries: ReadonlyArray<RedisEntry>
  readonly suspects: boolean
  readonly alone: boolean
}

export const make = (
  member: Member,
  /** Where new entries may be waited for without a bell. */
  blocking: Blocking.Blocking,
  /** When new entries are looked for though nothing rang; after four times as long, all is looked at. */
  looks: Looks
): Reader => {
  const { client, consumer, keys } = member
  const mainSizes = new Sizes()
  const retrySizes = new Sizes()
  /** New entries may wait; false where the last read came to their end, and nothing rang since. */
  let fresh = true
  /** Released or retried ones may wait, since it rang. */
  let rung = true
  /** They do wait, as far as one knows: no ring will tell of them again. */
  let expected = true
  let lastCheck = -Infinity
  let suspects = false
  /** How many the last look at all of these brought. */
  let given = { taken: 0, retried: 0 }
  let waiter: (() => void) | undefined
  let active = false
  let reading: Promise<void> | undefined
  let ready: Batch | undefined
  /** Many wait, as far as one knows: nothing is waited for by a read that blocks. */
  let busy = true
  /** When the last new ones came. */
  let came = -Infinity
  let turn: Blocking.Turn | undefined
  /** The last read that blocked brought few. */
  let few = false
  /** A reply may have got lost. */
  let unsure = false
  /** Reads blocked, so that nobody took the mark of a ring for new entries away. */
  let deaf = false
  /** What is to be logged, and happened where that could not be done. */
  let untold: Recovered = { released: 0, trimmed: 0 }
  const tellLater = ({ released, trimmed }: Recovered) => {
    untold = { released: untold.released + released, trimmed: untold.trimmed + trimmed }
  }
  let doubt: NodeJS.Timeout | undefined
  const doubtful = (millis: number) => {
    clearTimeout(doubt)
    doubt = setTimeout(suspect, millis).unref()
  }
  /** As long as the server has not noticed that a connection is lost, it delivers to who is gone: compared once more then. */
  const lost = () => doubtful(Blocking.longest)
  /** What could not be given back is held by nobody here. */
  const kept = () => doubtful(500)
  /** What was written to a connection that is lost may come to the server later. */
  const unheard = (error: unknown): never => {
    if (codeOf(error) === undefined && !isElsewhere(error)) lost()
    throw error
  }
  /** A read that blocks is to end, whether something came or not. */
  const isAwaited = () => rung || expected || unsure

  // ---------------------------------------------------------------------------
  // single reads
  // ---------------------------------------------------------------------------

  const collect =
    (origin: Entry["origin"], sizes: Sizes, asked: number, make: ReturnType<Member["reading"]>) =>
    (reply: Reply): Array<RedisEntry> => {
      const entries: Array<RedisEntry> = []
      let bytes = 0
      Entries.forEachRead(reply, (id, fields) => {
        const entry = make(origin, id, 1, fields)
        bytes += entry.size
        entries.push(entry)
      })
      sizes.learn(asked, entries.length, bytes)
      if (origin === "main" && entries.length > 0) came = performance.now()
      // more may wait behind these, and nothing will ring for it again
      if (entries.length === asked) {
        if (origin === "retry") expected = true
        else fresh = true
      }
      return entries
    }

  /** Where nobody waits any more, the consumer may be leaving: a read behind that would make it again, for nobody. */
  const skipped = async (): Promise<Array<RedisEntry>> => {
    missed()
    return []
  }

  const read = (origin: Entry["origin"], count: number, bytes: number): Promise<Array<RedisEntry>> => {
    if (!active) return skipped()
    const sizes = origin === "main" ? mainSizes : retrySizes
    const asked = sizes.count(count, bytes)
    const group = origin === "main" ? keys.mainGroup : keys.retryGroup
    // before the read: what rings while it runs is not in it
    if (origin === "main") fresh = false
    return client.here
      .submit("XREADGROUP", ["GROUP", group, consumer, "COUNT", String(asked), "STREAMS", keys[origin], ">"])
      .then(collect(origin, sizes, asked, member.reading()), unheard)
  }

  const take = async (count: number, limit: FetchLimit): Promise<Array<RedisEntry>> => {
    if (!active) return skipped()
    const make = member.reading()
    const taken = await client.here
      .execute(Scripts.take, {
        keys,
        consumer,
        count: Math.min(count, Scripts.maxIds),
        bytes: limit.bytes,
        alone: limit.alone,
        maxAttempts: limit.maxAttempts
      })
      .catch(unheard)
    suspects = taken.suspects
    if (taken.more) expected = true
    tellLater({ released: 0, trimmed: taken.trimmed })
    return taken.entries.map((one) => make(one.origin, one.id, one.count, one.fields))
  }

  /** New entries, waited for until there are some or somebody rings. */
  const block = async (there: Blocking.Turn, limit: FetchLimit): Promise<Array<RedisEntry>> => {
    // the handlers of a few are not worth reading meanwhile, and would wait for this write
    if (few) await Promise.resolve()
    // what it brought would be given back
    if (!active) return []
    const asked = mainSizes.count(limit.count, limit.bytes)
    const collected = collect("main", mainSizes, asked, member.reading())
    const args = ["GROUP", keys.mainGroup, consumer, "COUNT", String(asked)]
    const reply = await there
      .read([...args, "BLOCK", String(Blocking.longest), "STREAMS", keys.main, ">"])
      .catch((error: unknown) => {
        // the log is at another server now, where this connection goes: nothing was read
        if (isElsewhere(error)) return null
        if (codeOf(error) !== undefined) throw error
        // whether it is more than this connection that is lost shows in what is asked next
        unsure = true
        lost()
        return null
      })
    const entries = collected(reply)
    few = entries.length < 16
    // of one at a time, the next costs no more here than elsewhere
    busy = entries.length >= Math.max(2, Math.min(asked, many))
    return entries
  }

  /** What a lost connection had read, and did not deliver, is given back. */
  const recovered = async (): Promise<void> => {
    unsure = false
    try {
      for (const origin of ["main", "retry"] as const) tellLater(await recoverFrom(member, origin))
    } catch (error) {
      unsure = true
      throw error
    }
  }

  // ---------------------------------------------------------------------------
  // one round
  // ---------------------------------------------------------------------------

  /** What was to be looked at was not, and nothing rings for it again. */
  const missed = () => {
    expected = true
    fresh = true
  }

  const bytesOf = (entries: ReadonlyArray<RedisEntry>) => entries.reduce((sum, one) => sum + one.size, 0)

  /** One after the other, as far as the limit goes. */
  const inOrder = async (limit: FetchLimit, main: boolean): Promise<Array<RedisEntry>> => {
    const entries = await take(limit.count, limit)
    given = { taken: entries.length, retried: 0 }
    for (const origin of main ? (["retry", "main"] as const) : (["retry"] as const)) {
      const count = limit.count - entries.length
      const bytes = limit.bytes - bytesOf(entries)
      if (count <= 0 || (bytes <= 0 && entries.length > 0)) {
        // what was not looked at is looked at next: nothing rings for it again
        expected = true
        return entries
      }
      try {
        const more = await read(origin, count, bytes)
        if (origin === "retry") given = { ...given, retried: more.length }
        for (const one of more) entries.push(one)
      } catch (error) {
        // what was taken is delivered; the next round meets the error again
        if (entries.length === 0) throw error
        missed()
        return entries
      }
    }
    return entries
  }

  /** How many of these, from the first on, the limit allows. */
  const fitting = (entries: ReadonlyArray<RedisEntry>, limit: FetchLimit): number => {
    let bytes = 0
    for (const [i, { size }] of entries.entries()) {
      if (i === limit.count || (i > 0 && bytes >= limit.bytes)) return i
      bytes += size
    }
    return entries.length
  }

  /** So many of each in one round trip. What is too much is given back. */
  const beside = async (
    limit: FetchLimit,
    count: { readonly given: number; readonly retried: number; readonly unread: number }
  ): Promise<Array<RedisEntry>> => {
    const reads: Array<Promise<Array<RedisEntry>>> = []
    client.gather(() => {
      reads.push(take(count.given, limit), read("retry", count.retried, limit.bytes))
      if (count.unread > 0) reads.push(read("main", count.unread, limit.bytes))
    })
    const results = await Promise.allSettled(reads)
    const [taken = [], retried = [], unread = []] = results.map((one) => (one.status === "fulfilled" ? one.value : []))
    given = { taken: taken.length, retried: retried.length }
    const entries = [...taken, ...retried, ...unread]
    const failure = results.find((result) => result.status === "rejected")
    if (failure !== undefined) {
      if (entries.length === 0) throw failure.reason
      missed()
    }
    const surplus = entries.splice(fitting(entries, limit))
    if (surplus.length > 0) giveBack(member, surplus, kept)
    return entries
  }

  /** As many new ones as probably fit beside what was given back or is retried. */
  const together = async (limit: FetchLimit, main: boolean): Promise<Array<RedisEntry>> => {
    const unread = main ? limit.count - spare - 2 * (given.taken + given.retried) : 0
    const entries = await beside(limit, { given: limit.count, retried: limit.count, unread })
    return entries.length > 0 || !main || unread > 0 ? entries : read("main", limit.count, limit.bytes)
  }

  /** Where both are many, new ones do not wait for what is retried: while Redis moves those, these are handled. */
  const halves = (limit: FetchLimit): Promise<Array<RedisEntry>> => {
    const retried = Math.ceil((limit.count - spare) / 2)
    return beside(limit, { given: spare, retried, unread: limit.count - spare - retried })
  }

  /** Whether the next new entries are waited for by a read that blocks. While others wait, they are read beside those. */
  const mayBlock = () => !busy && !expected && performance.now() - came <= blocking.recent && blocking.isFree()

  const round = async (limit: FetchLimit, woken: boolean): Promise<ReadonlyArray<RedisEntry>> => {
    if (!member.held.isSurveyed()) await member.held.survey((entries) => lostOf(member, entries))
    if (unsure) await recovered()
    if (limit.alone) return take(1, limit)
    turn = mayBlock() ? blocking.take(isAwaited) : undefined
    const blocks = turn !== undefined
    if (deaf && !blocks) {
      // while the mark is there, nobody rings
      fresh = true
      client.submit("DEL", [keys.bell]).catch(() => {})
    }
    deaf = blocks
    const now = performance.now()
    const since = now - lastCheck
    const due = expected || (rung && (woken || since >= checkEvery)) || since >= 4 * looks.interval()
    if (!blocks && !due && fresh) {
      const entries = await read("main", limit.count, limit.bytes)
      if (entries.length > 0) return entries
    }
    if (due || rung || expected) {
      const known = expected
      // before the reads: a ring that comes while they run is another one
      rung = false
      expected = false
      lastCheck = now
      const main = !blocks && fresh
      const both = main && given.taken === 0 && given.retried >= spare && limit.count >= 4 * spare
      const entries = await (known ? (both ? halves(limit) : inOrder(limit, main)) : together(limit, main))
      if (entries.length > 0 || suspects) return entries
    }
    if (turn !== undefined) return block(turn, limit)
    busy = false
    return []
  }

  // ---------------------------------------------------------------------------
  // fetching
  // ---------------------------------------------------------------------------

  const begin = (limit: FetchLimit, woken: boolean): Promise<void> => {
    const current = round(limit, woken)
      .then((entries) => {
        if (entries.length > 0 || limit.alone || suspects) ready = { entries, suspects, alone: limit.alone }
      })
      .catch((error: unknown) => {
        missed()
        // the log is at another server now, which is asked next for what it knows of: nothing was read
        if (!isElsewhere(error)) throw error
      })
      .finally(() => {
        turn?.leave()
        turn = undefined
        reading = undefined
        // whoever asked was interrupted, and nobody else asks
        if (active) return
        abandon()
        review().catch(() => {})
      })
    reading = current
    return current
  }

  const abandon = () => {
    if (ready === undefined) return
    const { entries } = ready
    ready = undefined
    giveBack(member, entries, kept)
  }

  /** The comparison that the next fetch would begin with, while there is none. */
  const review = (): Promise<void> => {
    if (!unsure || active || reading !== undefined) return Promise.resolve()
    const current = recovered().finally(() => {
      reading = undefined
    })
    reading = current
    return current
  }

  const suspect = () => {
    unsure = true
    turn?.wake()
    review().catch(() => {})
  }

  const wait = Effect.callback<void>((resume) => {
    // who was deaf takes the mark away first
    if (rung || expected || fresh || deaf || mayBlock()) return resume(Effect.void)
    const forget = looks.next(() => {
      // entries of somebody who does not ring
      fresh = true
      done()
    })
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

  const speak = Effect.suspend(() => {
    const told = untold
    untold = { released: 0, trimmed: 0 }
    return Effect.andThen(tellCreated(member), tell(member, told))
  })

  /** Until a batch is ready. */
  const prepare = (limit: FetchLimit, woken: boolean, healed: number): Effect.Effect<void, TransportError> =>
    Effect.suspend(() => {
      // a delivery that must run alone was read for a fetch that was interrupted, or the other way round
      if (ready !== undefined && ready.alone !== limit.alone) abandon()
      if (ready !== undefined) return Effect.void
      return client
        .attempt("fetch", () => reading ?? begin(limit, woken))
        .pipe(
          Effect.matchEffect({
            onFailure: (error) =>
              isGone(error) && healed < 3
                ? Effect.andThen(heal(member), prepare(limit, woken, healed + 1))
                : Effect.fail(error),
            onSuccess: () => {
              // also what is ready is looked at: it may have been read for another
              const again = () => prepare(limit, rung, 0)
              const next = ready === undefined ? Effect.flatMap(wait, again) : again()
              const isTold = untold.released + untold.trimmed === 0 && member.created === undefined
              return isTold ? next : Effect.andThen(speak, next)
            }
          })
        )
    })

  const claim = (limit: FetchLimit) =>
    Effect.sync((): Fetched => {
      active = false
      const batch = ready
      ready = undefined
      if (batch === undefined) return { entries: [], suspects }
      if (batch.entries.length <= limit.count) return batch
      giveBack(member, batch.entries.slice(limit.count), kept)
      return { entries: batch.entries.slice(0, limit.count), suspects: batch.suspects }
    })

  const wake = () => {
    if (turn === undefined) return
    rung = true
    turn.wake()
  }

  const stop = Effect.sync(() => {
    active = false
    if (reading === undefined) abandon()
    else wake()
  })

  return {
    fetch: (limit) =>
      Effect.suspend(() => {
        active = true
        // interruptible whatever the caller is: nothing is lost by it
        return Effect.flatMap(
          Effect.onExit(Effect.interruptible(prepare(limit, rung && lastCheck === -Infinity, 0)), (exit) =>
            exit._tag === "Failure" ? stop : Effect.void
          ),
          () => claim(limit)
        )
      }),
    ring: (news) => {
      if (news === "due") return false
      // a read that blocks sees by itself what is new
      if (news !== "given") fresh = true
      if (news !== "new") {
        rung = true
        turn?.wake()
      }
      if (waiter === undefined) return false
      waiter()
      return true
    },
    heeds: (news) => news !== "due" && !(news === "new" && deaf),
    expect: () => {
      expected = true
    },
    suspect,
    review: client.attempt("recover", review),
    close: Effect.suspend(() => {
      clearTimeout(doubt)
      if (turn === undefined) return Effect.void
      wake()
      return Effect.ignore(Effect.interruptible(Effect.tryPromise(() => reading ?? Promise.resolve())))
    })
  }
}
