/**
 * Joining through a network that is slow, cuts replies or refuses: whatever happens meanwhile, nothing of a join that does
 * not stand remains, and nothing that stands is lost.
 */
import { RedisKeys } from "@clutch/redis"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import { collecting, xinfo } from "../cases/kit.ts"
import * as S from "./support.ts"

const setup = Effect.gen(function* () {
  const { proxy, redis } = yield* S.behindProxy()
  const admin = yield* S.looker(redis.url)
  return {
    admin,
    proxy,
    transport: yield* S.transport({ url: proxy.url }),
    keys: Effect.promise(() => S.keysOf(admin, "*")),
    connections: Effect.promise(() => S.connections(admin))
  }
})

type Setup = Effect.Success<typeof setup>

/** Until the client knows of it. */
const outage = ({ proxy, transport }: Pick<Setup, "proxy" | "transport">) => {
  proxy.refuse(true)
  proxy.cutAll()
  return S.until("the client knows", () =>
    Effect.runPromise(Effect.map(Effect.exit(transport.lastId(S.group())), Exit.isFailure))
  )
}

describe("joining", () => {
  it.live("interrupted at any moment, a join leaves no key, consumer or connection", () =>
    Effect.gen(function* () {
      const { admin, connections, keys, proxy, transport } = yield* setup
      yield* S.connected(admin)
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
      assert.strictEqual(yield* connections, 3)
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

  it.live("leaving a server that takes too long is given up, and said to be just that", () => {
    const { layer, lines } = collecting()
    return Effect.gen(function* () {
      const { proxy, transport } = yield* setup
      const scope = yield* Scope.make()
      yield* Scope.provide(S.join(transport), scope)
      proxy.delayReplies(5000)
      yield* Scope.close(scope, Exit.void)
      proxy.cutAll()
      const told = lines.filter(({ text }) => text.includes("given up")).map(({ text }) => /\(.*\)/.exec(text)?.[0])
      assert.deepStrictEqual(told, ["(not done within 2 seconds)"])
    }).pipe(Effect.scoped, Effect.provide(layer))
  })

  it.live("in an outage it fails at once, and closing does not wait for the server", () =>
    Effect.gen(function* () {
      const { proxy, transport } = yield* setup
      yield* outage({ proxy, transport })
      const begun = performance.now()
      const error = yield* Effect.flip(Effect.scoped(transport.join(S.joining())))
      assert.strictEqual(error.reason._tag, "Unavailable")
      assert.isBelow(performance.now() - begun, 100)
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

  // the new incarnation was on its way, and the old one no longer had the name
  it.live("leaving while a new incarnation is on its way, or may stand, removes the consumer all the same", () =>
    Effect.gen(function* () {
      for (const isLost of [false, true]) {
        const { admin, proxy, transport } = yield* setup
        const scope = yield* Scope.make()
        const consumer = yield* Scope.provide(S.join(transport), scope)
        yield* S.publish(transport, "a")
        const [entry] = (yield* consumer.fetch(S.limit())).entries
        if (entry === undefined) return assert.fail("nothing was fetched")
        const { state } = RedisKeys.group("clutch", S.group())
        // as whoever takes something from it does
        yield* Effect.promise(() => admin.hdel(state, `n:${consumer.name}`))
        if (isLost)
          yield* Effect.forkScoped(Effect.promise(() => proxy.cutReply((text) => /^evalsha.* again /i.test(text))))
        yield* Effect.exit(S.settle(consumer, entry, S.ack))
        if (isLost)
          yield* S.until("it has joined again", async () => (await admin.hexists(state, `n:${consumer.name}`)) === 1)
        yield* Scope.close(scope, Exit.void)
        const left = yield* Effect.promise(() => admin.hkeys(state))
        assert.deepStrictEqual(
          left.filter((field) => field.includes(consumer.name)),
          [],
          `the reply was lost: ${isLost}`
        )
        const rows = yield* Effect.promise(() => xinfo(admin, "CONSUMERS", "clutch.{orders}", "billing"))
        assert.deepStrictEqual(rows, [])
      }
    }).pipe(Effect.scoped)
  )

  it.live("in an outage, those who leave one after the other wait for the server once", () => {
    const { layer, lines } = collecting()
    return Effect.gen(function* () {
      const { proxy, transport } = yield* setup
      const scope = yield* Scope.make()
      for (const topic of ["a", "b", "c", "d", "e", "f"]) {
        yield* Scope.provide(S.join(transport, { group: S.group(topic) }), scope)
      }
      yield* outage({ proxy, transport })
      const begun = performance.now()
      yield* Scope.close(scope, Exit.void)
      assert.isBelow(performance.now() - begun, 6000)
      assert.strictEqual(lines.filter(({ text }) => text.includes("was given up")).length, 6)
    }).pipe(Effect.scoped, Effect.provide(layer))
  })

  it.live("again, as a settlement found the group gone, is said as it is where a read did", () => {
    const { layer, lines } = collecting()
    return Effect.gen(function* () {
      const { admin, transport } = yield* setup
      const consumer = yield* S.join(transport)
      yield* S.publish(transport, "a")
      const [entry] = (yield* consumer.fetch(S.limit())).entries
      if (entry === undefined) return assert.fail("nothing was fetched")
      yield* Effect.promise(() => admin.flushall())
      yield* Effect.exit(S.settle(consumer, entry, S.ack))
      yield* S.until("it has joined again", async () => (await admin.exists("clutch.{orders}")) === 1)
      yield* S.publish(transport, "b")
      assert.deepStrictEqual((yield* S.fetching(consumer)).map(S.text), ["b"])
      assert.strictEqual(lines.filter(({ text }) => text.includes("had disappeared, now created again")).length, 1)
    }).pipe(Effect.scoped, Effect.provide(layer))
  })
})
