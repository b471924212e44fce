/** Whether something older is still to be retried is found among any number of later retries, page by page. */
import { RedisKeys } from "@clutch/redis"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { group, join, shared, transport } from "./support.ts"

const member = (original: string): string => {
  const clutch = JSON.stringify({ original, attempt: 1 })
  return `4:data,1:1,6:clutch,${clutch.length}:${clutch},`
}

describe("outstanding", () => {
  for (const [what, at] of [
    ["at one time", () => 2e12],
    ["at times of their own", (i: number) => 2e12 + i],
    ["by and by, many at one time", (i: number) => 2e12 + Math.floor(i / 130)]
  ] as const) {
    it.live(`an older retry is found behind 520 later ones that are due ${what}, and no other is`, () =>
      Effect.scoped(
        Effect.gen(function* () {
          const { namespace, options, redis } = yield* shared
          const self = yield* transport(options)
          yield* join(self)
          const { due } = RedisKeys.group(namespace, group())
          const later = Array.from({ length: 520 }, (_, i) => [at(i), member(`9-${i}`)])
          yield* Effect.promise(() => redis.zadd(due, ...later.flat()))
          const look = self.outstanding(group(), { through: "8-0", due: "wait" })
          assert.isFalse(yield* look)
          // the last of its time, by the order of the texts
          yield* Effect.promise(() => redis.zadd(due, at(519), `9${member("7-0").slice(1)}`))
          assert.isTrue(yield* look, "what cannot be read may be anything")
          yield* Effect.promise(() => redis.zremrangebyrank(due, -1, -1))
          assert.isFalse(yield* look)
          yield* Effect.promise(() => redis.zadd(due, at(519), member("7-0")))
          assert.isTrue(yield* look)
        })
      )
    )
  }
})
