/**
 * Tending, and being told when it may be worth it.
 *
 * Moving what is due is cheap and done at each call. Looking at all consumers is not: it is done when a lease may end. Where
 * nothing is pending, no lease will; but then something may be taken at any time after a ring. So a scan follows soon after
 * a ring, and others after longer and longer gaps, until the next ring.
 */
import type { TransportError } from "@clutch/core/Errors"
import type { Group, Log, Tended } from "@clutch/core/Transport"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import * as Keys from "../RedisKeys.ts"
import * as Scripts from "../Scripts.ts"
import { reported } from "./errors.ts"
import { untilLook } from "./looks.ts"
import type { Shared } from "./shared.ts"
import type { Ring } from "./bell.ts"

/** Milliseconds between two scans of a group at least; after a ring; and where none rings, as all groups share the cost. */
const least = 250
const afterRing = (groups: number): number => Math.max(1000, 20 * groups)
const atMost = (groups: number): number => untilLook(Math.max(15_000, 2000 * groups))

/** After an error that stopped the moving of retries, in milliseconds. */
const afterProblem = 1000

/** A log in use rings often; its watchers are told this often at most, in milliseconds. */
const quiet = 20

interface Progress {
  cursor: string | undefined
  /** When the last ring was taken into account. */
  rung: number
  /** Until the scan after the next one. */
  gap: number
  nextScan: number
}

/** What is known of a log, as long as somebody here watches or tends it. */
interface Known {
  watchers: number
  /** When it last rang, and when that was heard: what was rung before anybody listened is not. */
  rung: { readonly at: number; readonly heardAt: number } | undefined
  /** Of each of its groups, by its state hash. */
  readonly groups: Map<string, Progress>
}

export interface Tending {
  readonly tend: (group: Group) => Effect.Effect<Tended, TransportError>
  readonly watch: (log: Log, changed: () => void) => Effect.Effect<void, TransportError, Scope.Scope>
}

export const make = (shared: Shared): Tending => {
  const { bell, client, namespace } = shared
  /** By main log; forgotten with its last watcher. */
  const logs = new Map<string, Known>()
  let watchers = 0

  const knownOf = (main: string): Known => {
    let found = logs.get(main)
    if (found === undefined) logs.set(main, (found = { watchers: 0, rung: undefined, groups: new Map() }))
    return found
  }
  const progressOf = (groups: Known["groups"], state: string): Progress => {
    let found = groups.get(state)
    if (found === undefined)
      groups.set(state, (found = { cursor: undefined, rung: -Infinity, gap: Infinity, nextScan: 0 }))
    return found
  }

  const tend = (group: Group): Effect.Effect<Tended, TransportError> =>
    Effect.suspend(() => {
      const keys = Keys.group(namespace, group)
      const { groups, rung } = knownOf(keys.main)
      const state = progressOf(groups, keys.state)
      const begun = performance.now()
      if (rung !== undefined && rung.at > state.rung) {
        // what was rung before the listening began is not heard: one scan sees what came of it
        if (rung.heardAt > state.rung) state.gap = afterRing(watchers)
        state.rung = rung.at
        state.nextScan = Math.min(state.nextScan, rung.at + afterRing(watchers))
      }
      const scan = state.cursor !== undefined || begun >= state.nextScan
      return Effect.flatMap(client.run(Scripts.tend, { keys, scan, cursor: state.cursor }), (result) => {
        const now = performance.now()
        if (scan) {
          state.cursor = result.cursor
          // nothing is held, and whoever takes something new is rung for: until then there is no hurry
          const nothingHeld = result.next === undefined && !result.more
          state.gap = nothingHeld ? atMost(watchers) : Math.min(state.gap * 3, atMost(watchers))
          state.nextScan = now + Math.max(least, Math.min(result.next ?? Infinity, state.gap))
        }
        const { moved, problem, reclaimed, removed } = result
        if (problem !== undefined && moved + reclaimed + removed === 0) {
          return Effect.fail(reported("tend", problem))
        }
        const wait = result.more ? 0 : Math.max(0, Math.min(result.next ?? Infinity, state.nextScan - now))
        const lost = result.trimmed + result.poison + result.mended
        const tended = {
          moved,
          reclaimed,
          removed,
          poison: result.poison,
          next: Option.some(Duration.millis(problem === undefined ? Math.ceil(wait) : afterProblem))
        }
        return lost === 0
          ? Effect.succeed(tended)
          : Effect.as(
              Effect.logWarning(
                `of "${keys.mainGroup}" on ${keys.main}, ${result.trimmed} deliveries of dead consumers had been trimmed, ` +
                  `${result.poison} unreadable retries became dead letters, ` +
                  `and ${result.mended} keys were held back by no message that is left`
              ),
              tended
            )
      })
    })

  const watch = (log: Log, changed: () => void): Effect.Effect<void, never, Scope.Scope> => {
    const { bell: key, main } = Keys.log(namespace, log)
    let timer: NodeJS.Timeout | undefined
    let planned = Infinity
    let last = -Infinity
    const tell = () => {
      clearTimeout(timer)
      timer = undefined
      planned = Infinity
      last = performance.now()
      changed()
    }
    const ring: Ring = (news) => {
      const now = performance.now()
      const known = knownOf(main)
      known.rung = { at: now, heardAt: news === "listening" ? (known.rung?.heardAt ?? -Infinity) : now }
      // of what is new, nothing is due, and no lease ends for a while
      const at = news === "new" ? now + afterRing(watchers) : last + quiet
      if (at <= now) tell()
      else if (at < planned) {
        clearTimeout(timer)
        planned = at
        timer = setTimeout(tell, at - now)
      }
      return false
    }
    return Effect.andThen(
      Effect.acquireRelease(
        Effect.sync(() => {
          watchers += 1
          knownOf(main).watchers += 1
        }),
        () =>
          Effect.sync(() => {
            watchers -= 1
            clearTimeout(timer)
            const known = knownOf(main)
            known.watchers -= 1
            if (known.watchers <= 0) logs.delete(main)
          })
      ),
      bell.register(key, ring, (news) => news !== "new")
    )
  }

  return { tend, watch }
}
