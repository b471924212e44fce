/**
 * A named set of subscriptions that starts together or not at all: no fetch begins before every group of it exists.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { SubscribeError, SubscriptionFailed } from "./Errors.ts"
import { subscribeAll } from "./internal/subscribe.ts"
import type { Reclaimer } from "./Reclaimer.ts"
import * as Subscription from "./Subscription.ts"
import type { Transport } from "./Transport.ts"

const start = (name: string, subscriptions: ReadonlyArray<Subscription.Any>) =>
  subscribeAll(subscriptions.map(Subscription.definitionOf)).pipe(
    Effect.tap(() => Effect.logInfo(`agent "${name}" runs: ${subscriptions.map(({ name }) => name).join(", ")}`)),
    Effect.annotateLogs({ agent: name })
  )

/**
 * Runs subscriptions for the lifetime of a layer, which requires what their handlers require. `name` stands in every log
 * line of theirs. A loop that dies of a defect is logged as fatal; use `run` for a process that should end of it.
 *
 * Fails with the `SubscribeError` of the first that cannot start; nothing of the others remains.
 *
 * @category running
 * @since 0.1.0
 */
export const layer = <const S extends ReadonlyArray<Subscription.Any>>(
  name: string,
  subscriptions: S
): Layer.Layer<never, SubscribeError, Transport | Reclaimer | Subscription.Services<S[number]>> =>
  Layer.effectDiscard(start(name, subscriptions))

/**
 * Runs subscriptions until interrupted, then drains them. Fails when the loop of one dies, so that a process manager
 * sees it.
 *
 * @category running
 * @since 0.1.0
 */
export const run = <const S extends ReadonlyArray<Subscription.Any>>(
  name: string,
  subscriptions: S
): Effect.Effect<
  never,
  SubscribeError | SubscriptionFailed,
  Transport | Reclaimer | Subscription.Services<S[number]>
> =>
  Effect.scoped(
    Effect.gen(function* () {
      const started = yield* start(name, subscriptions)
      yield* Effect.forEach(started, ({ running }) => running.join, { concurrency: "unbounded", discard: true })
      return yield* Effect.never
    })
  )
