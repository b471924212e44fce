/**
 * The handlers of one subscription in this process: the partitions that it reads take turns in starting them.
 *
 * Starting is a plain loop, called from wherever something changed, so that a message costs no fiber switch of ours.
 */
import type { NonEmptyReadonlyArray } from "effect/Array"
import type * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import * as Semaphore from "effect/Semaphore"
import type { Handling } from "./handling.ts"
import { once, type Turns } from "./turns.ts"

/** A run of quick handlers gives the event loop back after so long: heartbeats and other subscriptions need it too. */
const sliceMillis = 10

type Batch = NonEmptyReadonlyArray<Handling>
type Time = Pick<Clock.Clock, "currentTimeMillisUnsafe">

/** One partition, as its messages wait for a handler. */
export interface Lane {
  /** What a handler may be given now; milliseconds of the runtime's clock. */
  readonly next: (now: number) => Batch | undefined
  readonly begin: (batch: Batch, now: number) => void
  /** Something began or ended since `refresh` was called. */
  stale: boolean
  /** Counts anew what may be taken. */
  readonly refresh: () => void
}

export class Dispatcher {
  /** Messages in handlers. */
  busy = 0
  /** How many lanes there are. */
  get size(): number {
    return this.lanes.length
  }
  private jobs = 0
  private turn = 0
  private running = false
  private again = false
  /** When something last began or ended; a handler begins when the one before it has ended. */
  private now = 0
  private isNow = false
  private lanes: ReadonlyArray<Lane> = []
  private only: Lane | undefined
  /** Closed where whoever asked for the quarantine is gone, and what it was for still runs. */
  private readonly nothingLingers = Latch.makeUnsafe(true)
  private readonly nothingRuns = Latch.makeUnsafe(true)
  private readonly alone = Semaphore.makeUnsafe(1)
  private readonly concurrency: number
  private readonly clock: Time
  private readonly turns: Turns
  private readonly run: (effect: Effect.Effect<void>) => void
  private readonly later: () => void

  constructor(
    /** Handlers at once. */
    concurrency: number,
    clock: Time,
    turns: Turns,
    run: (effect: Effect.Effect<void>) => void,
    died: (defect: unknown) => void
  ) {
    this.concurrency = concurrency
    this.clock = clock
    this.turns = turns
    this.run = run
    this.later = once(turns, () => {
      try {
        this.dispatch()
      } catch (defect) {
        died(defect)
      }
    })
  }

  get isFull(): boolean {
    return this.jobs >= this.concurrency
  }

  add(lane: Lane): void {
    this.lanes = [...this.lanes, lane]
    for (const one of this.lanes) one.refresh()
  }

  remove(lane: Lane): void {
    this.lanes = this.lanes.filter((one) => one !== lane)
    for (const one of this.lanes) one.refresh()
  }

  ended(batch: Batch, now: number): void {
    this.now = now
    this.isNow = true
    this.jobs -= 1
    this.busy -= batch.length
    if (this.jobs > 0) return
    this.nothingRuns.openUnsafe()
    if (!this.nothingLingers.isOpen()) this.open()
  }

  /** At the end of this turn: the next read is under way while handlers run, and what ended together is one look. */
  soon(): void {
    // a handler that ended at once was started by the loop, which looks again
    if (this.running) this.again = true
    else this.later()
  }

  dispatch(): void {
    // called from within (a mark that moved at once, a handler that ended at once): the loop below looks again
    if (this.running) {
      this.again = true
      return
    }
    this.running = true
    this.now = this.clock.currentTimeMillisUnsafe()
    const begun = this.turns.time(this.now)
    do {
      this.again = false
      for (let idle = 0; idle < this.lanes.length && !this.isFull; this.turn += 1) {
        const lane = this.lanes[this.turn % this.lanes.length]
        const batch = lane === undefined || !this.mayBegin(lane) ? undefined : lane.next(this.now)
        if (lane === undefined || batch === undefined) {
          idle += 1
          continue
        }
        idle = 0
        this.begin(lane, batch)
        // a clock that jumps back ends it too
        if (Math.abs(this.turns.time(this.now) - begun) <= sliceMillis) continue
        this.run(
          Effect.andThen(
            Effect.yieldNow,
            Effect.sync(() => this.dispatch())
          )
        )
        this.again = false
        break
      }
    } while (this.again)
    this.running = false
    for (const lane of this.lanes) {
      if (lane.stale) lane.refresh()
    }
  }

  /** What lingers runs beside nothing, also not of its own lane, which may have been paused and resumed meanwhile. */
  private mayBegin(lane: Lane): boolean {
    return this.nothingLingers.isOpen() && (this.only ?? lane) === lane
  }

  private begin(lane: Lane, batch: Batch): void {
    this.jobs += 1
    this.busy += batch.length
    this.nothingRuns.closeUnsafe()
    lane.stale = true
    this.isNow = false
    lane.begin(batch, this.now)
    // it goes on, and its start took some time
    if (!this.isNow) this.now = this.clock.currentTimeMillisUnsafe()
  }

  private open(): void {
    this.only = undefined
    this.nothingLingers.openUnsafe()
  }

  /** Runs while no handler of another lane does: `until` is when this lane is ready for it. */
  quarantine<E>(lane: Lane, until: Effect.Effect<void>, self: Effect.Effect<void, E>): Effect.Effect<void, E> {
    let isAlone = false
    const closed = Effect.sync(() => {
      this.only = lane
    })
    const opened = Effect.sync(() => {
      // a lane that closes is interrupted here, and drains what it has begun
      if (isAlone && this.jobs > 0) {
        this.nothingLingers.closeUnsafe()
        return
      }
      this.open()
      this.dispatch()
    })
    // what was settled before its handler ends may still kill the process
    const nothingRuns = this.nothingRuns.await
    const alone = Effect.sync(() => {
      isAlone = true
    })
    const whole = Effect.andThen(until, nothingRuns).pipe(
      Effect.andThen(alone),
      Effect.andThen(self),
      Effect.andThen(nothingRuns)
    )
    return this.alone.withPermits(1)(
      // what still runs of the one before runs beside nothing, also not beside what this lane has begun to hold
      Effect.andThen(
        this.nothingLingers.await,
        Effect.acquireUseRelease(
          closed,
          () => whole,
          () => opened
        )
      )
    )
  }
}
