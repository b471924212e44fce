/**
 * A connection on which a reader waits for new entries: its reads block, so that the server answers them by itself and no
 * bell need be heard first. One reader sits there at a time.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { Connection, RedisClient } from "../RedisClient.ts"
import type { Arg, Reply } from "../Script.ts"
import { codeOf } from "./connection.ts"
import * as Unblock from "./unblock.ts"

/** How long a read blocks, in milliseconds. */
export const longest = 5000

export interface Sitting {
  /** `XREADGROUP`. Rejects as `submit` does. */
  readonly read: (args: ReadonlyArray<Arg>) => Promise<Reply>
  /** Something is awaited now. */
  readonly wake: () => void
  readonly leave: () => void
}

export interface Seat {
  /** Whether nobody sits there, and whoever did would be answered. */
  readonly isFree: () => boolean
  /** None where it is not free. A read ends, with nothing, once `isAwaited` says so and the sitting is woken. */
  readonly take: (isAwaited: () => boolean) => Sitting | undefined
  /** For how many milliseconds after its last new entry a reader waits for the next one here. */
  readonly patience: number
}

/** Where all wait for bells. */
export const none: Seat = { isFree: () => false, take: () => undefined, patience: 0 }

export interface Options {
  /** The connection for commands. */
  readonly client: Connection
  /** On a cluster, what the connection is to go with. */
  readonly key?: string | undefined
  readonly patience: number
  /** A server that forbids to end a read by `CLIENT UNBLOCK` makes retries wait for it: then nobody is to sit here. */
  readonly mustWake: boolean
}

const isAllowed = (reply: Promise<Reply>): Promise<boolean> =>
  reply.then(
    () => true,
    () => false
  )

/** For the lifetime of the scope. */
export const open = (
  redis: RedisClient["Service"],
  { client, key, mustWake, patience }: Options
): Effect.Effect<Seat, never, Scope.Scope> =>
  Effect.flatMap(redis.open("consumer", { block: longest, key }), (connection) =>
    Effect.map(
      Effect.acquireRelease(
        Effect.sync(() => make(client, connection, mustWake)),
        ({ close }) => Effect.sync(close)
      ),
      ({ isFree, take }) => ({ patience, isFree, take })
    )
  )

const make = (client: Connection, connection: Connection, mustWake: boolean) => {
  /** The connection's number at the server, and since which connect. */
  let id: string | undefined
  let epoch = -1
  let awaited: (() => boolean) | undefined
  let reading = false
  const unblock = Unblock.make(client, () => (reading && awaited?.() === true ? id : undefined))

  const introduce = async () => {
    const present = connection.epoch()
    if (epoch === present) return
    const number = await connection.submit("CLIENT", ["ID"]).then(String, () => undefined)
    // nobody reads yet: it is whether one may
    if (mustWake && !(await isAllowed(client.submit("CLIENT", ["UNBLOCK", `${number}`])))) return
    if (present !== connection.epoch()) return
    id = number
    epoch = present
  }
  const stops = [connection, client].map((one) => one.onReady(() => void introduce()))
  if (connection.isReady()) void introduce()

  const isFree = () => awaited === undefined && connection.isReady() && connection.epoch() === epoch

  const read = (args: ReadonlyArray<Arg>): Promise<Reply> => {
    const at = client.epoch()
    reading = true
    if (awaited?.() === true) unblock.poke()
    return connection
      .submit("XREADGROUP", args)
      .catch((error: unknown) => {
        // the server may not know yet that its client is gone, and would deliver to it
        if (codeOf(error) === undefined && id !== undefined && client.epoch() === at) {
          client.submit("CLIENT", ["UNBLOCK", id]).catch(() => {})
        }
        throw error
      })
      .finally(() => {
        reading = false
      })
  }

  return {
    isFree,
    take: (isAwaited: () => boolean): Sitting | undefined => {
      if (!isFree()) return undefined
      awaited = isAwaited
      return {
        read,
        wake: () => {
          if (reading) unblock.poke()
        },
        leave: () => {
          awaited = undefined
        }
      }
    },
    close: () => {
      for (const stop of stops) stop()
      unblock.close()
    }
  }
}
