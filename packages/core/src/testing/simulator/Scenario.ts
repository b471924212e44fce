/** What a history is about: subscriptions, what is published to them, and what must hold in the end. */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { Reclaimer } from "../../Reclaimer.ts"
import type * as Subscription from "../../Subscription.ts"
import type { Topic } from "../../Topic.ts"
import type { Transport } from "../../Transport.ts"

/**
 * A message of a scenario. Made by `Simulator.message` or `Simulator.poison`.
 *
 * @category models
 * @since 0.1.0
 */
export type Publication =
  | { readonly _tag: "Message"; readonly topic: Topic<unknown>; readonly data: unknown }
  | { readonly _tag: "Raw"; readonly topic: string; readonly text: string }

/**
 * What a history is about. Made by `Simulator.scenario`.
 *
 * @category models
 * @since 0.1.0
 */
export interface Scenario {
  /** They run in every worker. */
  readonly subscriptions: ReadonlyArray<Subscription.Any>
  /** What each life of a worker builds for itself. */
  readonly services: Layer.Layer<never, unknown, Transport>
  /** Published in this order, some together, some at once, some later. */
  readonly messages: ReadonlyArray<Publication>
  /** Run when everything is handled and all workers have closed; what it fails of is the violation. */
  readonly atRest: Effect.Effect<void, unknown, Transport>
}

/** What a worker finds around it in any case. */
type Given = Transport | Reclaimer

/**
 * The options of `Simulator.scenario`. `services` is left out where the handlers require none.
 *
 * @category models
 * @since 0.1.0
 */
export type Options<S extends ReadonlyArray<Subscription.Any>> = {
  /** They run in every worker. At least one; a history that proves something has two. */
  readonly subscriptions: S
  /** Made by `Simulator.message` and `Simulator.poison`; at least one, ten make good histories. */
  readonly messages: ReadonlyArray<Publication>
  /**
   * Run when every message is settled and all workers have closed, over the same log: what must hold now. A failure or a
   * defect is a violation. A history that fails is cut down by leaving out messages and subscriptions, as far as it holds for
   * what is left where nothing goes wrong: so say it of each message, rather than of their number. Default: nothing of your
   * own.
   */
  readonly atRest?: Effect.Effect<void, unknown, Transport> | undefined
} & ([Exclude<Subscription.Services<S[number]>, Given>] extends [never]
  ? { readonly services?: undefined }
  : {
      /**
       * What the handlers require, built anew by each life of a worker, as a process would. What outlives a worker, such as a
       * database, is a value made beside it in the scenario.
       */
      readonly services: Layer.Layer<Exclude<Subscription.Services<S[number]>, Given>, unknown, Transport>
    })

export const make = <const S extends ReadonlyArray<Subscription.Any>>(options: Options<S>): Scenario => {
  if (options.subscriptions.length === 0) throw new TypeError("a scenario needs a subscription: give one at least")
  return {
    subscriptions: options.subscriptions,
    // what handlers require is checked above; from here on nobody asks for it by type
    services: options.services ?? Layer.empty,
    messages: options.messages,
    atRest: options.atRest ?? Effect.void
  }
}
