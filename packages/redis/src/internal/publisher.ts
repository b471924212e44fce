/**
 * Publishing in batches that nobody waits for.
 *
 * What is published to one log within one turn of the event loop leaves in one script call, a flood in two. Some calls
 * may be under way before the first is answered; what comes meanwhile gathers for the next. A single message therefore
 * leaves at once, and a flood leaves in large calls, in order.
 */
import type { TransportError } from "@clutch/core/Errors"
import {
  callback,
  type Log,
  type Outgoing,
  type Published,
  type Replication,
  type Retention
} from "@clutch/core/Transport"
import type { NonEmptyReadonlyArray } from "effect/Array"
import * as Arr from "effect/Array"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { Codec } from "../Codec.ts"
import type { Connection, RedisClient } from "../RedisClient.ts"
import * as Keys from "../RedisKeys.ts"
import * as Scripts from "../Scripts.ts"
import * as Connections from "./connection.ts"

/** How much of several publishes one call carries. A publish is not split: it is stored wholly or not at all. */
const maxEntries = 256
const maxBytes = 1024 * 1024

/** Calls of one log under way: Redis finds the next behind each. One where replicas are waited for, which all share. */
const maxInFlight = 4
const limitOf = ({ replication }: Lane): number => (replication === undefined ? maxInFlight : 1)

/**
 * So many publishes that find nothing under way leave in two calls, not in one: publishers who go on once they are
 * answered would stay together, and Redis would wait for them, and they for Redis.
 */
const flood = 32

/** How long the connection that waits for replicas may take to be made, in milliseconds. */
const firstConnect = 1000

/** A class, as the engine allots what literals make among what lives long, once it has seen many wait for an answer. */
class Pending {
  readonly entries: NonEmptyReadonlyArray<ReadonlyArray<string>>
  readonly size: number
  readonly retention: Retention
  readonly done: (result: Effect.Effect<Published, TransportError>) => void
  abandoned = false

  constructor(
    entries: NonEmptyReadonlyArray<ReadonlyArray<string>>,
    size: number,
    retention: Retention,
    done: (result: Effect.Effect<Published, TransportError>) => void
  ) {
    this.entries = entries
    this.size = size
    this.retention = retention
    this.done = done
  }
}

/** What one publish is told of the call that carried it; a class, as `Pending` is. */
class Share implements Published {
  readonly ids: ReadonlyArray<string>
  readonly trimmed: number
  readonly replicated: Published["replicated"]

  constructor(ids: ReadonlyArray<string>, trimmed: number, replicated: Published["replicated"]) {
    this.ids = ids
    this.trimmed = trimmed
    this.replicated = replicated
  }
}

/** What is published to one log, and how many replicas are waited for with it. */
interface Lane {
  readonly keys: Keys.LogKeys
  readonly connection: Connection
  readonly replication: Connections.Replication | undefined
  readonly queue: Array<Pending>
  inFlight: number
  scheduled: boolean
}

/** What is known of a log. Made once, as it costs as much as to publish a message. */
interface Place {
  readonly keys: Keys.LogKeys
  plain: Lane | undefined
  /** By how many replicas are waited for, and how long, which publishers choose: one that is idle goes. */
  readonly replicating: Map<string, Lane>
}

export type Publish = (
  log: Log,
  messages: NonEmptyReadonlyArray<Outgoing>,
  retention: Retention,
  replication: Replication | undefined
) => Effect.Effect<Published, TransportError>

const millis = (age: Duration.Duration | undefined) => (age === undefined ? -1 : Duration.toMillis(age))
const alike = (a: Retention, b: Retention): boolean =>
  a === b || (a.maxLength === b.maxLength && millis(a.maxAge) === millis(b.maxAge))

const nameOf = ({ replicas, within }: Connections.Replication): string => `${replicas} ${within}`

