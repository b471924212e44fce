import * as MemoryTransport from "@clutch/core/MemoryTransport"
import { assert, describe, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import { TestClock } from "effect/testing"
import {
  ack,
  dataOf,
  datas,
  deadLetter,
  given,
  inspect,
  join,
  nextTending,
  outstanding,
  publish,
  release,
  retry,
  settle,
  shipping,
  take,
  takeOne,
  tend
} from "./MemoryTransport.support.ts"
import { unordered } from "./support.ts"

describe("MemoryTransport", () => {
  describe("settling", () => {
    it.effect(
      "is done once; a second time it is lost, or unknown where the call is repeated",
      given(function* () {
        const consumer = yield* join()
        for (const outcome of [ack, retry("1 hour"), deadLetter, release]) {
          yield* publish("1")
          const entry = yield* takeOne(consumer)
          const settled = yield* settle(consumer, entry, outcome)
          assert.deepStrictEqual(settled, outcome === deadLetter ? { _tag: "DeadLettered", id: "0-1" } : "done")
          assert.strictEqual(yield* settle(consumer, entry, outcome, true), "unknown")
          assert.strictEqual(yield* settle(consumer, entry, outcome), "lost")
        }
        assert.deepStrictEqual(yield* inspect, {
          waiting: Option.some(0),
          pending: 1,
          due: 1,
          deadLetters: 1,
          ...unordered
        })
      })
    )

    it.effect(
      "answers each in order",
      given(function* () {
        const consumer = yield* join()
        yield* publish("1", "2", "3")
        const [first, second, third] = yield* take(consumer)
        assert(first !== undefined && second !== undefined && third !== undefined)
        yield* settle(consumer, second, ack)
        const answers = yield* consumer.settle(
          [first, second, third].map((entry) => ({ entry, outcome: ack, repeated: false })) as never // three, so not empty
        )
        assert.deepStrictEqual(answers, ["done", "lost", "done"])
      })
    )

    it.effect(
      "is refused where another consumer holds the delivery, and changes nothing there",
      given(function* () {
        const [slow, quick] = [yield* join(), yield* join()]
        yield* publish("1")
        const before = yield* takeOne(slow)
        yield* TestClock.adjust("30 seconds")
        assert.strictEqual((yield* tend).reclaimed, 1)
        const after = yield* takeOne(quick)
        for (const outcome of [ack, retry(0), deadLetter, release]) {
          assert.strictEqual(yield* settle(slow, before, outcome), "lost")
          assert.strictEqual(yield* settle(slow, before, outcome, true), "lost")
        }
        assert.strictEqual(yield* settle(quick, after, ack), "done")
        assert.deepStrictEqual(yield* inspect, {
          waiting: Option.some(0),
          pending: 0,
          due: 0,
          deadLetters: 0,
          ...unordered
        })
      })
    )

    it.effect(
      "is refused to an earlier delivery of the same consumer",
      given(function* () {
        const consumer = yield* join()
        yield* publish("1")
        const before = yield* takeOne(consumer)
        yield* settle(consumer, before, release)
        const after = yield* takeOne(consumer)
        assert.strictEqual(yield* settle(consumer, before, ack), "lost")
        assert.strictEqual(yield* settle(consumer, after, ack), "done")
      })
    )

    it.effect(
      "works on a copy of the entry",
      given(function* () {
        const consumer = yield* join()
        yield* publish("1")
        assert.strictEqual(yield* settle(consumer, { ...(yield* takeOne(consumer)) }, ack), "done")
      })
    )

    it.effect(
      "releases at no cost of an attempt, as often as one likes",
      given(function* () {
        const consumer = yield* join()
        yield* publish("1")
        for (let at = 0; at < 10; at++) {
          const entry = yield* takeOne(consumer, { maxAttempts: 1 })
          assert.deepStrictEqual([entry.attempt, entry.reclaims], [1, 0])
          yield* settle(consumer, entry, release)
        }
      })
    )
  })

  describe("retrying", () => {
    it.effect(
      "is delivered to its own subscription when due, not earlier, with its attempt counted",
      given(function* () {
        const consumer = yield* join()
        const other = yield* join({ group: shipping })
        yield* publish("1")
        yield* take(other)
        const first = yield* takeOne(consumer)
        yield* TestClock.adjust("5 seconds")
        yield* settle(consumer, first, retry("2 hours"))
        assert.deepStrictEqual(yield* nextTending, Option.some(7_200_000))
        const fetching = yield* Effect.forkChild(takeOne(consumer))
        yield* TestClock.adjust(7_200_000 - 1)
        assert.strictEqual((yield* tend).moved, 0)
        assert.isUndefined(fetching.pollUnsafe())
        yield* TestClock.adjust(1)
        assert.strictEqual((yield* tend).moved, 1)
        const second = yield* Fiber.join(fetching)
        assert.deepStrictEqual(
          {
            ...second,
            tracked: undefined,
            delivery: undefined,
            content: dataOf(second)
          },
          {
            origin: "retry",
            stream: "orders:billing:retry",
            id: "7205000-0",
            originalId: first.id,
            attempt: 2,
            reclaims: 0,
            redriven: undefined,
            key: undefined,
            firstDelivered: 0,
            size: 1,
            content: "1",
            tracked: undefined,
            delivery: undefined
          }
        )
        const waiting = yield* Effect.forkChild(take(other))
        yield* TestClock.adjust("1 hour")
        assert.isUndefined(waiting.pollUnsafe())
        yield* Fiber.interrupt(waiting)
      })
    )

    it.effect(
      "retries from the retry log go to the same retry log",
      given(function* () {
        const consumer = yield* join()
        yield* publish("1")
        for (let attempt = 1; attempt <= 20; attempt++) {
          const entry = yield* takeOne(consumer)
          assert.strictEqual(entry.attempt, attempt)
          yield* settle(consumer, entry, retry("1 minute"))
          yield* TestClock.adjust("1 minute")
          yield* tend
        }
        assert.deepStrictEqual((yield* MemoryTransport.snapshot).keys, ["orders", "orders:billing:retry"])
      })
    )

    it.effect(
      "moves those that are due in the order of their time",
      given(function* () {
        const consumer = yield* join()
        yield* publish("a", "b", "c", "d")
        const delays = [30, 10, 20, 10]
        for (const [at, entry] of (yield* take(consumer)).entries()) {
          yield* settle(consumer, entry, retry(Duration.seconds(delays[at] ?? 0)))
        }
        yield* TestClock.adjust("29 seconds")
        assert.strictEqual((yield* tend).moved, 3)
        assert.deepStrictEqual(datas(yield* take(consumer)), ["b", "d", "c"])
      })
    )

    it.effect(
      "moves those that are due at the same time in the order of their failures",
      given(function* () {
        const consumer = yield* join()
        const failed = Array.from({ length: 50 }, (_, at) => `${at}`)
        yield* publish("0", ...failed.slice(1))
        for (const entry of yield* take(consumer)) yield* settle(consumer, entry, retry("1 second"))
        yield* TestClock.adjust("1 second")
        yield* tend
        assert.deepStrictEqual(datas(yield* take(consumer)), failed)
      })
    )

    it.effect(
      "bounds the work of a call, and says that more is left",
      given(function* () {
        const consumer = yield* join()
        yield* publish("0", ...Array.from({ length: 2_999 }, (_, at) => `${at + 1}`))
        for (const entry of yield* take(consumer, { count: 3_000 })) yield* settle(consumer, entry, retry(0))
        const first = yield* tend
        assert.isBelow(first.moved, 3_000)
        assert.deepStrictEqual(first.next, Option.some(Duration.zero))
        let moved = first.moved
        for (let call = 0; call < 10; call++) moved += (yield* tend).moved
        assert.strictEqual(moved, 3_000)
        assert.deepStrictEqual(yield* nextTending, Option.none())
      })
    )

    it.effect(
      "never falls due after an endless delay",
      given(function* () {
        const consumer = yield* join()
        yield* publish("1")
        yield* settle(consumer, yield* takeOne(consumer), retry("Infinity"))
        assert.deepStrictEqual(yield* nextTending, Option.none())
        assert.isTrue(yield* outstanding("1-0"))
      })
    )
  })
})
