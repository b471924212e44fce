/**
 * What all that runs on one transport shares: connections, the bell, and a budget of looking around.
 */
import type { TransportError } from "@clutch/core/Errors"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { randomUUID } from "node:crypto"
import { hostname } from "node:os"
import type { Codec } from "../Codec.ts"
import type { Connection, RedisClient } from "../RedisClient.ts"
import * as Bell from "./bell.ts"
import * as Blocking from "./blocking.ts"
import { signOfLife } from "./extend.ts"
import * as Looks from "./looks.ts"
import type { Leaving, Member } from "./member.ts"
import { pause, serverClock } from "./time.ts"
import type { ServerClock } from "./time.ts"

export interface Shared {
  readonly client: RedisClient["Service"]
  /** The clock of the server behind a connection. */
  readonly clockOf: (connection: Connection) => Effect.Effect<ServerClock, TransportError>
  readonly codec: Codec
  readonly namespace: string
  readonly bell: Bell.Bell
  /** A name that no other consumer has, of this or another process. */
  readonly nextConsumer: () => string
  /** Counts a member, for the budget, and shows the server that it lives, until the scope closes. */
  readonly enlist: (member: Member) => Effect.Effect<void, never, Scope.Scope>
  /** Counts the owner of an ordered log, which shows that it lives by itself, for the budget. */
  readonly attend: Effect.Effect<void, never, Scope.Scope>
  readonly looks: Looks.Looks
  /** One connection more, on which one reader waits of those that had something lately. */
  readonly blocking: Blocking.Blocking
  readonly leaving: Leaving
  /** How many partitions the log said that a topic has, where it has several. */
  readonly partitions: Map<string, number>
}

/** A consumer that was silent for five minutes and holds nothing is removed: one that does not read says so before, in ms. */
const silence = 200_000

/** How often it is looked who has to, in milliseconds. */
const lookEvery = 10_000

/** How many say so at once: each wake of an idle process costs more than what it is for. */
const together = 16

/** How soon one that could not say so tries again, in milliseconds: others have their turn meanwhile. */
const again = 50_000

/** Who had something within so many milliseconds may have more to do soon. */
const lately = 5000

export const make = Effect.fnUntraced(function* (options: {
  readonly client: RedisClient["Service"]
  readonly codec: Codec
  readonly namespace: string
}) {
  const { client } = options
  const members = new Set<Member>()
  let owners = 0
  // what a host name may hold, a consumer name may not
  const host = hostname()
    .replaceAll(/[^A-Za-z0-9-]/g, "-")
    .replace(/^-+/, "")
    .slice(0, 64)
  const prefix = `${host || "host"}-${process.pid}-${randomUUID().slice(0, 8)}`
  let consumers = 0
  const bell = yield* Bell.make(client)
  const clocks = new Map<Connection, ServerClock>()
  const clockOf = (connection: Connection): Effect.Effect<ServerClock, TransportError> =>
    Effect.suspend(() => {
      const found = clocks.get(connection)
      if (found !== undefined) return Effect.succeed(found)
      return Effect.tap(serverClock(connection), (clock) => Effect.sync(() => void clocks.set(connection, clock)))
    })
  // one server: its clock is known before anybody asks
  if (!client.isCluster) yield* clockOf(client.at(""))

  /** Milliseconds until a member has to say that it lives. */
  const quiet = ({ seen }: Member) => seen + silence - performance.now()
  const speakers = () => Array.from(members).filter(({ client }) => client.isReady())
  const speak = Effect.suspend(() =>
    Effect.forEach(
      speakers()
        // with those who would have to before the next look
        .filter((member) => quiet(member) <= lookEvery)
        .slice(0, together),
      (member) => {
        // until it has: one that cannot must not stand before the others
        member.seen = performance.now() - silence + again
        return Effect.ignore(signOfLife(member))
      },
      { concurrency: "unbounded", discard: true }
    )
  ).pipe(
    Effect.catchDefect((defect) => Effect.logFatal("saying that consumers live died of a defect, and goes on", defect))
  )
  /** Of many that have to speak at once, some do, and the others by and by. */
  const rest = () => {
    const left = Math.min(lookEvery, ...speakers().map(quiet))
    return left > 0 ? left : (50_000 * together) / (members.size + together)
  }
  yield* Effect.suspend(() => pause(rest())).pipe(Effect.andThen(speak), Effect.forever, Effect.forkScoped)

  // on a cluster a connection reads from one server
  const blocking = client.isCluster
    ? Blocking.none
    : yield* Blocking.open(client, { client: client.at(""), recent: lately })

  return {
    ...options,
    clockOf,
    bell,
    nextConsumer: () => `${prefix}-${++consumers}`,
    enlist: (member) =>
      Effect.acquireRelease(
        Effect.sync(() => void members.add(member)),
        () => Effect.sync(() => void members.delete(member))
      ),
    attend: Effect.acquireRelease(
      Effect.sync(() => void (owners += 1)),
      () => Effect.sync(() => void (owners -= 1))
    ),
    looks: Looks.make(() => members.size + owners),
    blocking,
    leaving: { givenUp: -Infinity },
    partitions: new Map<string, number>()
  } satisfies Shared
})
