/** What must be handled alone is fetched by who asks for it alone, also where whoever asked before was interrupted. */
import { assert, describe, it } from "@effect/vitest"
import * as RedisKeys from "@clutch/redis/RedisKeys"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as S from "./support.ts"

/** A worker far from its server, and an entry that two workers may have died of. */
const setup = Effect.gen(function* () {
  const { proxy, redis } = yield* S.behindProxy()
  const admin = yield* S.looker(redis.url)
  const transport = yield* S.transport({ url: proxy.url })
  const consumer = yield* S.join(transport)
  yield* S.publish(transport, "suspect")
  const { main, mainGroup } = RedisKeys.group("clutch", S.group())
  yield* Effect.promise(async () => {
    await admin.xreadgroup("GROUP", mainGroup, "dead", "STREAMS", main, ">")
    const [[id] = []] = (await admin.xpending(main, mainGroup, "-", "+", 1)) as Array<Array<string>>
    await admin.xclaim(main, mainGroup, "-released", 0, id ?? "", "RETRYCOUNT", 2, "JUSTID")
  })
  const found = yield* consumer.fetch(S.limit())
  assert.deepStrictEqual([found.entries.length, found.suspects], [0, true])
  return { consumer, proxy, transport }
})

describe("a read whose fiber was interrupted", () => {
  it.live("of what must be alone: it is not handed to who asks for any", () =>
    Effect.gen(function* () {
      const { consumer, proxy } = yield* setup
      proxy.delayReplies(200)
      const first = yield* Effect.forkChild(consumer.fetch(S.limit({ alone: true })), { startImmediately: true })
      yield* Fiber.interrupt(first)
      const fetched = yield* S.joined(yield* Effect.forkChild(consumer.fetch(S.limit()), { startImmediately: true }))
      assert.deepStrictEqual([fetched.entries.map(S.text), fetched.suspects], [[], true])
      const alone = yield* consumer.fetch(S.limit({ alone: true }))
      assert.deepStrictEqual([alone.entries.map(S.text), alone.suspects], [["suspect"], false])
    }).pipe(Effect.scoped)
  )
})
