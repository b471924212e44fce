/**
 * Deadlines of many waits, watched by one fiber. What nearly always ends in time costs a place in a set; a timer and a
 * race for each would cost more than to publish a message.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"

interface Wait {
  /** By `elapsed`. */
  readonly until: number
  readonly late: () => void
}

/** All that waits by one clock. */
class Watch {
  private readonly waits = new Set<Wait>()
  private watcher: { readonly fiber: Fiber.Fiber<void>; readonly until: number } | undefined
  private idle = false
  private readonly clock: Clock.Clock

  constructor(clock: Clock.Clock) {
    this.clock = clock
  }

  /** Milliseconds by a clock that nobody sets. */
  elapsed(): number {
    return Number(this.clock.monotonicTimeNanosUnsafe() / 1_000_000n)
  }

  add(wait: Wait): void {
    this.waits.add(wait)
    if (this.watcher === undefined || wait.until < this.watcher.until) this.sleep(wait.until)
  }

  remove(wait: Wait): void {
    this.waits.delete(wait)
    if (this.waits.size > 0 || this.idle) return
    // who publishes one after the other has the next one ready: the watcher is ended only where nothing follows
    this.idle = true
    this.fork(
      Effect.andThen(
        Effect.yieldNow,
        Effect.sync(() => {
          this.idle = false
          if (this.waits.size === 0) this.stop()
        })
      )
    )
  }

  private sleep(until: number): void {
    this.stop()
    const fiber = this.fork(
      Effect.andThen(
        Effect.sleep(Math.max(0, until - this.elapsed())),
        Effect.sync(() => this.look())
      )
    )
    this.watcher = { fiber, until }
  }

  private look(): void {
    this.watcher = undefined
    const now = this.elapsed()
    let next = Number.POSITIVE_INFINITY
    for (const wait of this.waits) {
      if (wait.until > now) next = Math.min(next, wait.until)
      else {
        this.waits.delete(wait)
        wait.late()
      }
    }
    if (next < Number.POSITIVE_INFINITY) this.sleep(next)
  }

  private stop(): void {
    this.watcher?.fiber.interruptUnsafe()
    this.watcher = undefined
  }

  private fork(effect: Effect.Effect<void>): Fiber.Fiber<void> {
    return Effect.runForkWith(Context.make(Clock.Clock, this.clock))(effect)
  }
}

const watches = new WeakMap<Clock.Clock, Watch>()

/** Fails with what `late` gives, and interrupts the effect, where it takes longer than so many milliseconds. */
export const within = <A, E, R>(
  self: Effect.Effect<A, E, R>,
  milliseconds: number,
  late: () => E
): Effect.Effect<A, E, R> =>
  Effect.contextWith((context: Context.Context<R>) =>
    Effect.callback<A, E>((resume) => {
      const clock = Context.get(context, Clock.Clock)
      let watch = watches.get(clock)
      if (watch === undefined) watches.set(clock, (watch = new Watch(clock)))
      const watched = watch
      const fiber = Effect.runForkWith(context)(self)
      const exit = fiber.pollUnsafe()
      if (exit !== undefined) return resume(exit)
      const wait: Wait = {
        until: watched.elapsed() + milliseconds,
        late: () => {
          // first: an interrupted fiber ends at once, and would be told as such
          resume(Effect.fail(late()))
          fiber.interruptUnsafe()
        }
      }
      watched.add(wait)
      fiber.addObserver((exit) => {
        watched.remove(wait)
        resume(exit)
      })
      return Effect.suspend(() => {
        watched.remove(wait)
        return Fiber.interrupt(fiber)
      })
    })
  )
