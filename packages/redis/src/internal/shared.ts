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
  readonly leaving: Leaving
}

/** A consumer that was silent for five minutes and holds nothing is removed: one that does not read says so before, in ms. */
const silence = 200_000

/** How soon one that could not say so tries again, in milliseconds: others have their turn meanwhile. */
const again = 50_000

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

  const stalest = (): Member | undefined => {
    let found: Member | undefined
    for (const member of members) {
      if (member.client.isReady() && (found === undefined || member.seen < found.seen)) found = member
    }
    return found
  }
  /** Milliseconds until it has to speak; never, where there is none. */
  const quiet = (member: Member | undefined) => (member?.seen ?? Infinity) + silence - performance.now()
  const look = Effect.suspend(() => {
    const member = stalest()
    if (member === undefined || quiet(member) > 0) return Effect.void
    return Effect.catch(signOfLife(member), () =>
      Effect.sync(() => {
        member.seen = performance.now() - silence + again
      })
    )
  })
  // one member at a time, so that many do not speak at once
  const rest = () => {
    const left = quiet(stalest())
    return left > 0 ? Math.min(left, 10_000) : 50_000 / (members.size + 1)
  }
  yield* Effect.suspend(() => pause(rest())).pipe(Effect.andThen(look), Effect.forever, Effect.forkScoped)

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
    leaving: { givenUp: -Infinity }
  } satisfies Shared
})
