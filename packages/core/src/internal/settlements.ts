/**
 * What was decided goes to the log in batches: at once where none is under way, together with all that came meanwhile
 * where one is. A message at low rate never waits for a batch to fill.
 */
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import type { Scope } from "effect/Scope"
import { TransportError } from "../Errors.ts"
import type { Consumer, Outcome, Settled, Settlement } from "../Transport.ts"
import type { Handling } from "./handling.ts"
import * as Health from "./health.ts"

/** Enough to share a round trip, few enough that one step on the log is short. */
const batchSize = 256

interface Item extends Settlement {
  readonly handling: Handling
}

export interface Settlements {
  readonly add: (handling: Handling, outcome: Outcome) => void
  /** Waits until the log has all that was added. */
  readonly empty: Effect.Effect<void>
  /** What the log has not confirmed. */
  readonly unconfirmed: ReadonlySet<Handling>
}

export interface Options {
  readonly consumer: Consumer
  readonly health: Health.Health
  /** Around each call: a span, where there is a tracer. */
  readonly around: <A, E>(
    settlements: ReadonlyArray<{ readonly handling: Handling }>,
    call: Effect.Effect<A, E>
  ) => Effect.Effect<A, E>
  readonly settled: (handling: Handling, outcome: Outcome, settled: Exclude<Settled, TransportError>) => void
  /** The loop died of a defect. */
  readonly died: (cause: unknown) => void
}

export const make = (options: Options): Effect.Effect<Settlements, never, Scope> =>
  Effect.gen(function* () {
    const { consumer, health } = options
    let queue: Array<Item> = []
    let failures = 0
    let refusals = 0
    /** What the log could not store, and waits for its next try. */
    let unstored = 0
    const unconfirmed = new Set<Handling>()
    const work = Latch.makeUnsafe(false)
    const empty = Latch.makeUnsafe(true)

    const enqueue = (items: ReadonlyArray<Item>) => {
      queue.push(...items)
      work.openUnsafe()
    }

    const later = (items: ReadonlyArray<Item>, error: TransportError, times: number, enqueued: () => void) =>
      health.failed("settling", error).pipe(
        Effect.andThen(Effect.sleep(Health.backoff(times, error))),
        Effect.andThen(
          Effect.sync(() => {
            enqueued()
            enqueue(items)
          })
        )
      )
    const again = (item: Item, error: TransportError): Item =>
      error.reason._tag === "Unknown" ? { ...item, repeated: true } : item

    const works = Effect.suspend(() => {
      // what could not be stored still waits: the log is not well, whatever else it takes
      if (unstored > 0) return Effect.void
      failures = 0
      refusals = 0
      return health.worked("settling")
    })

    const finish = (items: ReadonlyArray<Item>, results: ReadonlyArray<Settled>) => {
      const refused: Array<Item> = []
      let problem: TransportError | undefined
      for (const [index, item] of items.entries()) {
        const result = results[index] ?? "unknown"
        if (result instanceof TransportError) {
          problem = result
          refused.push(again(item, result))
        } else {
          unconfirmed.delete(item.handling)
          options.settled(item.handling, item.outcome, result)
        }
      }
      if (unconfirmed.size === 0) empty.openUnsafe()
      if (problem === undefined) return works
      refusals += 1
      unstored += refused.length
      // only these wait: acks and releases behind them go on, as they work where the log's memory is full
      const waiting = later(refused, problem, refusals, () => (unstored -= refused.length))
      return Effect.asVoid(Effect.forkChild(waiting, { startImmediately: true }))
    }

    const round = Effect.suspend(() => {
      const items = queue.slice(0, batchSize)
      const [first, ...others] = items
      if (first === undefined) return Effect.void
      queue = queue.slice(batchSize)
      return Effect.matchEffect(options.around(items, consumer.settle([first, ...others])), {
        onSuccess: (results) => finish(items, results),
        onFailure: (error) => {
          failures += 1
          const repeated = items.map((item) => again(item, error))
          return later(repeated, error, failures, () => {})
        }
      })
    })

    const loop = Effect.whileLoop({
      while: () => true,
      body: () =>
        Effect.andThen(
          work.await,
          Effect.whileLoop({ while: () => queue.length > 0, body: () => round, step: () => {} })
        ),
      step: () => {
        if (queue.length === 0) work.closeUnsafe()
      }
    })
    yield* Effect.forkScoped(Effect.tapDefect(loop, (defect) => Effect.sync(() => options.died(defect))))
    return {
      add: (handling, outcome) => {
        unconfirmed.add(handling)
        empty.closeUnsafe()
        enqueue([{ handling, entry: handling.entry, outcome, repeated: false }])
      },
      empty: empty.await,
      unconfirmed
    }
  })
