/**
 * Publishing in batches that nobody waits for.
 *
 * What is published to one log within one turn of the event loop leaves in one script call. A second call may be under
 * way before the first is answered; what comes meanwhile gathers for the next. A single message therefore leaves at once,
 * and a flood leaves in large calls, in order.
 */
import type { TransportError } from "@clutch/core/Errors"
import type { Outgoing, Retention } from "@clutch/core/Transport"
import type { NonEmptyReadonlyArray } from "effect/Array"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { Codec } from "../Codec.ts"
import type { Connection, RedisClient } from "../RedisClient.ts"
import type { LogKeys } from "../RedisKeys.ts"
import * as Scripts from "../Scripts.ts"

/** How much of several publishes one call carries. A publish is not split: it is stored wholly or not at all. */
const maxEntries = 256
const maxBytes = 1024 * 1024

/** Calls of one log that may be under way. */
const maxInFlight = 2

interface Pending {
  readonly entries: ReadonlyArray<ReadonlyArray<string>>
  readonly size: number
  readonly retention: Retention
  readonly done: (result: Effect.Effect<Scripts.Published, TransportError>) => void
  abandoned: boolean
}

interface Lane {
  readonly keys: LogKeys
  readonly connection: Connection
  readonly queue: Array<Pending>
  inFlight: number
  scheduled: boolean
}

export type Publish = (
  keys: LogKeys,
  messages: NonEmptyReadonlyArray<Outgoing>,
  retention: Retention
) => Effect.Effect<Scripts.Published, TransportError>

const millis = (age: Duration.Duration | undefined) => (age === undefined ? -1 : Duration.toMillis(age))
const alike = (a: Retention, b: Retention): boolean =>
  a === b || (a.maxLength === b.maxLength && millis(a.maxAge) === millis(b.maxAge))

export const make = (client: Pick<RedisClient["Service"], "at">, codec: Codec): Publish => {
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

  const send = (lane: Lane, chosen: ReadonlyArray<Pending>): void => {
    const entries = chosen.flatMap((one) => one.entries)
    const [first, ...rest] = entries
    const retention = chosen[0]?.retention
    if (first === undefined || retention === undefined) return
    lane.inFlight += 1
    const settle = (result: Effect.Effect<Scripts.Published, TransportError>) => {
      for (const one of chosen) one.done(result)
    }
    lane.connection
      .execute(Scripts.publish, { keys: lane.keys, entries: [first, ...rest], retention })
      .then(
        ({ ids, trimmed }) => {
          let at = 0
          for (const one of chosen) {
            // what the call trimmed is told once
            const mine = { ids: ids.slice(at, at + one.entries.length), trimmed: at === 0 ? trimmed : 0 }
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
    while (lane.inFlight < maxInFlight && lane.queue.length > 0) send(lane, batch(lane))
    if (lane.inFlight === 0 && lane.queue.length === 0) lanes.delete(lane.keys.main)
  }

  return (keys, messages, retention) =>
    Effect.callback((resume) => {
      let lane = lanes.get(keys.main)
      const connection = lane?.connection ?? client.at(keys.main)
      if (!connection.isReady()) return resume(Effect.fail(connection.unavailable("publish")))
      if (lane === undefined)
        lanes.set(keys.main, (lane = { keys, connection, queue: [], inFlight: 0, scheduled: false }))
      let size = 0
      for (const message of messages) size += message.data.length
      const pending: Pending = { entries: messages.map(codec.encode), size, retention, done: resume, abandoned: false }
      lane.queue.push(pending)
      const current = lane
      if (!lane.scheduled && lane.inFlight < maxInFlight) {
        lane.scheduled = true
        queueMicrotask(() => flush(current))
      }
      // what is under way cannot be taken back
      return Effect.sync(() => {
        pending.abandoned = true
      })
    })
}
