/**
 * Where the tests run that fit a single server and a cluster alike: on the server that the project's files share, or, in
 * the project `cluster`, on the cluster. They look at it, and break it, through an `Admin`, which serves both.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { Cluster, Redis } from "ioredis"
import { randomUUID } from "node:crypto"
import { inject } from "vitest"
import { startRedis } from "./redis.ts"

/** What a client needs to get there: options of `RedisClient`, as plain data, so that another process can have them. */
export interface Place {
  readonly url: string
  readonly cluster?: { readonly nodes: ReadonlyArray<{ readonly host: string; readonly port: number }> }
}

declare module "vitest" {
  interface ProvidedContext {
    readonly place: Place
  }
}

// -----------------------------------------------------------------------------
// looking and breaking
// -----------------------------------------------------------------------------

export type Admin = Redis | Cluster

const connected = <R extends Admin>(make: () => R): Effect.Effect<R, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.promise(async () => {
      const redis = make()
      redis.on("error", () => {})
      await redis.connect()
      return redis
    }),
    (redis) => Effect.sync(() => redis.disconnect())
  )

/** A client to look at one server with, and to break things with. */
export const admin = (url: string): Effect.Effect<Redis, never, Scope.Scope> =>
  connected(() => new Redis(url, { lazyConnect: true, connectionName: "admin" }))

/** The same, of whatever there is. */
const adminOf = ({ cluster, url }: Place): Effect.Effect<Admin, never, Scope.Scope> =>
  cluster === undefined
    ? admin(url)
    : Effect.tap(
        connected(
          () => new Cluster([...cluster.nodes], { lazyConnect: true, redisOptions: { connectionName: "admin" } })
        ),
        // to each server now, and not when it is first asked
        (redis) => Effect.promise(() => Promise.all(servers(redis).map((server) => server.ping())))
      )

/** The servers that hold keys. */
export const masters = (redis: Admin): ReadonlyArray<Redis> =>
  redis instanceof Cluster ? redis.nodes("master") : [redis]

/** All servers: replicas take connections, too. */
export const servers = (redis: Admin): ReadonlyArray<Redis> => (redis instanceof Cluster ? redis.nodes("all") : [redis])

/** How many connections a transport has by itself: one a master, the bell's, and, but for clusters, the seat's. */
export const connectionsOf = (redis: Admin): number => (redis instanceof Cluster ? masters(redis).length + 1 : 3)

/** Every key of a pattern, wherever it is, sorted. */
export const keysOf = async (redis: Admin, pattern: string): Promise<ReadonlyArray<string>> => {
  const found = new Set<string>()
  for (const master of masters(redis)) {
    for await (const keys of master.scanStream({ match: pattern, count: 1000 })) {
      for (const key of keys as ReadonlyArray<string>) found.add(key) // what SCAN answers
    }
  }
  return [...found].toSorted()
}

/** Removes every key of a pattern, one by one, as no command takes keys of several slots. */
export const removeKeys = async (redis: Admin, pattern: string): Promise<void> => {
  await Promise.all((await keysOf(redis, pattern)).map((key) => redis.unlink(key)))
}

/** Removes everything. */
export const flush = (redis: Admin): Promise<unknown> => Promise.all(masters(redis).map((master) => master.flushall()))

/** Nothing can be stored beyond so many bytes; 0 is no limit. */
export const limitMemory = (redis: Admin, bytes: number): Promise<unknown> =>
  Promise.all(masters(redis).map((master) => master.config("SET", "maxmemory", bytes)))

/** How often the servers were asked for a command. */
export const calls = async (redis: Admin, command: string): Promise<number> => {
  const stats = await Promise.all(masters(redis).map((master) => master.info("commandstats")))
  const counted = new RegExp(`^cmdstat_${command}:calls=(\\d+)`, "m")
  return stats.reduce((sum, text) => sum + Number(counted.exec(text)?.[1] ?? 0), 0)
}

// -----------------------------------------------------------------------------
// places
// -----------------------------------------------------------------------------

/** Where all tests are, under a namespace that is removed with the scope. */
export const shared = Effect.gen(function* () {
  const place = inject("place")
  const namespace = `test-${randomUUID().slice(0, 12)}`
  const redis = yield* adminOf(place)
  yield* Effect.addFinalizer(() => Effect.promise(() => removeKeys(redis, `${namespace}.*`)))
  return { place, namespace, options: { ...place, namespace }, redis }
})

/**
 * Where nothing is, and nobody else: it may be flushed and filled. A server of its own, or the cluster, which one test at
 * a time has for itself.
 */
export const own = Effect.gen(function* () {
  const place = inject("place")
  if (place.cluster === undefined) {
    const server = yield* Effect.acquireRelease(
      Effect.promise(() => startRedis()),
      (server) => Effect.promise(() => server.stop())
    )
    const redis: Admin = yield* admin(server.url)
    return { options: { url: server.url }, redis }
  }
  const redis = yield* adminOf(place)
  const reset = Effect.promise(async () => {
    await limitMemory(redis, 0)
    await flush(redis)
  })
  yield* Effect.acquireRelease(reset, () => reset)
  return { options: place, redis }
})
