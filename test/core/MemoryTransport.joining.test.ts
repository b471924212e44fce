import * as MemoryTransport from "@clutch/core/MemoryTransport"
import { assert, describe, it } from "@effect/vitest"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import { TestClock } from "effect/testing"
import {
  ack,
  billing,
  dataOf,
  datas,
  given,
  inspect,
  join,
  joinIn,
  type Joining,
  joinOnly,
  orders,
  publish,
  settle,
  shipping,
  take,
  takeOne
} from "./MemoryTransport.support.ts"

describe("MemoryTransport", () => {
  describe("joining", () => {
    it.effect(
      "begins where it is told",
      given(function* () {
        yield* TestClock.setTime(1_000)
        const { ids } = yield* publish("1", "2")
        yield* TestClock.setTime(2_000)
        yield* publish("3")
        const from = Effect.fnUntraced(function* (name: string, start: NonNullable<Joining["from"]>) {
          const consumer = yield* join({ group: { ...orders, subscription: name }, from: start })
          return yield* Effect.flatMap(publish("last"), () => Effect.map(take(consumer), datas))
        })
        assert.deepStrictEqual(yield* from("beginning", "beginning"), ["1", "2", "3", "last"])
        assert.deepStrictEqual(yield* from("id", { id: ids[0] ?? "" }), ["2", "3", "last", "last"])
        assert.deepStrictEqual(yield* from("time", { time: DateTime.makeUnsafe(2_000) }), ["3", "last", "last", "last"])
        assert.deepStrictEqual(yield* from("new", "new"), ["last"])
      })
    )

    it.effect(
      "waits for a position that is still to come",
      given(function* () {
        const consumer = yield* join({ from: { time: DateTime.makeUnsafe(60_000) } })
        yield* publish("early")
        assert.deepStrictEqual((yield* inspect).waiting, Option.some(0))
        const fetching = yield* Effect.forkChild(take(consumer))
        yield* TestClock.adjust("59 seconds")
        yield* publish("still early")
        yield* TestClock.adjust("1 second")
        assert.isUndefined(fetching.pollUnsafe())
        yield* publish("in time")
        assert.deepStrictEqual(datas(yield* Fiber.join(fetching)), ["in time"])
      })
    )

    it.effect(
      "refuses what is no entry id, and creates nothing",
      given(function* () {
        const error = yield* Effect.flip(join({ from: { id: "yesterday" } }))
        assert.strictEqual(error.reason._tag, "InvalidOption")
        assert.include(error.message, `"from"`)
        assert.deepStrictEqual((yield* MemoryTransport.snapshot).logs, [])
      })
    )

    it.effect(
      "goes on where the group was, whatever is asked",
      given(function* () {
        yield* publish("1")
        const first = yield* join({ from: "beginning" })
        yield* settle(first, yield* takeOne(first), ack)
        yield* publish("2")
        const second = yield* join({ from: "beginning" })
        assert.deepStrictEqual(datas(yield* take(second)), ["2"])
      })
    )

    it.effect(
      "gives each consumer a name of its own unless one is given",
      given(function* () {
        const names = [(yield* join()).name, (yield* join()).name, (yield* join({ consumer: "mine" })).name]
        assert.strictEqual(new Set(names).size, 3)
        assert.strictEqual(names[2], "mine")
      })
    )

    it.effect(
      "undone before it was kept, leaves nothing behind",
      given(function* () {
        const before = yield* MemoryTransport.snapshot
        yield* Effect.scoped(joinOnly())
        assert.deepStrictEqual(yield* MemoryTransport.snapshot, before)
      })
    )

    it.effect(
      "undone, leaves a log that somebody has published to, without the group",
      given(function* () {
        yield* Effect.scoped(Effect.andThen(joinOnly(), publish("1")))
        assert.deepStrictEqual((yield* MemoryTransport.snapshot).keys, ["orders"])
      })
    )

    it.effect(
      "undone, leaves a group that was there before",
      given(function* () {
        yield* Effect.scoped(join())
        const before = yield* MemoryTransport.snapshot
        assert.deepStrictEqual(before.keys, ["orders", "orders:billing:retry"])
        yield* Effect.scoped(joinOnly())
        assert.deepStrictEqual(yield* MemoryTransport.snapshot, before)
      })
    )

    it.effect(
      "undone, leaves a group that another consumer has joined, and a log that carries another group",
      given(function* () {
        const scope = yield* Scope.make()
        yield* Scope.provide(joinOnly(), scope)
        yield* join()
        yield* Scope.close(scope, Exit.void)
        const { logs } = yield* MemoryTransport.snapshot
        assert.deepStrictEqual(
          logs.map(({ groups }) => groups.map(({ consumers }) => consumers.length)),
          [[1]]
        )
        const other = yield* Scope.make()
        yield* Scope.provide(joinOnly({ group: shipping }), other)
        yield* Scope.close(other, Exit.void)
        assert.deepStrictEqual((yield* MemoryTransport.snapshot).logs, logs)
      })
    )

    it.effect(
      "undone, leaves a group that has delivered something, and gives it back",
      given(function* () {
        yield* Effect.scoped(
          Effect.gen(function* () {
            const consumer = yield* joinOnly()
            yield* publish("1")
            yield* take(consumer)
          })
        )
        const consumer = yield* join()
        const entry = yield* takeOne(consumer)
        assert.deepStrictEqual([dataOf(entry), entry.attempt], ["1", 1])
      })
    )

    it.effect(
      "undone, leaves what others are about to join",
      given(function* () {
        const scopes = [yield* Scope.make(), yield* Scope.make(), yield* Scope.make()] as const
        yield* Scope.provide(joinOnly(), scopes[0])
        yield* Scope.provide(joinOnly({ consumer: "second" }), scopes[1])
        yield* Scope.provide(joinOnly({ group: shipping }), scopes[2])
        yield* Scope.close(scopes[0], Exit.void)
        const groups = Effect.map(MemoryTransport.snapshot, ({ logs }) =>
          logs.map((log) => log.groups.map((group) => group.subscription))
        )
        assert.deepStrictEqual(yield* groups, [["billing", "shipping"]])
        yield* Scope.close(scopes[1], Exit.void)
        assert.deepStrictEqual(yield* groups, [["shipping"]])
        yield* Scope.close(scopes[2], Exit.void)
        assert.deepStrictEqual(yield* groups, [])
      })
    )

    it.effect(
      "undone by several who joined together, in any order, leaves nothing behind",
      given(function* () {
        const before = yield* MemoryTransport.snapshot
        for (const order of [
          [0, 1, 2],
          [2, 1, 0],
          [1, 0, 2]
        ]) {
          const scopes = [yield* Scope.make(), yield* Scope.make(), yield* Scope.make()]
          yield* Effect.forEach(scopes, (scope, at) =>
            Scope.provide(joinOnly({ group: at === 2 ? shipping : billing }), scope)
          )
          for (const at of order) yield* Scope.close(scopes[at] ?? assert.fail(), Exit.void)
          assert.deepStrictEqual(yield* MemoryTransport.snapshot, before)
        }
      })
    )
  })

  describe("leaving", () => {
    it.effect(
      "gives back what is held at no cost of an attempt, and removes the consumer",
      given(function* () {
        const scope = yield* Scope.make()
        const leaver = yield* joinIn(scope)
        const stayer = yield* join({ consumer: "stayer" })
        yield* publish("1", "2")
        assert.lengthOf(yield* take(leaver), 2)
        const waiting = yield* Effect.forkChild(take(stayer))
        yield* TestClock.adjust(0)
        assert.isUndefined(waiting.pollUnsafe())
        yield* Scope.close(scope, Exit.void)
        const entries = yield* Fiber.join(waiting)
        assert.deepStrictEqual(
          entries.map((entry) => [dataOf(entry), entry.attempt, entry.reclaims]),
          [
            ["1", 1, 0],
            ["2", 1, 0]
          ]
        )
        const [log] = (yield* MemoryTransport.snapshot).logs
        assert.deepStrictEqual(log?.groups[0]?.consumers, [{ name: "stayer", pending: 2, fetching: 0 }])
      })
    )

    it.effect(
      "refuses to fetch afterwards, also a fetch that waits",
      given(function* () {
        const scope = yield* Scope.make()
        const consumer = yield* joinIn(scope)
        const waiting = yield* Effect.forkChild(Effect.flip(take(consumer)))
        yield* TestClock.adjust(0)
        yield* Scope.close(scope, Exit.void)
        assert.strictEqual((yield* Fiber.join(waiting)).reason._tag, "Unavailable")
        assert.strictEqual((yield* Effect.flip(take(consumer))).reason._tag, "Unavailable")
        yield* publish("1")
        assert.deepStrictEqual((yield* inspect).waiting, Option.some(1))
      })
    )
  })
})
