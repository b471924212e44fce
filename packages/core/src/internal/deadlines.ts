/**
 * Deadlines of many waits, watched by one fiber. What nearly always ends in time costs a place in a ring; a timer and a
 * race for each would cost more than to publish a message.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import { type Register, registerOf } from "./callback.ts"
import { elapsed } from "./elapsed.ts"

/**
 * A place in the ring of those that wait. The ring is one of links, and whoever leaves it lets go of both neighbours: a
 * set's outgrown tables hold each other, and what was in them, until the engine collects all of its memory.
 */
class Wait {
  /** By `elapsed`. */
  readonly until: number
  readonly late: () => void
  before: Wait = this
  behind: Wait = this

  constructor(until: number, late: () => void) {
    this.until = until
    this.late = late
  }

  join(behind: Wait): void {
    this.behind = behind
    this.before = behind.before
    this.before.behind = this
    behind.before = this
  }

  /** Whether there is anybody beside it. */
  isWaiting(): boolean {
    return this.behind !== this
  }

  /** May be called twice. */
  leave(): void {
    this.before.behind = this.behind
    this.behind.before = this.before
    this.before = this
    this.behind = this
  }
}

/** All that waits by one clock. */
class Watch {
  private readonly ring = new Wait(Number.POSITIVE_INFINITY, () => {})
  private watcher: { readonly fiber: Fiber.Fiber<void>; readonly until: number } | undefined
  private idle = false
  private readonly clock: Clock.Clock

  constructor(clock: Clock.Clock) {
    this.clock = clock
  }

  add(milliseconds: number, late: () => void): Wait {
    const wait = new Wait(elapsed(this.clock) + milliseconds, late)
    wait.join(this.ring)
    if (this.watcher === undefined || wait.until < this.watcher.until) this.sleep(wait.until)
    return wait
  }

  remove(wait: Wait): void {
    wait.leave()
    if (!this.isEmpty() || this.idle) return
    // who publishes one after the other has the next one ready: the watcher is ended only where nothing follows
    this.idle = true
    this.fork(
      Effect.andThen(
        Effect.yieldNow,
        Effect.sync(() => {
          this.idle = false
          if (this.isEmpty()) this.stop()
        })
      )
    )
  }

  private isEmpty(): boolean {
    return !this.ring.isWaiting()
  }

  private sleep(until: number): void {
    this.stop()
    const fiber = this.fork(
      Effect.andThen(
        Effect.sleep(Math.max(0, until - elapsed(this.clock))),
        Effect.sync(() => this.look())
      )
    )
    this.watcher = { fiber, until }
  }

  private look(): void {
    this.watcher = undefined
    const now = elapsed(this.clock)
    // to be told that it is late may end others, and begin others
    for (const wait of this.waiting()) {
      if (wait.until > now || !wait.isWaiting()) continue
      wait.leave()
      wait.late()
    }
    let next = Number.POSITIVE_INFINITY
    for (const { until } of this.waiting()) next = Math.min(next, until)
    if (next < Number.POSITIVE_INFINITY) this.sleep(next)
  }

  private waiting(): ReadonlyArray<Wait> {
    const all: Array<Wait> = []
    for (let wait = this.ring.behind; wait !== this.ring; wait = wait.behind) all.push(wait)
    return all
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

const watchOf = (clock: Clock.Clock): Watch => {
  let watch = watches.get(clock)
  if (watch === undefined) watches.set(clock, (watch = new Watch(clock)))
  return watch
}

/** How the effect ends: with what `late` gives, and interrupted, where it takes longer than so many milliseconds. */
export const within = <A, E>(
  context: Context.Context<never>,
  self: Effect.Effect<A, E>,
  milliseconds: number,
  late: (milliseconds: number) => E
): Effect.Effect<Exit.Exit<A, E>> =>
  Effect.callback<Exit.Exit<A, E>>((resume) => {
    let wait: Wait | undefined
    let ended = false
    const watch = watchOf(Context.get(context, Clock.Clock))
    const begin = registerOf(self) ?? forked(context, self)
    const end = begin((effect) => {
      ended = true
      if (wait !== undefined) watch.remove(wait)
      resume(Effect.exit(effect))
    })
    if (ended) return undefined
    const own = (wait = watch.add(milliseconds, () => {
      // first: what is interrupted ends at once, and would be told as such
      resume(Effect.succeed(Exit.fail(late(milliseconds))))
      if (end !== undefined) Effect.runForkWith(context)(end)
    }))
    return Effect.suspend(() => {
      watch.remove(own)
      return end ?? Effect.void
    })
  })

/** What calls nobody back has a fiber of its own. */
const forked =
  <A, E>(context: Context.Context<never>, self: Effect.Effect<A, E>): Register<A, E> =>
  (resume) => {
    const fiber = Effect.runForkWith(context)(self)
    const exit = fiber.pollUnsafe()
    if (exit === undefined) fiber.addObserver(resume)
    else resume(exit)
    return exit === undefined ? Fiber.interrupt(fiber) : undefined
  }
