import { assert, describe, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import { TestClock } from "effect/testing"
import { callback } from "../../../packages/core/src/internal/callback.ts"
import * as Deadlines from "../../../packages/core/src/internal/deadlines.ts"

const within = <A, E>(self: Effect.Effect<A, E>, milliseconds: number, late: () => E): Effect.Effect<A, E> =>
  Effect.flatten(Effect.contextWith((context) => Deadlines.within(context, self, milliseconds, late)))

const range = (n: number) => Array.from({ length: n }, (_, i) => i)

describe("deadlines", () => {
  it.effect("what takes longer is interrupted and fails when its time is over, and not before; the others go on", () =>
    Effect.gen(function* () {
      const interrupted: Array<number> = []
      const stuck = (millis: number) =>
        Effect.onInterrupt(Effect.never, () => Effect.sync(() => void interrupted.push(millis)))
      const slow = yield* Effect.forkChild(Effect.flip(within(stuck(3000), 3000, () => "3000")))
      // a shorter one behind it is not kept waiting by it
      const quick = yield* Effect.forkChild(Effect.flip(within(stuck(500), 500, () => "500")))
      const done = yield* Effect.forkChild(within(Effect.as(Effect.sleep(2999), "done"), 3000, () => "late"))
      yield* TestClock.adjust(499)
      assert.isUndefined(quick.pollUnsafe())
      yield* TestClock.adjust(1)
      assert.strictEqual(yield* Fiber.join(quick), "500")
      yield* TestClock.adjust(2499)
      assert.isUndefined(slow.pollUnsafe())
      assert.strictEqual(yield* Fiber.join(done), "done")
      yield* TestClock.adjust(1)
      assert.strictEqual(yield* Fiber.join(slow), "3000")
      assert.deepStrictEqual(interrupted, [500, 3000])
    })
  )

  it.effect("what begins when another is late has a time of its own, and keeps nobody waiting", () =>
    Effect.gen(function* () {
      const stuck = (millis: number) => Effect.flip(within(Effect.never, millis, () => millis))
      // the long one is there before: the short one that follows is watched for all the same
      const long = yield* Effect.forkChild(stuck(5000))
      const twice = yield* Effect.forkChild(Effect.andThen(stuck(1000), stuck(10)))
      const other = yield* Effect.forkChild(stuck(1000))
      yield* TestClock.adjust(1000)
      assert.strictEqual(yield* Fiber.join(other), 1000)
      yield* TestClock.adjust(9)
      assert.isUndefined(twice.pollUnsafe())
      yield* TestClock.adjust(1)
      assert.strictEqual(yield* Fiber.join(twice), 10)
      yield* TestClock.adjust(3989)
      assert.isUndefined(long.pollUnsafe())
      yield* TestClock.adjust(1)
      assert.strictEqual(yield* Fiber.join(long), 5000)
    })
  )

  it.effect("who ends another when it is late does not hear of that one's deadline", () =>
    Effect.gen(function* () {
      const gate = Deferred.makeUnsafe<string>()
      const first = yield* Effect.forkChild(
        Effect.andThen(
          Effect.flip(within(Effect.never, 1000, () => "late")),
          Effect.sync(() => Deferred.doneUnsafe(gate, Effect.succeed("in time")))
        )
      )
      const second = yield* Effect.forkChild(within(Deferred.await(gate), 1000, () => "late"))
      yield* TestClock.adjust(1000)
      yield* Fiber.join(first)
      assert.strictEqual(yield* Fiber.join(second), "in time")
    })
  )

  it.effect("whoever is interrupted interrupts what it waits for", () =>
    Effect.gen(function* () {
      let ended = false
      const stuck = Effect.onInterrupt(Effect.never, () => Effect.sync(() => void (ended = true)))
      const fiber = yield* Effect.forkChild(within(stuck, 1000, () => "late"))
      yield* TestClock.adjust(1)
      yield* Fiber.interrupt(fiber)
      assert.isTrue(ended)
    })
  )

  it.effect("a failure and a defect are told as they are", () =>
    Effect.gen(function* () {
      const soon = Effect.sleep(10)
      const failing = yield* Effect.forkChild(
        Effect.flip(within(Effect.andThen(soon, Effect.fail("no")), 1000, () => "late"))
      )
      const dying = yield* Effect.forkChild(
        Effect.exit(within(Effect.andThen(soon, Effect.die("bug")), 1000, () => "late"))
      )
      yield* TestClock.adjust(10)
      assert.strictEqual(yield* Fiber.join(failing), "no")
      assert.strictEqual((yield* Fiber.join(dying))._tag, "Failure")
      assert.strictEqual(yield* Effect.flip(within(Effect.fail("at once"), 1000, () => "late")), "at once")
    })
  )

  describe("what calls back is waited for as anything else is, without a fiber", () => {
    const called = () => {
      const seen: { resume: ((effect: Effect.Effect<string, string>) => void) | undefined; ended: number } = {
        resume: undefined,
        ended: 0
      }
      const effect = callback<string, string>((resume) => {
        seen.resume = resume
        return Effect.sync(() => void (seen.ended += 1))
      })
      return { seen, effect }
    }

    it.effect("it ends as it is called back, and is not ended besides", () =>
      Effect.gen(function* () {
        for (const [effect, exit] of [
          [Effect.succeed("done"), Exit.succeed("done")],
          [Effect.fail("no"), Exit.fail("no")],
          [Effect.suspend(() => Effect.fail("later")), Exit.fail("later")],
          [Effect.die("bug"), Exit.die("bug")]
        ] as const) {
          const { effect: waiting, seen } = called()
          const fiber = yield* Effect.forkChild(within(waiting, 1000, () => "late"))
          yield* TestClock.adjust(999)
          seen.resume?.(effect)
          seen.resume?.(Effect.succeed("again"))
          assert.deepStrictEqual(yield* Fiber.await(fiber), exit)
          yield* TestClock.adjust(1)
          assert.strictEqual(seen.ended, 0)
        }
      })
    )

    it.effect("it is ended where it takes longer, and nobody hears of it then", () =>
      Effect.gen(function* () {
        const { effect, seen } = called()
        const fiber = yield* Effect.forkChild(Effect.flip(within(effect, 1000, () => "late")))
        yield* TestClock.adjust(999)
        assert.strictEqual(seen.ended, 0)
        yield* TestClock.adjust(1)
        seen.resume?.(Effect.succeed("after all"))
        assert.strictEqual(yield* Fiber.join(fiber), "late")
        assert.strictEqual(seen.ended, 1)
      })
    )

    it.effect("it is ended with whoever is interrupted", () =>
      Effect.gen(function* () {
        const { effect, seen } = called()
        const fiber = yield* Effect.forkChild(within(effect, 1000, () => "late"))
        yield* TestClock.adjust(1)
        yield* Fiber.interrupt(fiber)
        assert.strictEqual(seen.ended, 1)
        yield* TestClock.adjust(1000)
        assert.strictEqual(seen.ended, 1)
      })
    )

    it.effect("it may call back at once, and a throw is a defect", () =>
      Effect.gen(function* () {
        const now = callback<string, string>((resume) => resume(Effect.succeed("now")))
        assert.strictEqual(yield* within(now, 1000, () => "late"), "now")
        const thrown = callback<string, string>(() => {
          throw new Error("bug")
        })
        const exit = yield* Effect.exit(within(thrown, 1000, () => "late"))
        assert.isTrue(Exit.hasDies(exit))
      })
    )

    it.effect("whoever does not know of it takes it for any effect", () =>
      Effect.gen(function* () {
        const { effect, seen } = called()
        const fiber = yield* Effect.forkChild(effect)
        yield* Effect.yieldNow
        seen.resume?.(Effect.succeed("done"))
        assert.strictEqual(yield* Fiber.join(fiber), "done")
      })
    )
  })

  it.effect("one sleep watches many, round after round, and none is left behind", () =>
    Effect.gen(function* () {
      const clock = yield* Clock.Clock
      let sleeping = 0
      let slept = 0
      const counting: Clock.Clock = {
        currentTimeMillis: clock.currentTimeMillis,
        currentTimeNanos: clock.currentTimeNanos,
        monotonicTimeNanos: clock.monotonicTimeNanos,
        currentTimeMillisUnsafe: () => clock.currentTimeMillisUnsafe(),
        currentTimeNanosUnsafe: () => clock.currentTimeNanosUnsafe(),
        monotonicTimeNanosUnsafe: () => clock.monotonicTimeNanosUnsafe(),
        sleep: (duration) =>
          Effect.ensuring(
            Effect.suspend(() => {
              sleeping += 1
              slept += 1
              return clock.sleep(duration)
            }),
            Effect.sync(() => (sleeping -= 1))
          )
      }
      const rounds = Effect.gen(function* () {
        for (let round = 0; round < 5; round++) {
          const gate = Deferred.makeUnsafe<void>()
          const waits = yield* Effect.forkChild(
            Effect.forEach(range(100), () => within(Deferred.await(gate), 1000, () => "late"), {
              concurrency: "unbounded",
              discard: true
            })
          )
          yield* Effect.yieldNow
          assert.strictEqual(sleeping, 1)
          Deferred.doneUnsafe(gate, Effect.void)
          yield* Fiber.join(waits)
        }
      })
      yield* Effect.provideService(rounds, Clock.Clock, counting)
      yield* TestClock.adjust(1)
      assert.strictEqual(sleeping, 0)
      assert.isAtMost(slept, 5)
    })
  )
})
