/**
 * What a worker's death need not cost: marks that say how far into its prefetched deliveries it had started.
 *
 * A mark names an entry of a log: nothing behind it has been started; or, by key, all that have been, or may be soon. It is
 * written only when deliveries have waited for a while, as handlers that keep up leave none waiting; then a handler that
 * the mark does not cover starts after it has been moved, a few deliveries at a time. So a mark never lies in the
 * dangerous direction: what was started is counted.
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import type { Scope } from "effect/Scope"
import type { Entry } from "../Transport.ts"
import type { Handling } from "./handling.ts"
import * as Health from "./health.ts"
import type { Extent, Seat } from "./seat.ts"

/** How long a delivery waits unstarted before it is worth a write. */
const worthMarking = Duration.millis(50)

export type Origin = "main" | "retry"

interface Mark {
  /** What the log says; `undefined` where it says that anything may have started. */
  written: Extent | undefined
  /** A write is under way: nothing that this does not cover may start until it is done. */
  writing: { readonly extent: Extent | undefined } | undefined
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
  readonly consumer: Pick<Seat, "mark" | "unstarted">
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
  const wanted = new Map<Origin, Extent | undefined>()

  const want = (origin: Origin, extent: Extent | undefined) => {
    marks[origin].writing = { extent }
    wanted.set(origin, extent)
    toWrite.openUnsafe()
  }

  /** What has been started and is not settled, or may be before the next mark is written. */
  const started = (origin: Origin): Extent => {
    const { written } = marks[origin]
    const ids: Array<string> = []
    for (const { begun, entry } of options.held) {
      if (entry.origin === origin && (begun !== undefined || written?.covers(entry.id) === true)) ids.push(entry.id)
    }
    return options.consumer.unstarted.and(ids)
  }

  /** With the next few of a log; `undefined` where they are all that waits. */
  const next = (origin: Origin): Extent | undefined => {
    const mark = marks[origin]
    const now = clock.currentTimeMillisUnsafe()
    // handlers that became quick would wait for a mark a few deliveries at a time
    mark.step = now - mark.moved < Duration.toMillis(worthMarking) ? mark.step * 2 : options.step
    mark.moved = now
    const ids: Array<string> = []
    for (const { entry } of options.queue) {
      if (entry.origin !== origin) continue
      if (ids.length >= mark.step) return started(origin).and(ids)
      ids.push(entry.id)
    }
    return undefined
  }

  const write = Effect.suspend(() => {
    const [first] = wanted
    if (first === undefined) return Effect.sync(() => toWrite.closeUnsafe())
    const [origin, extent] = first
    let failures = 0
    const attempt: Effect.Effect<"done" | "lost"> = Effect.catch(
      Effect.suspend(() => options.consumer.mark(origin, extent)),
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
      mark.written = extent
      if (wanted.get(origin) === extent) {
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
          if (worthWriting(origin) && waitsLong(origin)) want(origin, started(origin))
        }
        if (!worthWriting("main") && !worthWriting("retry")) unmarked.closeUnsafe()
      }
    })
  )

  return {
    mayStart: ({ entry }) => {
      const mark = of(entry)
      // while a first mark is being written, what it does not cover must wait as if it stood
      const extent = mark.written ?? mark.writing?.extent
      if (extent === undefined || extent.covers(entry.id)) return true
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