export const make = (
  client: Pick<RedisClient["Service"], "at" | "replicating">,
  codec: Codec,
  namespace: string
): Publish => {
  const topics = new Map<string, Array<Place | undefined>>()

  const placeOf = (log: Log): Place => {
    let places = topics.get(log.topic)
    if (places === undefined) topics.set(log.topic, (places = []))
    return (places[log.partition] ??= { keys: Keys.log(namespace, log), plain: undefined, replicating: new Map() })
  }

  const open = (keys: Keys.LogKeys, replication: Connections.Replication | undefined): Lane => ({
    keys,
    connection: replication === undefined ? client.at(keys.main) : client.replicating(keys.main),
    replication,
    queue: [],
    inFlight: 0,
    scheduled: false
  })

  const laneOf = (place: Place, replication: Replication | undefined): Lane => {
    if (replication === undefined) return (place.plain ??= open(place.keys, undefined))
    const wanted = { replicas: replication.replicas, within: Math.ceil(Duration.toMillis(replication.within)) }
    return place.replicating.get(nameOf(wanted)) ?? open(place.keys, wanted)
  }

  /** The longest run of publishes that one call may carry. */
  const batch = (lane: Lane): ReadonlyArray<Pending> => {
    const { inFlight, queue } = lane
    const isHalved = inFlight === 0 && limitOf(lane) > 1 && queue.length >= flood
    const most = isHalved ? Math.ceil(queue.length / 2) : queue.length
    const chosen: Array<Pending> = []
    let taken = 0
    let entries = 0
    let size = 0
    for (const next of queue) {
      if (taken === most) break
      const [first] = chosen
      if (!next.abandoned && first !== undefined) {
        if (entries + next.entries.length > maxEntries || size + next.size > maxBytes) break
        if (!alike(first.retention, next.retention)) break
      }
      taken += 1
      if (next.abandoned) continue
      chosen.push(next)
      entries += next.entries.length
      size += next.size
    }
    queue.splice(0, taken)
    return chosen
  }

  const store = ({ connection, replication }: Lane, input: Scripts.Publish): Promise<Published> =>
    replication === undefined
      ? connection.execute(Scripts.publish, input)
      : connection
          .replicate(Scripts.publish, input, replication)
          .then(({ confirmed, problem, result }) => ({ ...result, replicated: { confirmed, problem } }))

  const send = (place: Place, lane: Lane): void => {
    const chosen = batch(lane)
    if (!Arr.isReadonlyArrayNonEmpty(chosen)) return
    const [{ retention }] = chosen
    const entries = chosen.length === 1 ? chosen[0].entries : Arr.flatMap(chosen, (one) => one.entries)
    lane.inFlight += 1
    store(lane, { keys: lane.keys, entries, retention })
      // before anyone is told: who is answered may publish again at once
      .finally(() => (lane.inFlight -= 1))
      .then(
        ({ ids, replicated, trimmed }) => {
          let at = 0
          for (const one of chosen) {
            // what the call trimmed is told once
            const mine = new Share(ids.slice(at, at + one.entries.length), at === 0 ? trimmed : 0, replicated)
            at += one.entries.length
            one.done(Effect.succeed(mine))
          }
        },
        (error: unknown) => {
          const failure = Effect.suspend(() => Effect.fail(lane.connection.explain("publish", error)))
          for (const one of chosen) one.done(failure)
        }
      )
      .finally(() => flush(place, lane))
  }

  const flush = (place: Place, lane: Lane): void => {
    lane.scheduled = false
    while (lane.inFlight < limitOf(lane) && lane.queue.length > 0) send(place, lane)
    if (lane.replication !== undefined && lane.inFlight === 0 && lane.queue.length === 0) {
      place.replicating.delete(nameOf(lane.replication))
    }
  }

  const enqueue = (
    place: Place,
    messages: NonEmptyReadonlyArray<Outgoing>,
    retention: Retention,
    replication: Replication | undefined
  ) =>
    callback<Published, TransportError>((resume) => {
      const lane = laneOf(place, replication)
      if (!lane.connection.isReady()) {
        resume(Effect.fail(lane.connection.unavailable("publish")))
        return undefined
      }
      if (lane.replication !== undefined) place.replicating.set(nameOf(lane.replication), lane)
      let size = 0
      for (const message of messages) size += message.data.length
      const pending = new Pending(Arr.map(messages, codec.encode), size, retention, resume)
      lane.queue.push(pending)
      if (!lane.scheduled && lane.inFlight < limitOf(lane)) {
        lane.scheduled = true
        queueMicrotask(() => flush(place, lane))
      }
      // what is under way cannot be taken back
      return Effect.sync(() => {
        pending.abandoned = true
      })
    })

  /** The connection that waits for replicas is made when it is first used. */
  const begun = ({ keys }: Place) =>
    Effect.suspend(() => {
      const connection = client.replicating(keys.main)
      if (connection.isReady() || !client.at(keys.main).isReady()) return Effect.void
      return Effect.timeoutOption(Connections.whenReady(connection, "publish"), firstConnect)
    })

  return (log, messages, retention, replication) => {
    const place = placeOf(log)
    const send = enqueue(place, messages, retention, replication)
    return replication === undefined ? send : Effect.andThen(begun(place), send)
  }
}
