/**
 * Heartbeats: as long as the event loop runs, what a subscription holds stays its own, up to `maxLease` a handler.
 * They run only while something is held; of a partition that is owned, always.
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import type { Scope } from "effect/Scope"
import type { Handling } from "./handling.ts"
import type { Health } from "./health.ts"
import type { Policy } from "./policy.ts"
import type { Seat } from "./seat.ts"

/** Four beats a visibility timeout: two may fail before anything is lost, and half of it is the second beat. */
const beats = 4

export interface Options {
  readonly seat: Seat
  readonly policy: Policy
  readonly health: Health
  readonly held: Iterable<Handling> & { readonly size: number }
  /** These belong to another consumer by now; or the whole partition does. */
  readonly lost: (handlings: ReadonlyArray<Handling> | "lost") => void
  /** The partition was this worker's until now, at least. */
  readonly renewed: () => void
  /** A beat came: `now` is when. */
  readonly beat: (now: number) => Effect.Effect<void>
  /** The event loop was blocked for so long, in milliseconds, beyond half the visibility timeout. */
  readonly blocked: (millis: number) => Effect.Effect<void>
  readonly died: (cause: unknown) => void
}

export interface Leases {
  /** Something is held, or nothing any more. */
  readonly holding: (some: boolean) => void
  /** When the partition was last known to be this worker's; milliseconds of the runtime's clock. */
  readonly renewed: () => number
  /** Extends what is held, before the next beat does. */
  readonly extend: Effect.Effect<void>
}

export const make: (options: Options) => Effect.Effect<Leases, never, Scope> = Effect.fnUntraced(function* (
  options: Options
) {
  const { health, held, policy, seat } = options
  const visibility = Duration.toMillis(policy.visibilityTimeout)
  const maxLease = Duration.toMillis(policy.maxLease)
  const interval = visibility / beats
  const clock = yield* Clock.Clock
  const holding = Latch.makeUnsafe(false)
  let since = 0
  let renewed = seat.order?.claimed ?? clock.currentTimeMillisUnsafe()

  const extend = (now: number) =>
    Effect.suspend(() => {
      // what waits for its key, or to be released, hangs nowhere
      const own = [...held].filter(({ begun, lost }) => !lost && (begun === undefined || now - begun < maxLease))
      if (own.length === 0 && seat.order === undefined) return Effect.void
      return Effect.matchEffect(seat.extend(own.map(({ entry }) => entry)), {
        onFailure: (error) => health.failed("extending leases", error),
        onSuccess: (lost) => {
          if (lost === "lost") options.lost(lost)
          else {
            const gone = new Set(lost)
            // what was settled meanwhile is held no more: of what is being settled, the answer to that tells
            options.lost(own.filter(({ entry, outcome }) => gone.has(entry) && outcome === undefined))
            renewed = now
            for (const handling of own) handling.leased = now
            options.renewed()
          }
          return health.worked("extending leases")
        }
      })
    })

  const beat = Effect.flatMap(Effect.sleep(interval), () => {
    const now = clock.currentTimeMillisUnsafe()
    // counted from when it was asked for: a handler may block before this fiber has begun to sleep
    const late = now - since - interval
    const extended = Effect.andThen(extend(now), options.beat(now))
    return Effect.map(late > visibility / 2 ? Effect.andThen(options.blocked(late), extended) : extended, () => {
      since = clock.currentTimeMillisUnsafe()
    })
  })

  const next = Effect.andThen(holding.await, beat)
  // where nothing is held, nothing has to be extended: it may be long until something is held for a beat again
  const free = Effect.andThen(health.worked("extending leases"), next)
  const loop = Effect.whileLoop({
    while: () => true,
    body: () => (held.size === 0 && seat.order === undefined ? free : next),
    step: () => {}
  })
  yield* Effect.forkScoped(Effect.tapDefect(loop, (defect) => Effect.sync(() => options.died(defect))))
  return {
    holding: (some) => {
      if (!some) holding.closeUnsafe()
      else if (holding.openUnsafe()) since = clock.currentTimeMillisUnsafe()
    },
    renewed: () => renewed,
    extend: Effect.suspend(() => extend(clock.currentTimeMillisUnsafe()))
  }
})
