/**
 * Publishing through a network that is slow, cuts replies or refuses: what is said of it is true.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as S from "./support.ts"

/** A transport behind a proxy, on a server of its own. */
const setup = Effect.gen(function* () {
  const { proxy, redis } = yield* S.behindProxy()
  const transport = yield* S.transport({ url: proxy.url })
  // loads the script
  yield* S.publish(transport, "first")
  return {
    calls: () => proxy.commands().get("EVALSHA") ?? 0,
    proxy,
    stored: S.stored(yield* S.looker(redis.url), "clutch.{orders}"),
    transport
  }
})

describe("publish", () => {
  it.live("four calls are under way at most, and order holds between them", () =>
    Effect.gen(function* () {
      const { calls, proxy, stored, transport } = yield* setup
      // longer than all of them take to be asked for
      proxy.delayReplies(1000)
      const before = calls()
      const fibers: Array<Fiber.Fiber<unknown, unknown>> = []
      for (let i = 0; i < 20; i++) {
        fibers.push(yield* Effect.forkChild(S.publish(transport, `${i}`), { startImmediately: true }))
        yield* Effect.sleep(1)
      }
      assert.strictEqual(calls() - before, 4)
      proxy.delayReplies(0)
      yield* Effect.all(fibers.map((fiber) => S.joined(fiber)))
      assert.isAtMost(calls() - before, 7)
      assert.deepStrictEqual(
        (yield* stored).map(([, data]) => data),
        Array.from({ length: 20 }, (_, i) => `${i}`)
      )
    }).pipe(Effect.scoped)
  )

  it.live("a publish that is interrupted before it was sent is not stored", () =>
    Effect.gen(function* () {
      const { proxy, stored, transport } = yield* setup
      proxy.delayReplies(1000)
      const fibers: Array<Fiber.Fiber<unknown, unknown>> = []
      for (let i = 0; i < 7; i++) {
        fibers.push(yield* Effect.forkChild(S.publish(transport, `${i}`), { startImmediately: true }))
        yield* Effect.sleep(1)
      }
      const [waiting] = fibers.splice(4, 1)
      if (waiting === undefined) return assert.fail("none waits")
      yield* Fiber.interrupt(waiting)
      proxy.delayReplies(0)
      yield* Effect.all(fibers.map((fiber) => S.joined(fiber)))
      assert.deepStrictEqual(
        (yield* stored).map(([, data]) => data),
        ["0", "1", "2", "3", "5", "6"]
      )
    }).pipe(Effect.scoped)
  )

  it.live("a lost reply is Unknown for each that shared the call; an outage is Unavailable at once", () =>
    Effect.gen(function* () {
      const { proxy, stored, transport } = yield* setup
      const cut = proxy.cutReply((command) => command.toUpperCase().startsWith("EVALSHA"))
      const errors = yield* Effect.all([S.publish(transport, "a"), S.publish(transport, "b")].map(Effect.flip), {
        concurrency: "unbounded"
      })
      yield* Effect.promise(() => cut)
      assert.deepStrictEqual(
        errors.map(({ reason }) => reason._tag),
        ["Unknown", "Unknown"]
      )
      yield* Effect.sleep(200)
      // sent once, and stored once
      assert.deepStrictEqual(
        (yield* stored).map(([, data]) => data),
        ["a", "b"]
      )
      proxy.refuse(true)
      proxy.cutAll()
      yield* Effect.sleep(20)
      const begun = performance.now()
      const error = yield* Effect.flip(S.publish(transport, "c"))
      assert.strictEqual(error.reason._tag, "Unavailable")
      assert.isBelow(performance.now() - begun, 20)
    }).pipe(Effect.scoped)
  )
})
