/**
 * One connection that hears messages for all logs that anybody here waits for, so that a log costs nothing while another
 * rings.
 *
 * Whoever gives a log's readers something to do leaves a mark under the bell's key and sends a message, which the
 * servers of a cluster pass on to each other; while the mark is there, nobody sends another. Whoever hears it removes the
 * mark first and then reads until nothing is left: what is written after the removal rings again. A mark goes by itself
 * after a second, so that a message that got lost silences a log no longer than that.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { RedisClient } from "../RedisClient.ts"
import { codeOf } from "./connection.ts"
import { pause } from "./time.ts"

/** A connection that only listens would not notice a server that fell silent: it is asked this often, in milliseconds. */
const ping = 5000

/** While nobody waits, rings are this far apart at least, in milliseconds: each costs a command. */
const busyPause = 2

/** How soon a refusal of the server is tried again, in milliseconds. */
const refusedPause = 1000

/** How many bells one command names. */
const page = 500

/**
 * What a bell tells: new entries; others that were given back, or are retried; that something is due before what was known;
 * that anything may have happened, since another program rang; and the same, since one only begins to listen.
 */
export type News = "new" | "given" | "due" | "anything" | "listening"

const newsOf = (text: string): News => (text === "new" || text === "given" || text === "due" ? text : "anything")

/** What is called; it says whether somebody was waiting for it. */
export type Ring = (news: News) => boolean

/** Whether more news of this kind within the next second would matter. */
export type Heeds = (news: News) => boolean

export interface Bell {
  /** Calls `ring` after each ring of a bell that anybody heeds, and when listening has begun, as after each connect. */
  readonly register: (key: string, ring: Ring, heeds?: Heeds) => Effect.Effect<void, never, Scope.Scope>
}

interface Watched {
  readonly rings: Map<Ring, Heeds>
  /** Nobody waited when it last rang, and when that was. */
  busy: boolean
  rung: number
  /** What was heard and is not told yet, as somebody is busy. */
  readonly gathered: Set<News>
  timer: NodeJS.Timeout | undefined
  readonly stop: () => void
}

export const make = Effect.fnUntraced(function* (client: RedisClient["Service"]) {
  const connection = yield* client.open("bell")
  const watched = new Map<string, Watched>()
  /** What to listen to, and what to listen to no longer, when there is a connection. */
  let fresh = new Set<string>()
  let stale = new Set<string>()
  let epoch = -1

  /** Removes the mark and rings; in this order, and over one connection. */
  const ring = (key: string, one: Watched, news: ReadonlyArray<News>): void => {
    const calls = Array.from(one.rings)
    const server = client.at(key)
    let waited = false
    server.gather(() => {
      if (calls.some(([, heeds]) => news.some(heeds))) {
        // it goes by itself, or with the connection, and a new one rings
        server.submit("DEL", [key]).catch(() => {})
      }
      for (const what of news) for (const [call] of calls) waited = call(what) || waited
    })
    one.busy = !waited
    one.rung = performance.now()
  }

  connection.onMessage((key, text) => {
    const one = watched.get(key)
    if (one === undefined) return
    const since = performance.now() - one.rung
    if (one.timer === undefined && (!one.busy || since >= busyPause)) return ring(key, one, [newsOf(text)])
    one.gathered.add(newsOf(text))
    one.timer ??= setTimeout(() => {
      one.timer = undefined
      const news = Array.from(one.gathered)
      one.gathered.clear()
      ring(key, one, news)
    }, busyPause - since)
  })

  /** Begins to listen, and rings: what came before is read, and what comes after is heard. Those that are refused. */
  const listen = async (keys: ReadonlyArray<string>): Promise<ReadonlyArray<string>> => {
    try {
      await connection.submit("subscribe", keys)
    } catch (error) {
      if (codeOf(error) === undefined) throw error
      // a forbidden one must not stop the others
      const apart: Array<string> = []
      if (keys.length > 1) for (const key of keys) apart.push(...(await listen([key])))
      return keys.length > 1 ? apart : keys
    }
    for (const key of keys) {
      const one = watched.get(key)
      if (one !== undefined) ring(key, one, ["listening"])
    }
    return []
  }

  let refused: ReadonlyArray<string> = []
  /** How many milliseconds to stay away then, where nothing changes. */
  const round = connection.attempt("bell", async () => {
    if (connection.epoch() !== epoch) {
      epoch = connection.epoch()
      fresh = new Set(watched.keys())
      stale = new Set()
    }
    for (const key of refused) if (watched.has(key)) fresh.add(key)
    const [added, removed] = [Array.from(fresh), Array.from(stale)]
    fresh = new Set()
    stale = new Set()
    refused = []
    if (added.length + removed.length === 0) await connection.submit("ping", [])
    for (let at = 0; at < removed.length; at += page) {
      await connection.submit("unsubscribe", removed.slice(at, at + page))
    }
    for (let at = 0; at < added.length; at += page) {
      refused = [...refused, ...(await listen(added.slice(at, at + page)))]
    }
    return refused.length > 0 ? refusedPause : ping
  })

  let failures = 0
  let wake: (() => void) | undefined
  const stir = () => {
    const waiting = wake
    wake = undefined
    waiting?.()
  }
  /** Until there is a connection. */
  const idle: Effect.Effect<void> = Effect.callback((resume) => {
    if (connection.isReady()) return resume(Effect.void)
    // by a new log too, which does not make it stand
    wake = () => resume(idle)
  })
  const rest = (milliseconds: number) =>
    Effect.callback<void>((resume) => {
      if (fresh.size + stale.size > 0) return resume(Effect.void)
      const timer = setTimeout(() => resume(Effect.void), milliseconds)
      wake = () => {
        clearTimeout(timer)
        resume(Effect.void)
      }
      return Effect.sync(() => clearTimeout(timer))
    })

  yield* Effect.acquireRelease(
    Effect.sync(() => connection.onReady(stir)),
    (stop) =>
      Effect.sync(() => {
        stop()
        for (const one of watched.values()) clearTimeout(one.timer)
      })
  )
  yield* Effect.andThen(idle, round).pipe(
    Effect.flatMap((away) => {
      failures = 0
      return rest(away)
    }),
    Effect.catchDefect((defect) =>
      Effect.andThen(Effect.logFatal("listening to bells died of a defect, and goes on", defect), Effect.fail("defect"))
    ),
    Effect.catch(() => {
      // all of it is said again
      epoch = -1
      failures += 1
      return pause(Math.min(25 * 2 ** failures, refusedPause))
    }),
    Effect.forever,
    Effect.forkScoped
  )

  const watch = (key: string): Watched => {
    const found = watched.get(key)
    if (found !== undefined) return found
    // at another server, or after a failover, rings may have got lost
    const stop = client.at(key).onReady(() => ring(key, one, ["listening"]))
    const one: Watched = { rings: new Map(), busy: false, rung: -Infinity, gathered: new Set(), timer: undefined, stop }
    watched.set(key, one)
    return one
  }

  return {
    register: (key, call, heeds = () => true) =>
      Effect.acquireRelease(
        Effect.sync(() => {
          watch(key).rings.set(call, heeds)
          stale.delete(key)
          // a second watcher of a log has not had the ring that the first one had
          fresh.add(key)
          stir()
        }),
        () =>
          Effect.sync(() => {
            const one = watched.get(key)
            one?.rings.delete(call)
            if (one === undefined || one.rings.size > 0) return
            one.stop()
            clearTimeout(one.timer)
            watched.delete(key)
            fresh.delete(key)
            stale.add(key)
            stir()
          })
      )
  } satisfies Bell
})
