import { assert, describe, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { Dispatcher, type Lane } from "../../../packages/core/src/internal/dispatcher.ts"
import type { Handling } from "../../../packages/core/src/internal/handling.ts"

type Batch = Parameters<Lane["begin"]>[0]

const batch = (): Batch => [{} as Handling] // only counted here

const laneOf = () => {
  const waiting: Array<Batch> = []
  const begun: Array<Batch> = []
  const lane: Lane = {
    stale: false,
    refresh: () => {},
    next: () => waiting.shift(),
    begin: (one) => void begun.push(one)
  }
  return { lane, waiting, begun }
}

/** Two lanes, of which the first runs its suspect alone. */
const quarantined = Effect.gen(function* () {
  const dispatcher = new Dispatcher(
    2,
    yield* Clock.Clock,
    { time: () => 0, afterThis: (run) => run() },
    () => assert.fail("nothing takes long here"),
    (defect) => assert.fail(String(defect))
  )
  const [one, other] = [laneOf(), laneOf()]
  dispatcher.add(one.lane)
  dispatcher.add(other.lane)
  const suspect = batch()
  const taking = Effect.sync(() => {
    one.waiting.push(suspect)
    dispatcher.dispatch()
  })
  const quarantine = yield* Effect.forkChild(dispatcher.quarantine(one.lane, Effect.void, taking), {
    startImmediately: true
  })
  assert.lengthOf(one.begun, 1)
  return { dispatcher, one, other, quarantine, suspect }
})

describe("dispatcher", () => {
  // a partition that is given up stops fetching first, which ended its quarantine while the suspect still ran
  it.effect("7. what runs alone runs alone to its end, also where its lane closes meanwhile", () =>
    Effect.gen(function* () {
      const { dispatcher, other, quarantine, suspect } = yield* quarantined
      other.waiting.push(batch())
      yield* Fiber.interrupt(quarantine)
      dispatcher.dispatch()
      assert.lengthOf(other.begun, 0)
      dispatcher.ended(suspect, 0)
      dispatcher.soon()
      assert.lengthOf(other.begun, 1)
    })
  )

  it.effect("7. what runs alone runs alone to its end, also where its lane is paused meanwhile, and resumed", () =>
    Effect.gen(function* () {
      const { dispatcher, one, quarantine, suspect } = yield* quarantined
      yield* Fiber.interrupt(quarantine)
      one.waiting.push(batch())
      dispatcher.dispatch()
      assert.lengthOf(one.begun, 1)
      dispatcher.ended(suspect, 0)
      dispatcher.soon()
      assert.lengthOf(one.begun, 2)
    })
  )

  // one partition was given up while its suspect ran, and another one had found a suspect of its own meanwhile
  it.effect("7. what runs alone runs alone to its end, also where another lane is next to run something alone", () =>
    Effect.gen(function* () {
      const { dispatcher, other, quarantine, suspect } = yield* quarantined
      const held = batch()
      other.waiting.push(held)
      const next = yield* Effect.forkChild(dispatcher.quarantine(other.lane, Effect.void, Effect.void), {
        startImmediately: true
      })
      yield* Fiber.interrupt(quarantine)
      yield* Effect.yieldNow
      dispatcher.dispatch()
      assert.lengthOf(other.begun, 0)
      dispatcher.ended(suspect, 0)
      yield* Fiber.join(next)
      assert.lengthOf(other.begun, 1)
      dispatcher.ended(held, 0)
    })
  )

  for (const [what, took, begun] of [
    ["take long enough", 4, 3],
    ["meet a clock that jumps back", -3_600_000, 1]
  ] as const) {
    it.effect(`gives the event loop back where quick handlers ${what}`, () =>
      Effect.sync(() => {
        let now = 7_200_000
        const clock = { currentTimeMillisUnsafe: () => now }
        let put = 0
        const dispatcher = new Dispatcher(
          2,
          clock,
          { time: (now) => now, afterThis: (run) => run() },
          () => {
            put += 1
          },
          (defect) => assert.fail(String(defect))
        )
        const times: Array<number> = []
        const waiting = Array.from({ length: 9 }, batch)
        dispatcher.add({
          stale: false,
          refresh: () => {},
          next: () => waiting.shift(),
          begin: (one, at) => {
            times.push(at)
            now += took
            dispatcher.ended(one, now)
          }
        })
        dispatcher.dispatch()
        assert.strictEqual(put, 1)
        assert.lengthOf(times, begun)
        assert.deepStrictEqual(
          times,
          times.map((_, i) => 7_200_000 + i * took),
          "each begins when the one before it has ended"
        )
      })
    )
  }
})
