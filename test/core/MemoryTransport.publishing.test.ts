import { Transport } from "@clutch/core/Transport"
import { assert, describe, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Logger from "effect/Logger"
import * as Result from "effect/Result"
import { TestClock } from "effect/testing"
import {
  ack,
  dataOf,
  datas,
  deadLetter,
  deadLetters,
  everything,
  given,
  inspect,
  join,
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

describe("MemoryTransport", () => {
  describe("publishing", () => {
    it.effect(
      "names entries by the clock, and only upwards while it steps back",
      given(function* () {
        yield* TestClock.setTime(5_000)
        const first = yield* publish("1", "2")
        yield* TestClock.setTime(3_000)
        const second = yield* publish("3")
        assert.deepStrictEqual([...first.ids, ...second.ids], ["5000-0", "5000-1", "5000-2"])
        const transport = yield* Transport
        assert.strictEqual(yield* transport.lastId(orders), "5000-2")
        assert.strictEqual(yield* transport.lastId({ ...orders, topic: "other" }), "0-0")
      })
    )

    it.effect(
      "never names an entry 0-0, which says that there is none",
      given(function* () {
        assert.deepStrictEqual((yield* publish("1")).ids, ["0-1"])
      })
    )

    it.effect(
      "keeps data and attributes as they were when published",
      given(function* () {
        const consumer = yield* join()
        const headers = { tenant: "a" }
        const transport = yield* Transport
        yield* transport.publish(
          orders,
          [{ data: '"ü\u{1f95a}\\u0000"', attributes: { subject: "s", headers } }],
          everything
        )
        headers.tenant = "b"
        const entry = yield* takeOne(consumer)
        assert.deepStrictEqual(
          entry.content,
          Result.succeed({
            data: new TextEncoder().encode('"ü\u{1f95a}\\u0000"'),
            attributes: { subject: "s", headers: { tenant: "a" } }
          })
        )
        assert.strictEqual(entry.size, 14)
      })
    )

    it.effect(
      "keeps no more than maxLength, and counts what it drops",
      given(function* () {
        const consumer = yield* join()
        assert.strictEqual((yield* publishKeeping({ ...everything, maxLength: 2 }, "1", "2", "3")).trimmed, 1)
        assert.strictEqual((yield* publishKeeping({ ...everything, maxLength: 2 }, "4")).trimmed, 1)
        assert.deepStrictEqual(datas(yield* take(consumer)), ["3", "4"])
      })
    )

    it.effect(
      "keeps nothing older than maxAge",
      given(function* () {
        const consumer = yield* join()
        const retention = { ...everything, maxAge: Duration.minutes(1) }
        yield* publishKeeping(retention, "old")
        yield* TestClock.adjust("1 minute")
        assert.strictEqual((yield* publishKeeping(retention, "just young enough")).trimmed, 0)
        yield* TestClock.adjust("1 milli")
        assert.strictEqual((yield* publishKeeping(retention, "new")).trimmed, 1)
        assert.deepStrictEqual(datas(yield* take(consumer)), ["just young enough", "new"])
      })
    )

    it.effect(
      "stays fast and small over many trimmed entries",
      given(function* () {
        const consumer = yield* join()
        for (let at = 0; at < 5_000; at++) yield* publishKeeping({ ...everything, maxLength: 3 }, `${at}`)
        assert.deepStrictEqual(datas(yield* take(consumer)), ["4997", "4998", "4999"])
      })
    )
  })

  describe("trimming in flight", () => {
    it.effect(
      "is settled from the copy in memory",
      given(function* () {
        const consumer = yield* join()
        yield* publish("ack", "retry", "dead", "release")
        const [a, b, c, d] = yield* take(consumer)
        yield* publishKeeping({ ...everything, maxLength: 1 }, "new")
        assert.strictEqual(yield* settle(consumer, a ?? assert.fail(), ack), "done")
        assert.strictEqual(yield* settle(consumer, b ?? assert.fail(), retry(0)), "done")
        assert.deepStrictEqual(yield* settle(consumer, c ?? assert.fail(), deadLetter), {
          _tag: "DeadLettered",
          id: "0-1"
        })
        assert.strictEqual(yield* settle(consumer, d ?? assert.fail(), release), "done")
        yield* tend
        assert.deepStrictEqual(datas(yield* take(consumer)), ["release", "retry", "new"])
        assert.deepStrictEqual((yield* deadLetters).map(dataOf), ["dead"])
      })
    )

    it.effect(
      "keeps its lease while the consumer lives; is dropped, counted and logged once it has died",
      given(function* () {
        const lines: Array<unknown> = []
        const consumer = yield* join()
        const { ids } = yield* publish("1", "2")
        const entries = yield* take(consumer)
        yield* publishKeeping({ ...everything, maxLength: 1 }, "3")
        yield* TestClock.adjust("29 seconds")
        assert.deepStrictEqual(yield* consumer.extend([entries[0] ?? assert.fail()]), [])
        yield* TestClock.adjust("1 second")
        const first = yield* Effect.provide(
          tend,
          Logger.layer([
            Logger.make(({ logLevel, message, fiber }) => {
              lines.push([logLevel, message])
              void fiber
            })
          ])
        )
        assert.strictEqual(first.reclaimed, 0)
        assert.lengthOf(lines, 1)
        assert.include(JSON.stringify(lines), "Warn")
        assert.strictEqual((yield* inspect).pending, 1)
        assert.isTrue(yield* outstanding(ids[0] ?? ""))
        assert.strictEqual(yield* settle(consumer, entries[0] ?? assert.fail(), ack), "done")
        assert.isFalse(yield* outstanding(ids[1] ?? ""))
      })
    )
  })
})
