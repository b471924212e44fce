/**
 * Reads that block, on a connection that is for nothing else: the server answers them by itself, so that no bell need be
 * heard first. One reader at a time has its turn there.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { Connection, RedisClient } from "../RedisClient.ts"
import type { Arg, Reply } from "../Script.ts"
import * as Unblock from "./unblock.ts"

/** How long a read blocks, in milliseconds. */
export const longest = 5000

export interface Turn {
  /** `XREADGROUP`. Rejects as `submit` does. */
  readonly read: (args: ReadonlyArray<Arg>) => Promise<Reply>
  /** Something is awaited now. */
  readonly wake: () => void
  readonly leave: () => void
}

export interface Blocking {
  /** Whether nobody reads there, and whoever did would be answered. */
  readonly isFree: () => boolean
  /** None where it is not free. A read ends, with nothing, once `isAwaited` says so and the turn is woken. */
  readonly take: (isAwaited: () => boolean) => Turn | undefined
  /** It is for readers whose last new entry came no longer ago, in milliseconds. */
  readonly recent: number
}

/** Where all hear bells. */
export const none: Blocking = { isFree: () => false, take: () => undefined, recent: 0 }

export interface Options {
  /** The connection for commands. */
  readonly client: Connection
  /** On a cluster, what the connection is to go with. */
  readonly key?: string | undefined
  readonly recent: number
}

/** For the lifetime of the scope. */
export const open = (
  redis: RedisClient["Service"],
  { client, key, recent }: Options
): Effect.Effect<Blocking, never, Scope.Scope> =>
  Effect.flatMap(redis.open("consumer", { block: longest, key }), (connection) =>
    Effect.acquireRelease(
      Effect.sync(() => make(client, connection, recent)),
      ({ close }) => Effect.sync(close)
    )
  )

const make = (client: Connection, connection: Connection, recent: number) => {
  /** The connection's number at the server. */
  let id = ""
  /** Since which connects of the two they are known to be of one server, where a read that blocks can be ended. */
  let known: { readonly client: number; readonly connection: number } | undefined
  let awaited: (() => boolean) | undefined
  let reading = false
  const isKnown = () => known?.client === client.epoch() && known.connection === connection.epoch()
  const unblock = Unblock.make(client, () => (reading && isKnown() && awaited?.() === true ? id : undefined))

  const introduce = async (): Promise<void> => {
    const epochs = { client: client.epoch(), connection: connection.epoch() }
    id = String(await connection.submit("CLIENT", ["ID"]))
    // nobody reads yet: it is whether one may
    await client.submit("CLIENT", ["UNBLOCK", id])
    known = epochs
  }
  const begin = () => {
    // where the server forbids it, a due retry would wait for the read's own end; without a connection, the next one begins
    if (connection.isReady() && client.isReady()) introduce().catch(() => {})
  }
  const stops = [
    connection.onReady(begin),
    client.onReady(() => {
      // the server may be another one by now, and this connection still with the former
      if (known?.connection === connection.epoch()) connection.restart()
      begin()
    })
  ]
  begin()

  const isFree = () => awaited === undefined && connection.isReady() && isKnown()

  const turn: Turn = {
    read: (args) => {
      reading = true
      if (awaited?.() === true) unblock.poke()
      return connection.submit("XREADGROUP", args).finally(() => {
        reading = false
      })
    },
    wake: () => {
      if (reading) unblock.poke()
    },
    leave: () => {
      awaited = undefined
    }
  }

  return {
    recent,
    isFree,
    take: (isAwaited: () => boolean): Turn | undefined => {
      if (!isFree()) return undefined
      awaited = isAwaited
      return turn
    },
    close: () => {
      for (const stop of stops) stop()
      unblock.close()
    }
  }
}
