/**
 * Joining: whatever happens meanwhile, nothing of a join that does not stand remains, and nothing that stands is lost.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import { startProxy } from "../support/proxy.ts"
import { startRedis } from "../support/redis.ts"
import * as S from "./support.ts"

const setup = Effect.gen(function* () {
  const redis = yield* Effect.acquireRelease(
    Effect.promise(() => startRedis()),
    (redis) => Effect.promise(() => redis.stop())
  )
  const proxy = yield* Effect.acquireRelease(
    Effect.promise(() => startProxy(redis.url)),
    (proxy) => Effect.promise(() => proxy.close())
  )
  const transport = yield* S.transport({ url: proxy.url })
  const admin = yield* S.looker(redis.url)
  return {
    admin,
    proxy,
    redis,
    transport,
    keys: Effect.promise(async () => (await admin.keys("*")).toSorted()),
    connections: Effect.promise(
      async () =>
        String(await admin.client("LIST"))
          .split("\n")
          .filter((line) => line.includes(" name=clutch-")).length
    ),
    consumers: (stream: string, group: string) =>
      Effect.promise(() => admin.xinfo("CONSUMERS", stream, group) as Promise<ReadonlyArray<unknown>>)
  }
})

describe("joining", () => {
  it.live("a join that is not kept is undone when its scope closes", () =>
    Effect.gen(function* () {
      const { connections, keys, transport } = yield* setup
      const before = yield* connections
      for (const ownConnection of [false, true]) {
        const scope = yield* Scope.make()
        yield* Scope.provide(transport.join(S.joining({ ownConnection })), scope)
        assert.isNotEmpty(yield* keys)
        yield* Scope.close(scope, Exit.void)
        assert.deepStrictEqual(yield* keys, [])
        assert.strictEqual(yield* connections, before)
      }
    }).pipe(Effect.scoped)
  )

  it.live("interrupted at any moment, a join leaves no key, consumer or connection", () =>
    Effect.gen(function* () {
      const { connections, keys, proxy, transport } = yield* setup
      const before = yield* connections
      proxy.delayReplies(5)
      for (let delay = 0; delay <= 30; delay += 1) {
        const scope = yield* Scope.make()
        const fiber = yield* Effect.forkChild(
          Scope.provide(transport.join(S.joining({ ownConnection: delay % 2 === 0 })), scope),
          { startImmediately: true }
        )
        yield* Effect.sleep(delay)
        yield* Fiber.interrupt(fiber)
        yield* Scope.close(scope, Exit.void)
        assert.deepStrictEqual(yield* keys, [], `after ${delay} ms`)
      }
      assert.strictEqual(yield* connections, before)
    }).pipe(Effect.scoped)
  )

  it.live("a join whose reply was lost fails as Unknown, and is undone", () =>
    Effect.gen(function* () {
      const { keys, proxy, transport } = yield* setup
      const cut = proxy.cutReply((command) => command.includes("first"))
      const error = yield* Effect.flip(Effect.scoped(transport.join(S.joining())))
      yield* Effect.promise(() => cut)
      assert.strictEqual(error.reason._tag, "Unknown")
      assert.deepStrictEqual(yield* keys, [])
    }).pipe(Effect.scoped)
  )

  it.live("in an outage it fails at once, and closing does not wait for the server", () =>
    Effect.gen(function* () {
      const { proxy, transport } = yield* setup
      proxy.refuse(true)
      proxy.cutAll()
      yield* Effect.sleep(30)
      const begun = performance.now()
      const error = yield* Effect.flip(Effect.scoped(transport.join(S.joining())))
      assert.strictEqual(error.reason._tag, "Unavailable")
      assert.isBelow(performance.now() - begun, 100)
    }).pipe(Effect.scoped)
  )

  it.live("undoing leaves alone what another has begun to use", () =>
    Effect.gen(function* () {
      const { consumers, transport } = yield* setup
      const scope = yield* Scope.make()
      yield* Scope.provide(transport.join(S.joining()), scope)
      const other = yield* S.join(transport)
      yield* Scope.close(scope, Exit.void)
      yield* S.publish(transport, "x")
      assert.strictEqual((yield* other.fetch(S.limit())).entries.length, 1)
      assert.strictEqual((yield* consumers("clutch.{orders}", "billing")).length, 1)
    }).pipe(Effect.scoped)
  )

  it.live("leaving gives back what is held, at no cost, and removes the consumer; the group stays", () =>
    Effect.gen(function* () {
      const { consumers, transport } = yield* setup
      const scope = yield* Scope.make()
      const first = yield* Scope.provide(S.join(transport), scope)
      yield* S.publish(transport, "a", "b", "c")
      const { entries } = yield* first.fetch(S.limit())
      const [a] = entries
      if (a === undefined) return assert.fail("nothing was fetched")
      yield* first.settle([{ entry: a, outcome: { _tag: "Retry", delay: S.millis(0), cause: "x" }, repeated: false }])
      yield* transport.tend(S.group())
      const [retried] = (yield* first.fetch(S.limit())).entries
      assert.strictEqual(retried?.attempt, 2)
      yield* Scope.close(scope, Exit.void)
      assert.deepStrictEqual(
        (yield* consumers("clutch.{orders}", "billing")).map((one) => String((one as ReadonlyArray<unknown>)[1])),
        ["-released"]
      )
      const second = yield* S.join(transport)
      const again = yield* second.fetch(S.limit())
      assert.deepStrictEqual(
        again.entries.map((entry) => `${entry.origin} ${S.text(entry)} ${entry.attempt} ${entry.reclaims}`).toSorted(),
        ["main b 1 0", "main c 1 0", "retry a 2 0"]
      )
      assert.isFalse(again.suspects)
    }).pipe(Effect.scoped)
  )

  it.live("names are unique per transport unless given, and the given one is kept", () =>
    Effect.gen(function* () {
      const { redis, transport } = yield* setup
      const other = yield* S.transport({ url: redis.url })
      const names = yield* Effect.all([
        S.join(transport),
        S.join(transport),
        S.join(other),
        S.join(other, { consumer: "mine" })
      ])
      assert.strictEqual(new Set(names.map(({ name }) => name)).size, 4)
      assert.strictEqual(names[3]?.name, "mine")
    }).pipe(Effect.scoped)
  )

  it.live("an interrupted fetch loses nothing, wherever it was", () =>
    Effect.gen(function* () {
      const { proxy, transport } = yield* setup
      const consumer = yield* S.join(transport)
      proxy.delayReplies(4)
      const total = 60
      const seen: Array<string> = []
      let published = 0
      while (seen.length < total) {
        if (published < total) yield* S.publish(transport, `${published++}`)
        const fiber = yield* Effect.forkChild(Effect.uninterruptible(consumer.fetch(S.limit())), {
          startImmediately: true
        })
        yield* Effect.sleep(Math.random() * 30)
        yield* Fiber.interrupt(fiber)
        const exit = yield* Fiber.await(fiber)
        if (Exit.isFailure(exit)) continue
        for (const entry of exit.value.entries) {
          assert.strictEqual(entry.attempt, 1)
          seen.push(S.text(entry))
          yield* consumer.settle([{ entry, outcome: { _tag: "Ack" }, repeated: false }])
        }
      }
      assert.deepStrictEqual(seen.toSorted(), Array.from({ length: total }, (_, i) => `${i}`).toSorted())
    }).pipe(Effect.scoped, Effect.timeout("30 seconds"))
  )

  it.live("a start position that is none is refused by name", () =>
    Effect.gen(function* () {
      const { transport } = yield* setup
      const error = yield* Effect.flip(Effect.scoped(transport.join(S.joining({ from: { id: "soon" } }))))
      assert.include(String(error), '"from"')
    }).pipe(Effect.scoped)
  )
})
