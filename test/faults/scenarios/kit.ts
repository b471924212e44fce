/** What scenarios are made of. */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { Redis } from "ioredis"
import { admin, privateServer } from "../../cases/kit.ts"
import type { RedisServer } from "../../support/redis.ts"
import type { Place } from "../rig.ts"
import type { Run } from "../scenario.ts"

export interface Single extends Place {
  readonly server: RedisServer
  readonly redis: Redis
}

/** All keys are on one server. */
export const alone = (redis: Redis): Pick<Place, "at" | "masters"> => ({
  at: () => Promise.resolve(redis),
  masters: () => Promise.resolve([redis])
})

/** A Redis of its own. */
export const single = (...args: ReadonlyArray<string>): Effect.Effect<Single, never, Scope.Scope> =>
  Effect.gen(function* () {
    const server = yield* privateServer(...args)
    const target = { url: server.url }
    const redis = yield* admin(server.url)
    return { server, target, direct: target, redis, ...alone(redis) }
  })

export const any = <A>(items: ReadonlyArray<A>): A | undefined => items[Math.floor(Math.random() * items.length)]

/** Up to so many milliseconds. */
export const pause = (millis: number): Effect.Effect<void> => Effect.suspend(() => Effect.sleep(Math.random() * millis))

export const repeat = ({ progress, times }: Run, round: (i: number) => Effect.Effect<void>): Effect.Effect<void> =>
  Effect.forEach(
    Array.from({ length: times }, (_, i) => i),
    (i) =>
      Effect.andThen(
        round(i),
        Effect.sync(() => progress(i + 1, times))
      ),
    { discard: true }
  )

export const crash = ({ server }: Single) =>
  Effect.promise(async () => {
    await server.kill()
    await server.restart()
  })

/** Rewritten often: each start reads it all, and a crash may fall into the rewriting. */
export const aof = (fsync: "always" | "everysec") =>
  single("--appendonly", "yes", "--appendfsync", fsync, "--auto-aof-rewrite-min-size", "1mb")
