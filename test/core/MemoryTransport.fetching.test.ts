import * as MemoryTransport from "@clutch/core/MemoryTransport"
import type { FetchLimit } from "@clutch/core/Transport"
import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scheduler from "effect/Scheduler"
import { TestClock } from "effect/testing"
import {
  ack,
  alone,
  dataOf,
  datas,
  free,
  given,
  join,
  joinOnly,
  publish,
  release,
  retry,
  settle,
  shipping,
  take,
  takeOne,
  tend
} from "./MemoryTransport.support.ts"

describe("MemoryTransport", () => {
  describe("fetching", () => {
    it.effect(
      "waits for a message, and is woken by it",
      given(function* () {
        const consumer = yield* join()
        const fetching = yield* Effect.forkChild(take(consumer))
        yield* TestClock.adjust("1 hour")
        assert.isUndefined(fetching.pollUnsafe())
        yield* publish("1")
        assert.deepStrictEqual(datas(yield* Fiber.join(fetching)), ["1"])
      })
    )

    it.effect(
      "takes no more than the count, nor than the bytes behind a first entry of any size",
      given(function* () {
        const consumer = yield* join()
        yield* publish("a".repeat(100), "bb", "cc", "d")
        assert.lengthOf(yield* take(consumer, { bytes: 10 }), 1)
        assert.deepStrictEqual(datas(yield* take(consumer, { bytes: 3 })), ["bb"])
        assert.deepStrictEqual(datas(yield* take(consumer, { count: 1 })), ["cc"])
        assert.deepStrictEqual(datas(yield* take(consumer)), ["d"])
      })
    )

    it.effect(
      "delivers to every group, and in a group to one consumer",
      given(function* () {
        const [one, two, other] = [yield* join(), yield* join(), yield* join({ group: shipping })]
        yield* publish("1", "2", "3")
        const taken = [...(yield* take(one, { count: 2 })), ...(yield* take(two))]
        assert.deepStrictEqual(datas(taken), ["1", "2", "3"])
        assert.deepStrictEqual(datas(yield* take(other)), ["1", "2", "3"])
      })
    )

    it.effect(
      "wakes waiting consumers, of whom one gets the message and the other goes on waiting",
      given(function* () {
        const consumers = [yield* join(), yield* join()]
        const fibers = yield* Effect.forEach(consumers, (consumer) => Effect.forkChild(take(consumer)))
        yield* TestClock.adjust(0)
        yield* publish("1")
        yield* TestClock.adjust(0)
        assert.lengthOf(
          fibers.filter((fiber) => fiber.pollUnsafe() === undefined),
          1
        )
        yield* publish("2")
        assert.deepStrictEqual((yield* Effect.forEach(fibers, Fiber.join)).flatMap(datas).toSorted(), ["1", "2"])
      })
    )

    it.effect(
      "delivers what was given back and retries before what is new",
      given(function* () {
        const consumer = yield* join()
        yield* publish("released", "retried")
        const [first, second] = yield* take(consumer)
        assert(first !== undefined && second !== undefined)
        yield* publish("new")
        yield* settle(consumer, second, retry(0))
        yield* tend
        yield* settle(consumer, first, release)
        assert.deepStrictEqual(datas(yield* take(consumer)), ["released", "retried", "new"])
      })
    )

    it.effect(
      "interrupted at any moment, loses nothing and costs nothing",
      given(function* () {
        const consumer = yield* join()
        const seen: Array<string> = []
        let published = 0
        // each round yields to the scheduler at other points of a fetch, and interrupts at one of them
        for (let round = 0; round < 400; round++) {
          const loop = yield* Effect.uninterruptibleMask((restore) =>
            Effect.flatMap(restore(consumer.fetch({ ...free, count: 1 })), ({ entries }) =>
              Effect.forEach(entries, (entry) => {
                assert.deepStrictEqual([entry.attempt, entry.reclaims], [1, 0])
                seen.push(dataOf(entry))
                return settle(consumer, entry, ack)
              })
            )
          ).pipe(
            Effect.forever({ disableYield: true }),
            Effect.provideService(Scheduler.MaxOpsBeforeYield, 3 + (round % 20)),
            Effect.forkChild({ startImmediately: true })
          )
          for (let at = 0; at < 5; at++) yield* publish(`${published++}`)
          for (let at = 0; at < round / 20; at++) yield* Effect.yieldNow
          yield* Fiber.interrupt(loop)
        }
        yield* publish(`${published++}`)
        const rest = yield* take(consumer, { count: Infinity })
        assert.deepStrictEqual(
          [...seen, ...datas(rest)].map(Number).toSorted((a, b) => a - b),
          Array.from({ length: published }, (_, at) => at)
        )
        assert.isNotEmpty(seen)
      })
    )

    it.effect(
      "interrupted while it waits, takes nothing that comes later",
      given(function* () {
        const consumer = yield* join()
        const fetching = yield* Effect.forkChild(take(consumer))
        yield* TestClock.adjust(0)
        yield* publish("1")
        // between the publishing and the waking
        yield* Fiber.interrupt(fetching)
        const exit = yield* Fiber.await(fetching)
        if (Exit.isFailure(exit)) assert.isTrue(Cause.hasInterruptsOnly(exit.cause))
        const entry = yield* takeOne(yield* join())
        assert.deepStrictEqual([dataOf(entry), entry.attempt], ["1", 1])
      })
    )

    it.effect(
      "can be interrupted while it waits, also where its caller cannot",
      given(function* () {
        const consumer = yield* join()
        const fetching = yield* Effect.forkChild(Effect.uninterruptible(take(consumer)))
        yield* TestClock.adjust(0)
        yield* Fiber.interrupt(fetching)
        assert.deepStrictEqual((yield* MemoryTransport.snapshot).logs[0]?.groups[0]?.consumers, [
          { name: consumer.name, pending: 0, fetching: 0 }
        ])
      })
    )

    it.effect(
      "takes its group's place again where that was removed",
      given(function* () {
        const sleeper = yield* joinOnly({ consumer: "sleeper" })
        yield* TestClock.adjust("5 minutes")
        assert.strictEqual((yield* tend).removed, 1)
        yield* Effect.scoped(joinOnly())
        assert.deepStrictEqual((yield* MemoryTransport.snapshot).logs, [])
        yield* publish("1")
        assert.deepStrictEqual(datas(yield* take(sleeper)), ["1"])
      })
    )
  })

  describe("suspects", () => {
    const killed = Effect.fnUntraced(function* (limit: FetchLimit) {
      const consumer = yield* join()
      const { entries } = yield* consumer.fetch(limit)
      yield* TestClock.adjust("30 seconds")
      yield* tend
      return entries
    })

    it.effect(
      "are taken alone once two consumers have died of them",
      given(function* () {
        const consumer = yield* join()
        yield* publish("a", "b")
        yield* killed({ ...free, count: 2 })
        const { suspects } = yield* consumer.fetch({ ...free, count: 1 })
        assert.isFalse(suspects)
        yield* TestClock.adjust("30 seconds")
        yield* tend
        // "b" died once, "a" twice
        const mixed = yield* consumer.fetch(free)
        assert.deepStrictEqual([datas(mixed.entries), mixed.suspects], [["b"], true])
        assert.deepStrictEqual(yield* consumer.fetch(free), { entries: [], suspects: true })
        const single = yield* consumer.fetch(alone)
        assert.deepStrictEqual([datas(single.entries), single.suspects], [["a"], false])
        assert.deepStrictEqual([single.entries[0]?.attempt, single.entries[0]?.reclaims], [3, 2])
      })
    )

    it.effect(
      "are taken alone where their next attempt is the last",
      given(function* () {
        const consumer = yield* join()
        yield* publish("a", "b", "c")
        yield* killed({ ...free, count: 2 })
        const limit = { ...free, maxAttempts: 2 }
        const first = yield* consumer.fetch(limit)
        assert.deepStrictEqual([datas(first.entries), first.suspects], [["c"], true])
        const second = yield* consumer.fetch({ ...limit, alone: true })
        assert.deepStrictEqual([datas(second.entries), second.suspects], [["a"], true])
        const third = yield* consumer.fetch({ ...limit, alone: true })
        assert.deepStrictEqual([datas(third.entries), third.suspects], [["b"], false])
        assert.deepStrictEqual(yield* consumer.fetch({ ...limit, alone: true }), { entries: [], suspects: false })
      })
    )

    it.effect(
      "counts the attempts before this entry for that",
      given(function* () {
        const consumer = yield* join()
        yield* publish("a")
        yield* settle(consumer, yield* takeOne(consumer), retry(0))
        yield* tend
        yield* killed({ ...free, maxAttempts: 3 })
        assert.deepStrictEqual(yield* consumer.fetch({ ...free, maxAttempts: 3 }), { entries: [], suspects: true })
        const entry = yield* takeOne(consumer, { maxAttempts: 4 })
        assert.deepStrictEqual([entry.attempt, entry.reclaims], [3, 1])
      })
    )

    it.effect(
      "do not come of unlimited attempts before a second death, nor of what had not started",
      given(function* () {
        const consumer = yield* join()
        yield* publish("a")
        for (let death = 0; death < 5; death++) {
          const dead = yield* join()
          yield* take(dead, { maxAttempts: Infinity })
          yield* dead.mark("main", "0-0")
          yield* TestClock.adjust("30 seconds")
          yield* tend
        }
        yield* killed({ ...free, maxAttempts: Infinity })
        assert.strictEqual((yield* takeOne(consumer, { maxAttempts: Infinity })).attempt, 2)
      })
    )

    it.effect(
      "stay suspects when they are released",
      given(function* () {
        const consumer = yield* join()
        yield* publish("a")
        yield* killed(free)
        yield* killed(free)
        const { entries } = yield* consumer.fetch(alone)
        yield* settle(consumer, entries[0] ?? assert.fail(), release)
        assert.deepStrictEqual(yield* consumer.fetch(free), { entries: [], suspects: true })
        assert.strictEqual((yield* consumer.fetch(alone)).entries[0]?.attempt, 3)
      })
    )
  })
})
