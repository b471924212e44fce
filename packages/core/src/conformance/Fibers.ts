/**
 * Counts fibers by an observer that is installed when a fiber first runs, so that an orphan is counted, not inferred.
 */
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as Scheduler from "effect/Scheduler"

/** Fibers that run under `observing`, whoever forked them. */
export interface Fibers {
  readonly live: () => number
  /** How many there ever were. */
  readonly seen: () => number
  readonly observing: <A, E, R>(self: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
}

/** A new count. */
export const observe: Effect.Effect<Fibers> = Effect.gen(function* () {
  const inner = yield* Scheduler.Scheduler
  const all = new WeakSet<object>()
  const live = new Set<object>()
  let count = 0
  const self = yield* Effect.withFiber((fiber) => Effect.succeed(fiber))
  all.add(self)
  const scheduler: Scheduler.Scheduler = {
    executionMode: inner.executionMode,
    makeDispatcher: () => inner.makeDispatcher(),
    shouldYield: (fiber: Fiber.Fiber<unknown, unknown>) => {
      if (!all.has(fiber)) {
        all.add(fiber)
        live.add(fiber)
        count++
        fiber.addObserver(() => live.delete(fiber))
      }
      return inner.shouldYield(fiber)
    }
  }
  return {
    live: () => live.size,
    seen: () => count,
    observing: (effect) => Effect.provideService(effect, Scheduler.Scheduler, scheduler)
  }
})
