/**
 * Publishing: together what comes together, in order, and nothing waits for a batch to fill.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { startProxy } from "../support/proxy.ts"
import { startRedis } from "../support/redis.ts"
import * as S from "./support.ts"

const outgoing = (data: string) => ({ data: JSON.stringify(data), attributes: undefined })

/** A transport behind a proxy, on a server of its own. */
const setup = (args: ReadonlyArray<string> = []) =>
  Effect.gen(function* () {
    const redis = yield* Effect.acquireRelease(
      Effect.promise(() => startRedis({ args })),
      (redis) => Effect.promise(() => redis.stop())
    )
    const proxy = yield* Effect.acquireRelease(
      Effect.promise(() => startProxy(redis.url)),
      (proxy) => Effect.promise(() => proxy.close())
    )
    const transport = yield* S.transport({ url: proxy.url })
    // loads the script
    yield* S.publish(transport, "first")
    const calls = () => proxy.commands().get("EVALSHA") ?? 0
    const admin = yield* S.looker(redis.url)
    const stored = Effect.promise(async () => {
      const entries = await admin.xrange("clutch.{orders}", "-", "+")
      return entries.map(([id, fields]) => [id, String(JSON.parse(fields[1] ?? ""))] as const).slice(1)
    })
    return { admin, calls, proxy, stored, transport }
  })

describe("publish", () => {
  it.live("what is published in one turn leaves together, in order, and each learns its own ids", () =>
    Effect.gen(function* () {
      const { calls, stored, transport } = yield* setup()
      const before = calls()
      const all = Array.from({ length: 1000 }, (_, i) => `${i}`)
      const published = yield* Effect.forEach(all, (data) => S.publish(transport, data), { concurrency: "unbounded" })
      // 256 at most a call
      assert.isAtMost(calls() - before, 6)
      const entries = yield* stored
      assert.deepStrictEqual(
        entries.map(([, data]) => data),
        all
      )
      assert.deepStrictEqual(
        entries.map(([id]) => id),
        published.flatMap(({ ids }) => ids)
      )
    }).pipe(Effect.scoped)
  )

  it.live("one message alone leaves at once", () =>
    Effect.gen(function* () {
      const { calls, transport } = yield* setup()
      const before = calls()
      const begun = performance.now()
      for (let i = 0; i < 50; i++) yield* S.publish(transport, `${i}`)
      assert.strictEqual(calls() - before, 50)
      assert.isBelow((performance.now() - begun) / 50, 20)
    }).pipe(Effect.scoped)
  )

  it.live("one publish is never split, whatever its size", () =>
    Effect.gen(function* () {
      const { calls, stored, transport } = yield* setup()
      const before = calls()
      const all = Array.from({ length: 3000 }, (_, i) => `${i}`)
      const { ids } = yield* S.publish(transport, "start", ...all)
      assert.strictEqual(calls() - before, 1)
      assert.strictEqual(ids.length, 3001)
      assert.strictEqual((yield* stored).length, 3001)
    }).pipe(Effect.scoped)
  )

  it.live("two calls are under way at most, and order holds between them", () =>
    Effect.gen(function* () {
      const { calls, proxy, stored, transport } = yield* setup()
      // longer than all of them take to be asked for
      proxy.delayReplies(1000)
      const before = calls()
      const fibers: Array<Fiber.Fiber<unknown, unknown>> = []
      for (let i = 0; i < 20; i++) {
        fibers.push(yield* Effect.forkChild(S.publish(transport, `${i}`), { startImmediately: true }))
        yield* Effect.sleep(1)
      }
      assert.isAtMost(calls() - before, 2)
      proxy.delayReplies(0)
      yield* Effect.all(fibers.map((fiber) => S.joined(fiber)))
      assert.isAtMost(calls() - before, 5)
      assert.deepStrictEqual(
        (yield* stored).map(([, data]) => data),
        Array.from({ length: 20 }, (_, i) => `${i}`)
      )
    }).pipe(Effect.scoped)
  )

  it.live("publishes with different retention do not share a call; what was trimmed is told once", () =>
    Effect.gen(function* () {
      const { admin, transport } = yield* setup()
      const keep = (maxLength: number) => ({ maxLength, maxAge: undefined })
      const results = yield* Effect.all(
        [
          transport.publish(S.group(), [outgoing("a"), outgoing("b"), outgoing("c")], keep(2)),
          transport.publish(S.group(), [outgoing("d")], keep(2)),
          transport.publish(S.group(), [outgoing("e")], keep(3))
        ],
        { concurrency: "unbounded" }
      )
      // "first", a and b went for the limit of 2
      assert.deepStrictEqual(
        results.map(({ trimmed }) => trimmed),
        [3, 0, 0]
      )
      assert.strictEqual(yield* Effect.promise(() => admin.xlen("clutch.{orders}")), 3)
    }).pipe(Effect.scoped)
  )

  it.live("a publish that is interrupted before it was sent is not stored", () =>
    Effect.gen(function* () {
      const { proxy, stored, transport } = yield* setup()
      proxy.delayReplies(50)
      const fibers: Array<Fiber.Fiber<unknown, unknown>> = []
      for (let i = 0; i < 5; i++) {
        fibers.push(yield* Effect.forkChild(S.publish(transport, `${i}`), { startImmediately: true }))
        yield* Effect.sleep(1)
      }
      const [, , third, ...rest] = fibers
      if (third === undefined) return assert.fail("no third")
      yield* Fiber.interrupt(third)
      proxy.delayReplies(0)
      yield* Effect.all(rest.map((fiber) => S.joined(fiber)))
      assert.deepStrictEqual(
        (yield* stored).map(([, data]) => data),
        ["0", "1", "3", "4"]
      )
    }).pipe(Effect.scoped)
  )

  it.live("a lost reply is Unknown for each that shared the call; an outage is Unavailable at once", () =>
    Effect.gen(function* () {
      const { proxy, stored, transport } = yield* setup()
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

  it.live("maxAge trims by the server's clock", () =>
    Effect.gen(function* () {
      const { admin, transport } = yield* setup()
      yield* Effect.sleep(60)
      const { trimmed } = yield* transport.publish(S.group(), [outgoing("x")], {
        maxLength: undefined,
        maxAge: Duration.millis(50)
      })
      assert.strictEqual(trimmed, 1)
      assert.strictEqual(yield* Effect.promise(() => admin.xlen("clutch.{orders}")), 1)
    }).pipe(Effect.scoped)
  )
})
