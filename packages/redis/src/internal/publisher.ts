/**
 * Publishing in batches that nobody waits for.
 *
 * What is published to one log within one turn of the event loop leaves in one script call. A second call may be under
 * way before the first is answered; what comes meanwhile gathers for the next. A single message therefore leaves at once,
 * and a flood leaves in large calls, in order.
 */
import type { TransportError } from "@clutch/core/Errors"
import type { Outgoing, Published, Replication, Retention } from "@clutch/core/Transport"
import type { NonEmptyReadonlyArray } from "effect/Array"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { Codec } from "../Codec.ts"
import type { Connection, RedisClient } from "../RedisClient.ts"
import type { LogKeys } from "../RedisKeys.ts"
import * as Scripts from "../Scripts.ts"
import * as Connections from "./connection.ts"

/** How much of several publishes one call carries. A publish is not split: it is stored wholly or not at all. */
const maxEntries = 256
const maxBytes = 1024 * 1024

/** Calls of one log that may be under way. One where replicas are waited for: what comes meanwhile waits together. */
const maxInFlight = 2
const limitOf = ({ replication }: Lane): number => (replication === undefined ? maxInFlight : 1)

/** How long the connection that waits for replicas may take to be made, in milliseconds. */
const firstConnect = 1000

interface Pending {
  readonly entries: ReadonlyArray<ReadonlyArray<string>>
  readonly size: number
  readonly retention: Retention
  readonly done: (result: Effect.Effect<Published, TransportError>) => void
  abandoned: boolean
}

/** What is published to one log, and how many replicas are waited for with it. */
interface Lane {
  readonly name: string
  readonly keys: LogKeys
  readonly connection: Connection
  readonly replication: Connections.Replication | undefined
  readonly queue: Array<Pending>
  inFlight: number
  scheduled: boolean
}

export type Publish = (
  keys: LogKeys,
  messages: NonEmptyReadonlyArray<Outgoing>,
  retention: Retention,
  replication: Replication | undefined
) => Effect.Effect<Published, TransportError>

const millis = (age: Duration.Duration | undefined) => (age === undefined ? -1 : Duration.toMillis(age))
const alike = (a: Retention, b: Retention): boolean =>
  a === b || (a.maxLength === b.maxLength && millis(a.maxAge) === millis(b.maxAge))

export const make = (client: Pick<RedisClient["Service"], "at" | "replicating">, codec: Codec): Publish => {
  const lanes = new Map<string, Lane>()

  /** The longest run of publishes that one call may carry. */
  const batch = (lane: Lane): ReadonlyArray<Pending> => {
    const chosen: Array<Pending> = []
    let entries = 0
    let size = 0
    for (;;) {
      const next = lane.queue[0]
      if (next === undefined) break
      const first = chosen[0]
      if (next.abandoned) {
        lane.queue.shift()
        continue
      }
      if (first !== undefined) {
        if (entries + next.entries.length > maxEntries || size + next.size > maxBytes) break
        if (!alike(first.retention, next.retention)) break
      }
      lane.queue.shift()
      chosen.push(next)
      entries += next.entries.length
      size += next.size
    }
    return chosen
  }

  const store = ({ connection, replication }: Lane, input: Scripts.Publish): Promise<Published> =>
    replication === undefined
      ? connection.execute(Scripts.publish, input)
      : connection
          .replicate(Scripts.publish, input, replication)
          .then(({ confirmed, problem, result }) => ({ ...result, replicated: { confirmed, problem } }))

  const send = (lane: Lane, chosen: ReadonlyArray<Pending>): void => {
    const entries = chosen.flatMap((one) => one.entries)
    const [first, ...rest] = entries
    const retention = chosen[0]?.retention
    if (first === undefined || retention === undefined) return
    lane.inFlight += 1
    const settle = (result: Effect.Effect<Published, TransportError>) => {
      for (const one of chosen) one.done(result)
    }
    store(lane, { keys: lane.keys, entries: [first, ...rest], retention })
      .then(
        ({ ids, replicated, trimmed }) => {
          let at = 0
          for (const one of chosen) {
            // what the call trimmed is told once
            const mine = { ids: ids.slice(at, at + one.entries.length), trimmed: at === 0 ? trimmed : 0, replicated }
            at += one.entries.length
            one.done(Effect.succeed(mine))
          }
        },
        (error: unknown) => settle(Effect.suspend(() => Effect.fail(lane.connection.explain("publish", error))))
      )
      .finally(() => {
        lane.inFlight -= 1
        flush(lane)
      })
  }

  const flush = (lane: Lane): void => {
    lane.scheduled = false
    while (lane.inFlight < limitOf(lane) && lane.queue.length > 0) send(lane, batch(lane))
    if (lane.inFlight === 0 && lane.queue.length === 0) lanes.delete(lane.name)
  }

  const laneOf = (keys: LogKeys, replication: Replication | undefined): Lane => {
    const wanted = replication && {
      replicas: replication.replicas,
      within: Math.ceil(Duration.toMillis(replication.within))
    }
    const name = wanted === undefined ? keys.main : `${keys.main} ${wanted.replicas} ${wanted.within}`
    const found = lanes.get(name)
    if (found !== undefined) return found
    const connection = wanted === undefined ? client.at(keys.main) : client.replicating(keys.main)
    return { name, keys, connection, replication: wanted, queue: [], inFlight: 0, scheduled: false }
  }

  const enqueue = (
    keys: LogKeys,
    messages: NonEmptyReadonlyArray<Outgoing>,
    retention: Retention,
    replication: Replication | undefined
  ) =>
    Effect.callback<Published, TransportError>((resume) => {
      const lane = laneOf(keys, replication)
      if (!lane.connection.isReady()) return resume(Effect.fail(lane.connection.unavailable("publish")))
      lanes.set(lane.name, lane)
      let size = 0
      for (const message of messages) size += message.data.length
      const pending: Pending = { entries: messages.map(codec.encode), size, retention, done: resume, abandoned: false }
      lane.queue.push(pending)
      if (!lane.scheduled && lane.inFlight < limitOf(lane)) {
        lane.scheduled = true
        queueMicrotask(() => flush(lane))
      }
      // what is under way cannot be taken back
      return Effect.sync(() => {
        pending.abandoned = true
      })
    })

  /** The connection that waits for replicas is made when it is first used. */
  const begun = (keys: LogKeys) =>
    Effect.suspend(() => {
      const connection = client.replicating(keys.main)
      if (connection.isReady() || !client.at(keys.main).isReady()) return Effect.void
      return Effect.timeoutOption(Connections.whenReady(connection, "publish"), firstConnect)
    })

  return (keys, messages, retention, replication) => {
    const send = enqueue(keys, messages, retention, replication)
    return replication === undefined ? send : Effect.andThen(begun(keys), send)
  }
}
