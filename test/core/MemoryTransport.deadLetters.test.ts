import { Transport } from "@clutch/core/Transport"
import { assert, describe, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import { TestClock } from "effect/testing"
import {
  billing,
  dataOf,
  deadLetters,
  die,
  given,
  join,
  nextTending,
  publish,
  retry,
  settle,
  shipping,
  take,
  takeOne,
  tend
} from "./MemoryTransport.support.ts"

describe("MemoryTransport", () => {
  describe("dead letters", () => {
    it.effect(
      "keep why and when",
      given(function* () {
        const consumer = yield* join()
        yield* TestClock.setTime(1_000)
        const { ids } = yield* publish('"x"')
        yield* TestClock.setTime(2_000)
        const first = yield* takeOne(consumer)
        yield* settle(consumer, first, retry("1 second"))
        yield* TestClock.setTime(3_000)
        yield* tend
        const second = yield* takeOne(consumer)
        yield* settle(consumer, second, {
          _tag: "DeadLetter",
          reason: "rejected",
          cause: "no such customer",
          attempts: 2
        })
        const [letter] = yield* deadLetters
        assert.deepStrictEqual(letter, {
          id: "3000-0",
          originalId: ids[0] ?? "",
          content: Result.succeed({ data: new TextEncoder().encode('"x"'), attributes: undefined }),
          raw: new TextEncoder().encode('"x"'),
          reason: "rejected",
          cause: "no such customer",
          attempts: 2,
          firstDelivered: Option.some(2_000),
          deadLettered: 3_000
        })
        const transport = yield* Transport
        assert.deepStrictEqual(yield* transport.deadLetters.get(billing, "3000-0"), Option.some(letter))
        assert.deepStrictEqual(yield* transport.deadLetters.get(billing, "3000-1"), Option.none())
      })
    )

    it.effect(
      "are read by pages, oldest first, also while they are discarded",
      given(function* () {
        yield* die("0", ...Array.from({ length: 199 }, (_, at) => `${at + 1}`))
        const { deadLetters } = yield* Transport
        const seen: Array<string> = []
        let after: string | undefined
        for (;;) {
          const page = yield* deadLetters.page(billing, { after, limit: 30 })
          if (page.length === 0) break
          seen.push(...page.map(dataOf))
          after = page[page.length - 1]?.id
          yield* deadLetters.discard(
            billing,
            page.map(({ id }) => id)
          )
        }
        assert.deepStrictEqual(
          seen,
          Array.from({ length: 200 }, (_, at) => `${at}`)
        )
        assert.strictEqual(yield* deadLetters.count(billing), 0)
      })
    )

    it.effect(
      "are read by pages behind an id, which may be gone",
      given(function* () {
        yield* die("0", "1", "2", "3", "4")
        const { deadLetters } = yield* Transport
        const page = (after: string | undefined) =>
          Effect.map(deadLetters.page(billing, { after, limit: 2 }), (page) => page.map(({ id }) => id))
        assert.deepStrictEqual(yield* page(undefined), ["0-1", "0-2"])
        yield* deadLetters.discard(billing, ["0-2", "0-3"])
        assert.deepStrictEqual(yield* page("0-1"), ["0-4", "0-5"])
        assert.deepStrictEqual(yield* page("0-2"), ["0-4", "0-5"])
        assert.deepStrictEqual(yield* page("0-5"), [])
      })
    )

    it.effect(
      "are redriven once, to the subscription that failed, with their attempts reset",
      given(function* () {
        const other = yield* join({ group: shipping })
        const consumer = yield* die("1", "2")
        yield* take(other)
        const transport = yield* Transport
        const [first] = yield* deadLetters
        const id = first?.id ?? assert.fail()
        const redrive = transport.deadLetters.redrive(billing, [id, id, "9-9", "nonsense"], Duration.minutes(1))
        assert.strictEqual(yield* redrive, 1)
        assert.strictEqual(yield* redrive, 0)
        assert.strictEqual(yield* transport.deadLetters.count(billing), 1)
        assert.deepStrictEqual(yield* nextTending, Option.some(60_000))
        yield* TestClock.adjust("1 minute")
        yield* tend
        const entry = yield* takeOne(consumer)
        assert.deepStrictEqual([dataOf(entry), entry.attempt, entry.originalId], ["1", 1, first?.originalId])
        const waiting = yield* Effect.forkChild(take(other))
        yield* TestClock.adjust("1 minute")
        assert.isUndefined(waiting.pollUnsafe())
        yield* Fiber.interrupt(waiting)
      })
    )

    it.effect(
      "are discarded once",
      given(function* () {
        yield* die("1", "2")
        const transport = yield* Transport
        const ids = (yield* deadLetters).map(({ id }) => id)
        assert.strictEqual(yield* transport.deadLetters.discard(billing, [...ids, ...ids]), 2)
        assert.strictEqual(yield* transport.deadLetters.discard(billing, ids), 0)
        assert.deepStrictEqual(yield* deadLetters, [])
      })
    )

    it.effect(
      "of a subscription that never was are none",
      given(function* () {
        const { deadLetters } = yield* Transport
        const never = { ...billing, subscription: "never" }
        assert.deepStrictEqual(yield* deadLetters.page(never, { after: undefined, limit: 10 }), [])
        assert.deepStrictEqual(yield* deadLetters.get(never, "1-0"), Option.none())
        assert.strictEqual(yield* deadLetters.count(never), 0)
        assert.strictEqual(yield* deadLetters.redrive(never, ["1-0"], Duration.zero), 0)
        assert.strictEqual(yield* deadLetters.discard(never, ["1-0"]), 0)
      })
    )

    it.effect(
      "hand out copies of their bytes",
      given(function* () {
        yield* die("1")
        for (const letter of yield* deadLetters) letter.raw.fill(0)
        assert.deepStrictEqual(
          (yield* deadLetters).map(({ raw }) => raw),
          [new TextEncoder().encode("1")]
        )
      })
    )
  })
})
