/**
 * What a worker's death need not cost: marks that say how far into its prefetched deliveries it had started.
 *
 * A mark names an entry of a log: nothing behind it has been started. It is written only when deliveries have waited for
 * a while, as handlers that keep up leave none waiting; then a handler behind the mark starts after the mark has been
 * moved, a few deliveries at a time. So a mark never lies in the dangerous direction: what was started is counted.
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import type { Scope } from "effect/Scope"
import type { Entry } from "../Transport.ts"
import type { Handling } from "./handling.ts"
import * as Health from "./health.ts"
import { compareIds } from "./ids.ts"
import type { Seat } from "./seat.ts"

/** How long a delivery waits unstarted before it is worth a write. */
const worthMarking = Duration.millis(50)

export type Origin = "main" | "retry"

interface Mark {
  /** What the log says; `undefined` where it says that anything may have started. */
  written: string | undefined
  /** A write is under way: nothing behind this may start until it is done. */
  writing: { readonly limit: string | undefined } | undefined
  /** When the mark was last moved, and by how many deliveries. */
  moved: number
  step: number
}

export interface Marks {
  /** Whether a handler may start now. Where not, the mark is on its way, and `onMoved` is called when it may. */
  readonly mayStart: (handling: Handling) => boolean
  /** How many deliveries of each log wait for a handler. */
  readonly waiting: (count: Readonly<Record<Origin, number>>) => void
}

export interface Options {
  readonly consumer: Pick<Seat, "mark">
  readonly health: Health.Health
  /** What was taken and is not settled. */
  readonly held: Iterable<Handling>
  /** The deliveries that wait, in the order in which they will start. */
  readonly queue: Iterable<Handling>
  /** How many will start soon: a mark is moved so far at a time. */
  readonly step: number
  readonly onMoved: () => void
  /** The partition is another worker's. */
  readonly lost: () => void
  /** A loop died of a defect. */
  readonly died: (cause: unknown) => void
}

const later = (a: string | undefined, b: string | undefined): string | undefined =>
  a === undefined ? b : b === undefined ? a : compareIds(a, b) >= 0 ? a : b

export const make: (options: Options) => Effect.Effect<Marks, never, Scope> = Effect.fnUntraced(function* (
  options: Options
) {
  const clock = yield* Clock.Clock
  const marks: Record<Origin, Mark> = {
    main: { written: undefined, writing: undefined, moved: 0, step: options.step },
    retry: { written: undefined, writing: undefined, moved: 0, step: options.step }
  }
  const of = ({ origin }: Pick<Entry, "origin">) => (origin === "main" ? marks.main : marks.retry)
  const unmarked = Latch.makeUnsafe(false)
  let waits: Readonly<Record<Origin, number>> = { main: 0, retry: 0 }
  const toWrite = Latch.makeUnsafe(false)
  const wanted = new Map<Origin, string | undefined>()

  const want = (origin: Origin, id: string | undefined) => {
    marks[origin].writing = { limit: id }
    wanted.set(origin, id)
    toWrite.openUnsafe()
  }

  /** The greatest id that was started and is not settled: a mark says nothing of others. */
  const started = (origin: Origin): string | undefined => {
    let last: string | undefined
    for (const { begun, entry } of options.held) {
      if (begun && entry.origin === origin) last = later(last, entry.id)
    }
    return last
  }

  /** The last of the next few of a log; `undefined` where they are all that waits. */
  const next = (origin: Origin): string | undefined => {
    const mark = marks[origin]
    const now = clock.currentTimeMillisUnsafe()
    // handlers that became quick would wait for a mark a few deliveries at a time
    mark.step = now - mark.moved < Duration.toMillis(worthMarking) ? mark.step * 2 : options.step
    mark.moved = now
    let taken = 0
    let last: string | undefined
    for (const handling of options.queue) {
      if (handling.entry.origin !== origin) continue
      if (taken >= mark.step) return later(last, started(origin))
      taken += 1
      last = later(last, handling.entry.id)
    }
    return undefined
  }

  const write = Effect.suspend(() => {
    const [first] = wanted
    if (first === undefined) return Effect.sync(() => toWrite.closeUnsafe())
    const [origin, id] = first
    let failures = 0
    const attempt: Effect.Effect<"done" | "lost"> = Effect.catch(
      Effect.suspend(() => options.consumer.mark(origin, id)),
      (error) => {
        failures += 1
        return Effect.andThen(
          options.health.failed("marking", error),
          Effect.andThen(Effect.sleep(Health.backoff(failures, error)), attempt)
        )
      }
    )
    return Effect.flatMap(attempt, (answer) => {
      // nothing that waits for it starts any more
      if (answer === "lost") {
        toWrite.closeUnsafe()
        options.lost()
        return options.health.worked("marking")
      }
      const mark = marks[origin]
      mark.written = id
      if (wanted.get(origin) === id) {
        wanted.delete(origin)
        mark.writing = undefined
      }
      options.onMoved()
      return options.health.worked("marking")
    })
  })

  const forked = (loop: Effect.Effect<void>) =>
    Effect.forkScoped(Effect.tapDefect(loop, (defect) => Effect.sync(() => options.died(defect))))
  yield* forked(
    Effect.whileLoop({
      while: () => true,
      body: () => Effect.andThen(toWrite.await, write),
      step: () => {}
    })
  )
  const worthWriting = (origin: Origin) =>
    waits[origin] > 0 && marks[origin].written === undefined && marks[origin].writing === undefined
  const waitsLong = (origin: Origin) => {
    for (const { entry, taken } of options.queue) {
      if (entry.origin === origin) return clock.currentTimeMillisUnsafe() - taken >= Duration.toMillis(worthMarking)
    }
    return false
  }

  yield* forked(
    Effect.whileLoop({
      while: () => true,
      body: () => Effect.andThen(unmarked.await, Effect.sleep(worthMarking)),
      step: () => {
        for (const origin of ["main", "retry"] as const) {
          if (worthWriting(origin) && waitsLong(origin)) want(origin, started(origin) ?? "0-0")
        }
        if (!worthWriting("main") && !worthWriting("retry")) unmarked.closeUnsafe()
      }
    })
  )

  return {
    mayStart: ({ entry }) => {
      const mark = of(entry)
      // while a first mark is being written, what is behind it must wait as if it stood
      const limit = mark.written ?? mark.writing?.limit
      if (limit === undefined || compareIds(entry.id, limit) <= 0) return true
      if (mark.writing === undefined) want(entry.origin, next(entry.origin))
      return false
    },
    waiting: (count) => {
      waits = { ...count }
      if (worthWriting("main") || worthWriting("retry")) unmarked.openUnsafe()
      else unmarked.closeUnsafe()
      for (const origin of ["main", "retry"] as const) {
        const mark = marks[origin]
        if (count[origin] === 0 && mark.written !== undefined && mark.writing === undefined) want(origin, undefined)
      }
    }
  }
})
