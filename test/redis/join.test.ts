/**
 * Joining: nothing of a join that does not stand remains, and nothing that stands is lost.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import * as S from "./support.ts"

const setup = Effect.gen(function* () {
  const { options, redis } = yield* S.own
  return {
    options,
    transport: yield* S.transport(options),
    keys: Effect.promise(() => S.keysOf(redis, "*")),
    connections: Effect.promise(() => S.connections(redis)),
    connected: S.connected(redis),
    consumers: (stream: string, group: string) =>
      Effect.promise(() => redis.xinfo("CONSUMERS", stream, group) as Promise<ReadonlyArray<unknown>>)
  }
})

describe("joining", () => {
  it.live("a join that is not kept is undone when its scope closes", () =>
    Effect.gen(function* () {
      const { connected, connections, keys, transport } = yield* setup
      yield* connected
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
      const { options, transport } = yield* setup
      const other = yield* S.transport(options)
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

  it.live("a start position that is none is refused by name", () =>
    Effect.gen(function* () {
      const { transport } = yield* setup
      const error = yield* Effect.flip(Effect.scoped(transport.join(S.joining({ from: { id: "soon" } }))))
      assert.include(String(error), '"from"')
    }).pipe(Effect.scoped)
  )
})
