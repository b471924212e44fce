/** Calls of handlers to other systems: the simulator's second place for faults. */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type { Network, Worker } from "./Network.ts"

/** Where in a simulation a fiber runs. */
interface Here {
  readonly worker: Worker
  readonly network: Network
  /** What the other system has around it. */
  readonly context: Context.Context<never>
}

/** Nothing, outside of a simulation. */
export const here: Context.Reference<Here | undefined> = Context.Reference<Here | undefined>(
  "@clutch/core/testing/Here",
  { defaultValue: () => undefined }
)

/**
 * A call to another system, such as a database or a payment service. In a history it is a fault point like a call to the
 * log: it may be late, and the worker may die or stand still before or after it is done. It is done as one step. What the
 * other system answers is the effect's own to say, errors too. Outside of a history it is the effect alone.
 *
 * @category constructors
 * @since 0.1.0
 */
export const remote = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.contextWith((context: Context.Context<R>) => {
    const place = Context.get(context, here)
    if (place === undefined) return effect
    const there = Context.merge(context, place.context)
    return place.network.remote(place.worker, Effect.provideContext(effect, there))
  })
