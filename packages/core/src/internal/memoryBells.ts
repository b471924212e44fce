/**
 * How waiters of the in-memory log hear of changes.
 *
 * A step on the log rings; the listeners are called once it is whole, together, by the scheduler of the fiber that took
 * it. So nobody runs in the middle of a step, and a thousand messages wake a consumer once.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"

export class Bell {
  readonly listeners = new Set<() => void>()
  rung = false
}

export class Bells {
  private rung: Array<Bell> = []
  private scheduled = false

  ring(bell: Bell): void {
    if (bell.rung || bell.listeners.size === 0) return
    bell.rung = true
    this.rung.push(bell)
  }

  /** One step, taken at the clock's time. */
  step<A>(take: (now: number) => A): Effect.Effect<A> {
    return Effect.withFiber((fiber) => Effect.succeed(this.stepUnsafe(fiber, take)))
  }

  stepUnsafe<A>(fiber: Fiber.Fiber<unknown, unknown>, take: (now: number) => A): A {
    try {
      return take(fiber.getRef(Clock.Clock).currentTimeMillisUnsafe())
    } finally {
      if (this.rung.length > 0 && !this.scheduled) {
        this.scheduled = true
        fiber.currentDispatcher.scheduleTask(this.flush, 0)
      }
    }
  }

  /** Waits until the bell rings, unless `isPast` says that there is nothing to wait for. */
  wait(bell: Bell, isPast: () => boolean): Effect.Effect<void> {
    return Effect.callback((resume) => {
      // asked here: the scheduler may have run others since the caller looked
      if (isPast()) return resume(Effect.void)
      const listener = () => {
        bell.listeners.delete(listener)
        resume(Effect.void)
      }
      bell.listeners.add(listener)
      return Effect.sync(() => bell.listeners.delete(listener))
    })
  }

  private readonly flush = (): void => {
    const rung = this.rung
    this.rung = []
    this.scheduled = false
    for (const bell of rung) {
      bell.rung = false
      // a copy: one that is woken may listen again at once
      for (const listener of Array.from(bell.listeners)) listener()
    }
  }
}
