/**
 * One blocking read for all logs that anybody here waits for.
 *
 * A log's bell is a stream of one entry, written by whoever gives the log's readers something to do. For each log the
 * bell's last id is read first, then its watchers are rung, so that they read until nothing is left, and only then does
 * the blocking read begin, from that id: in any other order a ring between the two is lost.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { RedisClient } from "../RedisClient.ts"
import type { Reply } from "../Script.ts"
import { codeOf } from "./connection.ts"
import { pause } from "./time.ts"
import * as Unblock from "./unblock.ts"

/** How long one read blocks, in milliseconds. What goes unnoticed (a bell re-created with lower ids) waits for this long. */
const block = 5000

/** While nobody waits, rings may gather for this long, in milliseconds: each costs one read over all bells. */
const busyPause = 2

/** How soon a refusal of the server is tried again, in milliseconds. */
const refusedPause = 1000

/** What is called; it says whether somebody was waiting for it. `heard`: the bell rang, and not only the listening began. */
export type Ring = (heard: boolean) => boolean

export interface Bell {
  /** Calls `ring` after each ring of a bell, and when listening has begun, as after each connect. */
  readonly register: (key: string, ring: Ring) => Effect.Effect<void, never, Scope.Scope>
}

interface Watched {
  readonly rings: Set<Ring>
  /** The last id that was seen; none where it is to be read, `null` where the server refuses to. */
  last: string | null | undefined
}

/** `[[id, fields]]`, of XREVRANGE. */
const lastId = (reply: Reply): string => {
  const entry = Array.isArray(reply) ? reply[0] : undefined
  const id = Array.isArray(entry) ? entry[0] : undefined
  return Buffer.isBuffer(id) ? id.toString("latin1") : "0-0"
}

export const make = Effect.fnUntraced(function* (client: RedisClient["Service"]) {
  const connection = yield* client.open("bell", { block })
  const watched = new Map<string, Watched>()
  let blocked = false
  /** Something to block for was added since the running read began. */
  let stale = false
  let clientId: string | undefined
  let refusedAt = -Infinity

  const ring = (one: Watched, heard: boolean): boolean => {
    let waited = false
    for (const call of Array.from(one.rings)) waited = call(heard) || waited
    return waited
  }

  const unblock = Unblock.make(client, () => (blocked && stale ? clientId : undefined))

  /** Reads the last ids that are not known, and rings for them. */
  const learn = async () => {
    stale = false
    const again = performance.now() - refusedAt >= refusedPause * 0.9
    const fresh = Array.from(watched).filter(([, one]) => one.last === undefined || (again && one.last === null))
    await Promise.all(
      fresh.map(async ([key, one]) => {
        try {
          one.last = lastId(await connection.submit("XREVRANGE", [key, "+", "-", "COUNT", "1"]))
        } catch (error) {
          if (codeOf(error) === undefined) throw error
          // one key of another type, or a forbidden one, must not stop the others
          one.last = null
          refusedAt = performance.now()
        }
      })
    )
    for (const [, one] of fresh) ring(one, false)
  }

  /** Blocks until a bell rings. For how many milliseconds to stay away then. */
  const listen = async (): Promise<number> => {
    const keys: Array<string> = []
    const ids: Array<string> = []
    for (const [key, one] of watched) {
      if (typeof one.last !== "string") continue
      keys.push(key)
      ids.push(one.last)
    }
    if (keys.length === 0) return refusedPause
    blocked = true
    const reply = await connection.submit("XREAD", ["BLOCK", String(block), "STREAMS", ...keys, ...ids]).finally(() => {
      blocked = false
    })
    if (reply === null) {
      return 0
    }
    let waited = false
    for (const stream of Array.isArray(reply) ? reply : []) {
      if (!Array.isArray(stream)) continue
      const one = watched.get(String(stream[0]))
      if (one === undefined) continue
      const entries = stream[1]
      const id = Array.isArray(entries) ? lastId([entries.at(-1)]) : undefined
      if (id !== undefined) one.last = id
      waited = ring(one, true) || waited
    }
    return waited ? 0 : busyPause
  }

  let epoch = -1
  let failures = 0
  let wake: (() => void) | undefined
  const stir = () => {
    const waiting = wake
    wake = undefined
    waiting?.()
  }
  /** Until there is a connection, and something to listen to. */
  const idle: Effect.Effect<void> = Effect.callback((resume) => {
    if (watched.size > 0 && connection.isReady()) return resume(Effect.void)
    wake = () => resume(idle)
  })
  /** For a while, or until there is something else to listen to. */
  const rest = (milliseconds: number) =>
    Effect.callback<void>((resume) => {
      if (stale) return resume(Effect.void)
      const timer = setTimeout(() => resume(Effect.void), milliseconds)
      wake = () => {
        clearTimeout(timer)
        resume(Effect.void)
      }
      return Effect.sync(() => clearTimeout(timer))
    })
  const round = connection.attempt("bell", async () => {
    if (connection.epoch() !== epoch) {
      epoch = connection.epoch()
      for (const one of watched.values()) one.last = undefined
      // where it is forbidden, a new log is listened to when the running read ends
      clientId = await connection.submit("CLIENT", ["ID"]).then(String, () => undefined)
    }
    await learn()
    return stale ? 0 : await listen()
  })

  yield* Effect.acquireRelease(
    Effect.sync(() => connection.onReady(stir)),
    (stop) =>
      Effect.sync(() => {
        stop()
        unblock.close()
      })
  )
  yield* Effect.andThen(idle, round).pipe(
    Effect.flatMap((away) => {
      failures = 0
      return away === 0 ? Effect.void : away === busyPause ? pause(away) : rest(away)
    }),
    Effect.catch(() => {
      for (const one of watched.values()) one.last = undefined
      failures += 1
      return pause(Math.min(25 * 2 ** failures, refusedPause))
    }),
    Effect.forever,
    Effect.forkScoped
  )

  return {
    register: (key, call) =>
      Effect.acquireRelease(
        Effect.sync(() => {
          const one = watched.get(key) ?? { rings: new Set(), last: undefined }
          watched.set(key, one)
          one.rings.add(call)
          // a second watcher of a log has not had the ring that the first one had
          one.last = undefined
          stale = true
          stir()
          unblock.poke()
        }),
        () =>
          Effect.sync(() => {
            const one = watched.get(key)
            one?.rings.delete(call)
            if (one?.rings.size === 0) watched.delete(key)
          })
      )
  } satisfies Bell
})
