import * as MemoryTransport from "@clutch/core/MemoryTransport"
import { Transport } from "@clutch/core/Transport"
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
  given,
  join,
  nextTending,
  orders,
  publish,
  retry,
  settle,
  take,
  takeOne,
  tend
} from "./MemoryTransport.support.ts"

describe("MemoryTransport", () => {
  describe("leases", () => {
    it.effect(
      "end after the consumer's own visibility timeout, and cost an attempt",
      given(function* () {
        const short = yield* join({ visibilityTimeout: Duration.seconds(10) })
        const long = yield* join({ visibilityTimeout: Duration.minutes(10) })
        yield* publish("1", "2")
        yield* takeOne(short)
        yield* takeOne(long)
        assert.deepStrictEqual(yield* nextTending, Option.some(10_000))
        yield* TestClock.adjust(9_999)
        assert.strictEqual((yield* tend).reclaimed, 0)
        yield* TestClock.adjust(1)
        assert.strictEqual((yield* tend).reclaimed, 1)
        const entry = yield* takeOne(long)
        assert.deepStrictEqual([dataOf(entry), entry.attempt, entry.reclaims], ["1", 2, 1])
        assert.deepStrictEqual(yield* nextTending, Option.some(590_000))
      })
    )

    it.effect(
      "are extended where the consumer still holds them, and reported where not",
      given(function* () {
        const [consumer, other] = [yield* join(), yield* join()]
        yield* publish("1", "2")
        const [lost, kept] = yield* take(consumer)
        assert(lost !== undefined && kept !== undefined)
        yield* TestClock.adjust("20 seconds")
        assert.deepStrictEqual(yield* consumer.extend([kept]), [])
        yield* TestClock.adjust("10 seconds")
        assert.deepStrictEqual(yield* nextTending, Option.some(20_000))
        assert.deepStrictEqual(datas(yield* take(other)), ["1"])
        assert.deepStrictEqual(yield* consumer.extend([lost, kept]), [lost])
        yield* TestClock.adjust("29 seconds")
        assert.strictEqual((yield* tend).reclaimed, 0)
      })
    )

    it.effect(
      "a live consumer keeps its work for as long as it extends",
      given(function* () {
        const consumer = yield* join()
        yield* publish("1")
        const entry = yield* takeOne(consumer)
        for (let beat = 0; beat < 1_000; beat++) {
          yield* TestClock.adjust("10 seconds")
          yield* consumer.extend([entry])
          assert.strictEqual((yield* tend).reclaimed, 0)
        }
        assert.strictEqual(yield* settle(consumer, entry, ack), "done")
      })
    )

    it.effect(
      "reclaimed work that is marked as not started costs no attempt",
      given(function* () {
        const dead = yield* join()
        const consumer = yield* join()
        yield* publish("started", "not started", "neither")
        const [first] = yield* take(dead)
        yield* dead.mark("main", first?.id)
        yield* TestClock.adjust("30 seconds")
        assert.strictEqual((yield* tend).reclaimed, 3)
        const entries = yield* take(consumer)
        assert.deepStrictEqual(
          entries.map((entry) => [dataOf(entry), entry.attempt, entry.reclaims]),
          [
            ["started", 2, 1],
            ["not started", 1, 0],
            ["neither", 1, 0]
          ]
        )
      })
    )

    it.effect(
      "a mark is of one of the two logs, and can be taken back",
      given(function* () {
        const dead = yield* join()
        const consumer = yield* join()
        yield* publish("main", "retried")
        const [, retried] = yield* take(dead)
        yield* settle(dead, retried ?? assert.fail(), retry(0))
        yield* tend
        yield* take(dead)
        yield* dead.mark("retry", "0-0")
        yield* dead.mark("main", "0-0")
        yield* dead.mark("main", undefined)
        yield* TestClock.adjust("30 seconds")
        assert.strictEqual((yield* tend).reclaimed, 2)
        const entries = yield* take(consumer)
        assert.deepStrictEqual(
          entries.map((entry) => [dataOf(entry), entry.attempt, entry.reclaims]),
          [
            ["retried", 2, 0],
            ["main", 2, 1]
          ]
        )
      })
    )

    it.effect(
      "what a predecessor of the same name holds is reclaimed in its time, and counts as started",
      given(function* () {
        const first = yield* join({ consumer: "same" })
        yield* publish("1")
        yield* take(first)
        yield* first.mark("main", "0-0")
        yield* tend
        let calls = 0
        yield* Transport.use((transport) => transport.watch(orders, () => calls++))
        const second = yield* join({ consumer: "same", visibilityTimeout: Duration.seconds(5) })
        yield* TestClock.adjust(0)
        assert.strictEqual(calls, 1)
        assert.deepStrictEqual(yield* nextTending, Option.some(5_000))
        yield* TestClock.adjust("5 seconds")
        assert.strictEqual((yield* tend).reclaimed, 1)
        assert.strictEqual((yield* takeOne(second)).attempt, 2)
      })
    )

    it.effect(
      "wakes a consumer that waits",
      given(function* () {
        const dead = yield* join()
        yield* publish("1")
        yield* take(dead)
        const fetching = yield* Effect.forkChild(takeOne(yield* join()))
        yield* TestClock.adjust("30 seconds")
        assert.isUndefined(fetching.pollUnsafe())
        yield* tend
        assert.strictEqual((yield* Fiber.join(fetching)).attempt, 2)
      })
    )
  })

  describe("dead consumers", () => {
    it.effect(
      "are removed once nothing is pending and they were silent for long",
      given(function* () {
        const silent = yield* join({ consumer: "silent", visibilityTimeout: Duration.minutes(1) })
        yield* publish("1")
        yield* take(silent)
        yield* join({ consumer: "younger" })
        yield* TestClock.adjust("1 minute")
        assert.strictEqual((yield* tend).removed, 0)
        yield* TestClock.adjust("4 minutes")
        assert.strictEqual((yield* tend).removed, 1)
        yield* TestClock.adjust("5 minutes")
        assert.strictEqual((yield* tend).removed, 1)
        assert.deepStrictEqual((yield* MemoryTransport.snapshot).logs[0]?.groups[0]?.consumers, [])
        // it was alive after all
        assert.deepStrictEqual(datas(yield* take(silent)), ["1"])
      })
    )

    it.effect(
      "with something pending are never removed, nor is one that waits for messages",
      given(function* () {
        const busy = yield* join({ consumer: "busy", visibilityTimeout: Duration.hours(10) })
        const waiting = yield* join({ consumer: "waiting" })
        yield* publish("1")
        yield* take(busy)
        const fetching = yield* Effect.forkChild(take(waiting))
        yield* TestClock.adjust("9 hours")
        assert.strictEqual((yield* tend).removed, 0)
        yield* Fiber.interrupt(fetching)
        yield* TestClock.adjust("299 seconds")
        assert.strictEqual((yield* tend).removed, 0)
        yield* TestClock.adjust("1 second")
        assert.strictEqual((yield* tend).removed, 1)
      })
    )

    it.effect(
      "are kept while more of theirs is pending than one call of tend takes",
      given(function* () {
        const dead = yield* join()
        yield* publish("0", ...Array.from({ length: 1_999 }, (_, at) => `${at + 1}`))
        yield* take(dead, { count: 2_000 })
        yield* TestClock.adjust("1 hour")
        const first = yield* tend
        assert.isBelow(first.reclaimed, 2_000)
        assert.deepStrictEqual([first.removed, first.next], [0, Option.some(Duration.zero)])
        const second = yield* tend
        assert.strictEqual(first.reclaimed + second.reclaimed, 2_000)
        assert.deepStrictEqual([second.removed, second.next], [1, Option.none()])
      })
    )
  })
})
