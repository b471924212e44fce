/** What a history is about: subscriptions, what is published to them, and what must hold in the end. */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import { spelling } from "../../internal/spelling.ts"
import type { Reclaimer } from "../../Reclaimer.ts"
import { TypeId } from "../../Source.ts"
import * as Subscription from "../../Subscription.ts"
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
  | { readonly _tag: "Raw"; readonly topic: Topic<unknown>; readonly text: string }

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
   * what is left where nothing goes wrong: so say it of each message that `Simulator.stored` tells, rather than of their
   * number. Default: nothing of your own.
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

const names: ReadonlySet<string> = new Set(["subscriptions", "messages", "services", "atRest"])

export const make = <const S extends ReadonlyArray<Subscription.Any>>(options: Options<S>): Scenario => {
  const misspelt = spelling(names, options)
  if (misspelt !== undefined) throw new TypeError(`a scenario: ${misspelt.message}`)
  if (options.subscriptions.length === 0) throw new TypeError("a scenario needs a subscription: give one at least")
  if (options.messages.length === 0) throw new TypeError("a scenario needs a message: give one at least")
  const read = new Set(
    options.subscriptions.map((subscription) => Subscription.definitionOf(subscription).source.topic)
  )
  const unread = options.messages.map(({ topic }) => topic.topic).find((topic) => !read.has(topic))
  if (unread !== undefined) throw new TypeError(`no subscription of the scenario reads topic "${unread}"`)
  return {
    subscriptions: options.subscriptions,
    // what handlers require is checked above; from here on nobody asks for it by type
    services: options.services ?? Layer.empty,
    messages: options.messages,
    atRest: options.atRest ?? Effect.void
  }
}

/** Made by `Simulator.poison`. */
export const poison = <A>(topic: Topic<A>, text: string): Publication => {
  if (isJson(text) && Exit.isSuccess(topic[TypeId].decode(JSON.parse(text)))) {
    throw new TypeError(`${text} is no poison: topic "${topic.topic}" decodes it`)
  }
  return { _tag: "Raw", topic: topic as Topic<unknown>, text } // nothing is encoded for it
}

const isJson = (text: string): boolean => {
  try {
    JSON.parse(text)
    return true
  } catch {
    return false
  }
}

/** What the log has stored of the scenario's messages: known when everything is at rest. */
export const storedHere: Context.Reference<ReadonlyArray<Publication> | undefined> = Context.Reference<
  ReadonlyArray<Publication> | undefined
>("@clutch/core/testing/Stored", { defaultValue: () => undefined })

/**
 * The data of the scenario's messages that the log has stored of a topic, in the scenario's order, for `atRest`. The others
 * are not to be asked for: publishing fails in some histories, and a smaller one leaves messages out.
 *
 * @category constructors
 * @since 0.1.0
 */
export const stored = <A>(topic: Topic<A>): Effect.Effect<ReadonlyArray<A>> =>
  Effect.map(storedHere, (publications) => {
    if (publications === undefined)
      throw new TypeError("Simulator.stored is for a scenario's atRest: nothing is at rest")
    return publications.flatMap((one) =>
      one._tag === "Message" && one.topic.topic === topic.topic ? [one.data as A] : []
    ) // its own
  })
