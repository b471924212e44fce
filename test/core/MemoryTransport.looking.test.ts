import * as MemoryTransport from "@clutch/core/MemoryTransport"
import { Transport } from "@clutch/core/Transport"
import { assert, describe, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import { TestClock } from "effect/testing"
import {
  ack,
  billing,
  deadLetter,
  deadLetters,
  die,
  everything,
  given,
  inspect,
  join,
  nextTending,
  orders,
  outstanding,
  publish,
  publishKeeping,
  release,
  retry,
  settle,
  take,
  takeOne,
  tend
} from "./MemoryTransport.support.ts"
import { unordered } from "./support.ts"

describe("MemoryTransport", () => {
  describe("watching", () => {
    it.effect(
      "tells of every change that makes the next tending earlier, and of no other",
      given(function* () {
        let calls = 0
        const told = Effect.map(TestClock.adjust(0), () => {
          const count = calls
          calls = 0
          return count
        })
        const transport = yield* Transport
        const scope = yield* Scope.make()
        yield* Scope.provide(
          transport.watch(orders, () => {
            calls++
          }),
          scope
        )
        const consumer = yield* join()
        yield* publish("1", "2", "3")
        assert.strictEqual(yield* told, 0)
        const first = yield* takeOne(consumer)
        assert.strictEqual(yield* told, 1, "a first lease")
        const second = yield* takeOne(consumer)
        assert.strictEqual(yield* told, 0, "a lease that ends later")
        yield* settle(consumer, first, retry("1 minute"))
        assert.strictEqual(yield* told, 0, "due after the lease ends")
        yield* settle(consumer, second, retry("10 seconds"))
        assert.strictEqual(yield* told, 1, "due before")
        assert.deepStrictEqual(yield* nextTending, Option.some(10_000))
        const quick = yield* join({ visibilityTimeout: Duration.seconds(1) })
        yield* takeOne(quick)
        assert.strictEqual(yield* told, 1, "another one's shorter lease")
        assert.strictEqual((yield* MemoryTransport.snapshot).watchers, 1)
        yield* Scope.close(scope, Exit.void)
        yield* publish("4")
        yield* settle(quick, yield* takeOne(quick), retry(0))
        assert.strictEqual(yield* told, 0)
        assert.strictEqual((yield* MemoryTransport.snapshot).watchers, 0)
      })
    )

    it.effect(
      "tells of a redrive",
      given(function* () {
        yield* die("1")
        let calls = 0
        const transport = yield* Transport
        yield* transport.watch(orders, () => {
          calls++
        })
        const [letter] = yield* deadLetters
        yield* transport.deadLetters.redrive(billing, [letter?.id ?? ""], Duration.zero)
        yield* TestClock.adjust(0)
        assert.strictEqual(calls, 1)
      })
    )

    it.effect(
      "creates no log",
      given(function* () {
        const transport = yield* Transport
        yield* Effect.scoped(transport.watch(orders, () => {}))
        assert.deepStrictEqual((yield* MemoryTransport.snapshot).logs, [])
      })
    )
  })

  describe("looking", () => {
    it.effect(
      "tells a group's numbers",
      given(function* () {
        assert.deepStrictEqual(yield* inspect, {
          waiting: Option.none(),
          pending: 0,
          due: 0,
          deadLetters: 0,
          ...unordered
        })
        const consumer = yield* join()
        yield* publish("1", "2", "3", "4", "5", "6")
        const [a, b, c, d] = yield* take(consumer, { count: 5 })
        yield* settle(consumer, a ?? assert.fail(), ack)
        yield* settle(consumer, b ?? assert.fail(), deadLetter)
        yield* settle(consumer, c ?? assert.fail(), retry(0))
        yield* settle(consumer, d ?? assert.fail(), release)
        assert.deepStrictEqual(yield* inspect, {
          waiting: Option.some(1),
          pending: 2,
          due: 1,
          deadLetters: 1,
          ...unordered
        })
        yield* tend
        assert.deepStrictEqual((yield* inspect).due, 1)
        yield* take(consumer)
        assert.deepStrictEqual(yield* inspect, {
          waiting: Option.some(0),
          pending: 4,
          due: 0,
          deadLetters: 1,
          ...unordered
        })
      })
    )

    it.effect(
      "something is outstanding until all up to an id is acked or dead-lettered",
      given(function* () {
        const consumer = yield* join()
        const { ids } = yield* publish("1", "2", "3")
        const second = ids[1] ?? assert.fail()
        assert.isTrue(yield* outstanding(second))
        const [a, b, c] = yield* take(consumer)
        assert(a !== undefined && b !== undefined && c !== undefined)
        yield* settle(consumer, a, ack)
        assert.isTrue(yield* outstanding(second))
        yield* settle(consumer, b, retry("1 minute"))
        assert.isTrue(yield* outstanding(second))
        assert.isFalse(yield* outstanding(second, "ignore"), "its time has not come")
        yield* TestClock.adjust("1 minute")
        assert.isTrue(yield* outstanding(second, "ignore"), "its time has come, though nobody has moved it")
        yield* consumer.extend([c])
        yield* tend
        assert.isTrue(yield* outstanding(second, "ignore"))
        const again = yield* takeOne(consumer)
        assert.isTrue(yield* outstanding(second, "ignore"))
        yield* settle(consumer, again, release)
        assert.isTrue(yield* outstanding(second, "ignore"))
        yield* settle(consumer, yield* takeOne(consumer), deadLetter)
        assert.isFalse(yield* outstanding(second))
        assert.isTrue(yield* outstanding(ids[2] ?? ""))
        const [letter] = yield* deadLetters
        yield* Transport.use((transport) => transport.deadLetters.redrive(billing, [letter?.id ?? ""], Duration.zero))
        assert.isTrue(yield* outstanding(second))
      })
    )

    it.effect(
      "is asked in vain of a group that does not exist",
      given(function* () {
        assert.strictEqual((yield* Effect.flip(outstanding("1-0"))).reason._tag, "NoSubscription")
        yield* Transport.use((transport) => transport.progress(billing))
        assert.deepStrictEqual(yield* tend, { moved: 0, reclaimed: 0, removed: 0, poison: 0, next: Option.none() })
      })
    )

    it.effect(
      "finds the least of many retries that come and go in any order",
      given(function* () {
        const consumer = yield* join()
        const ids: Array<string> = []
        const unsettled = new Set<string>()
        let seed = 1
        const random = (below: number) => {
          seed = (seed * 48_271) % 2_147_483_647
          return seed % below
        }
        for (let round = 0; round < 150; round++) {
          const published = (yield* publish("", ...Array.from({ length: 9 }, () => ""))).ids
          ids.push(...published)
          for (const id of published) unsettled.add(id)
          const entries = (yield* take(consumer)).map((entry) => ({ entry, turn: random(1_000) }))
          for (const { entry } of entries.toSorted((a, b) => a.turn - b.turn)) {
            if (random(3) === 0) {
              yield* settle(consumer, entry, ack)
              unsettled.delete(entry.originalId)
            } else yield* settle(consumer, entry, retry(Duration.millis(random(10))))
          }
          for (const due of ["wait", "ignore"] as const) {
            const answer = Effect.map(inspect, (numbers) => due === "wait" || numbers.due === 0)
            if (!(yield* answer)) continue
            const least = ids.findIndex((id) => unsettled.has(id))
            if (least > 0) assert.isFalse(yield* outstanding(ids[least - 1] ?? "", due))
            if (least >= 0) assert.isTrue(yield* outstanding(ids[least] ?? "", due))
          }
          yield* TestClock.adjust(random(8))
          yield* tend
        }
        assert.isAbove(unsettled.size, 0)
      })
    )

    it.effect(
      "progress wakes at each change, also one between asking and waiting",
      given(function* () {
        const transport = yield* Transport
        const consumer = yield* join()
        const { ids } = yield* publish("1", "2")
        const through = ids[1] ?? assert.fail()
        let asked = 0
        const idle = yield* Effect.gen(function* () {
          while (yield* transport.outstanding(billing, { through, due: "wait" })) {
            asked++
            yield* transport.progress(billing)
          }
        }).pipe(Effect.forkChild)
        const [a, b] = yield* take(consumer)
        assert(a !== undefined && b !== undefined)
        yield* settle(consumer, a, ack)
        yield* TestClock.adjust("1 hour")
        assert.isUndefined(idle.pollUnsafe())
        assert.isBelow(asked, 5)
        yield* settle(consumer, b, ack)
        yield* Fiber.join(idle)

        // and now in the same fiber
        const last = (yield* publish("3")).ids[0] ?? assert.fail()
        assert.isTrue(yield* outstanding(last))
        yield* settle(consumer, yield* takeOne(consumer), ack)
        yield* transport.progress(billing)
        assert.isFalse(yield* outstanding(last))
      })
    )

    it.effect(
      "what the retention has dropped unread is not outstanding",
      given(function* () {
        yield* join()
        const { ids } = yield* publish("1")
        assert.isTrue(yield* outstanding(ids[0] ?? ""))
        yield* publishKeeping({ ...everything, maxLength: 1 }, "2")
        assert.isFalse(yield* outstanding(ids[0] ?? ""))
      })
    )
  })
})
