/**
 * What was decided goes to the log in batches: at once where none is under way, together with all that came meanwhile
 * where one is. A message at low rate never waits for a batch to fill.
 */
import * as Arr from "effect/Array"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import type { Scope } from "effect/Scope"
import { TransportError } from "../Errors.ts"
import type { Consumer, Outcome, Settled, Settlement } from "../Transport.ts"
import type { Handling } from "./handling.ts"
import * as Health from "./health.ts"
import { once, type Turns } from "./turns.ts"

/** Enough to share a round trip, few enough that one step on the log is short. */
const batchSize = 1000

/** A delivery is its own settlement while it is sent for the first time: an object more a message is felt. */
export interface Item extends Settlement {
  readonly handling: Handling
}

export interface Settlements {
  readonly add: (item: Item) => void
  /** Waits until the log has all that was added. */
  readonly empty: Effect.Effect<void>
}

export interface Options {
  readonly consumer: Pick<Consumer, "settle">
  readonly health: Health.Health
  readonly turns: Turns
  /** What the log could not store holds up what was decided after it. */
  readonly inOrder: boolean
  /** Around each call: a span, where there is a tracer. */
  readonly around: <A, E>(settlements: ReadonlyArray<Item>, call: Effect.Effect<A, E>) => Effect.Effect<A, E>
  readonly settled: (
    handling: Handling,
    outcome: Outcome,
    settled: Exclude<Settled, TransportError>,
    now: number
  ) => void
  /** All that one call settled was told. */
  readonly answered: () => void
  /** The loop died of a defect. */
  readonly died: (cause: unknown) => void
}

export const make: (options: Options) => Effect.Effect<Settlements, never, Scope> = Effect.fnUntraced(function* (
  options: Options
) {
  const { consumer, health } = options
  const clock = yield* Clock.Clock
  const queue: Array<Item> = []
  /** What was added, and the log has not confirmed. */
  let unconfirmed = 0
  let failures = 0
  let refusals = 0
  /** What the log could not store, and waits for its next try. */
  let unstored = 0
  const work = Latch.makeUnsafe(false)
  /** At the end of this turn: what ends in a run of quick handlers is one call. */
  const wake = once(options.turns, () => work.openUnsafe())
  const empty = Latch.makeUnsafe(true)

  const later = (items: ReadonlyArray<Item>, error: TransportError, times: number, enqueued: () => void) =>
    health.failed("settling", error).pipe(
      Effect.andThen(Effect.sleep(Health.backoff(times, error))),
      Effect.andThen(
        Effect.sync(() => {
          enqueued()
          for (const item of items) queue.push(item)
          work.openUnsafe()
        })
      )
    )
  const again = ({ entry, handling, key, outcome, repeated }: Item, error: TransportError): Item => ({
    handling,
    entry,
    outcome,
    ...(key === undefined ? {} : { key }),
    repeated: repeated || error.reason._tag === "Unknown"
  })

  const works = Effect.suspend(() => {
    // what could not be stored still waits: the log is not well, whatever else it takes
    if (unstored > 0) return Effect.void
    failures = 0
    refusals = 0
    return health.worked("settling")
  })

  /** Goes on with these and nothing else. */
  const hold = (items: ReadonlyArray<Item>, error: TransportError) => {
    failures += 1
    queue.unshift(...items)
    return Effect.andThen(health.failed("settling", error), Effect.sleep(Health.backoff(failures, error)))
  }

  const finish = (items: ReadonlyArray<Item>, results: ReadonlyArray<Settled>) => {
    const refused: Array<Item> = []
    let problem: TransportError | undefined
    const now = clock.currentTimeMillisUnsafe()
    let index = 0
    for (const item of items) {
      const result = results[index++] ?? "unknown"
      if (typeof result === "object" && result instanceof TransportError) {
        problem = result
        refused.push(again(item, result))
      } else {
        unconfirmed -= 1
        options.settled(item.handling, item.outcome, result, now)
      }
    }
    options.answered()
    if (unconfirmed === 0) empty.openUnsafe()
    if (problem === undefined) return works
    if (options.inOrder) return hold(refused, problem)
    refusals += 1
    unstored += refused.length
    // only these wait: acks and releases behind them go on, as they work where the log's memory is full
    const waiting = later(refused, problem, refusals, () => (unstored -= refused.length))
    return Effect.asVoid(Effect.forkChild(waiting, { startImmediately: true }))
  }

  const round = Effect.suspend(() => {
    const items = queue.splice(0, batchSize)
    if (!Arr.isReadonlyArrayNonEmpty(items)) return Effect.void
    return Effect.matchEffect(options.around(items, consumer.settle(items)), {
      onSuccess: (results) => finish(items, results),
      onFailure: (error) => {
        const repeated = items.map((item) => again(item, error))
        if (options.inOrder) return hold(repeated, error)
        failures += 1
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
    add: (item) => {
      unconfirmed += 1
      queue.push(item)
      empty.closeUnsafe()
      wake()
    },
    empty: empty.await
  }
})
