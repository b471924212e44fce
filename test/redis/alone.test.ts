/** Reads whose fibers were interrupted: what they bring goes to whom it is for, and to nobody who has left. */
import { assert, describe, it } from "@effect/vitest"
import * as RedisKeys from "@clutch/redis/RedisKeys"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
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

  it.live("between two of its steps, by closing: nothing is read behind that, for a consumer that has left", () =>
    Effect.gen(function* () {
      const { proxy, redis } = yield* S.behindProxy()
      const admin = yield* S.looker(redis.url)
      const direct = yield* S.transport({ url: redis.url })
      // a retry waits
      yield* Effect.scoped(
        Effect.gen(function* () {
          const first = yield* S.join(direct)
          yield* S.publish(direct, "a")
          const [entry] = yield* S.fetching(first)
          if (entry === undefined) return assert.fail("nothing was fetched")
          yield* S.settle(first, entry, { _tag: "Retry", delay: Duration.zero, cause: "no" })
          yield* direct.tend(S.group())
        })
      )
      const process = yield* Scope.make()
      const transport = yield* Scope.provide(S.transport({ url: proxy.url }), process)
      const scope = yield* Scope.fork(process)
      const consumer = yield* Scope.provide(S.join(transport), scope)
      proxy.delayReplies(50)
      const fiber = yield* Effect.forkChild(consumer.fetch(S.limit()), { startImmediately: true })
      yield* Fiber.interrupt(fiber)
      yield* Scope.close(scope, Exit.void)
      yield* Scope.close(process, Exit.void)
      const { retry, retryGroup } = RedisKeys.group("clutch", S.group())
      // what was sent before the connection was closed has been done when this is answered
      assert.deepStrictEqual(yield* Effect.promise(() => admin.xpending(retry, retryGroup, "-", "+", 10)), [])
      assert.deepStrictEqual(yield* Effect.promise(() => admin.xinfo("CONSUMERS", retry, retryGroup)), [])
    }).pipe(Effect.scoped)
  )
})
