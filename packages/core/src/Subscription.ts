/**
 * A subscription: a name, a source, a handler and its policies. A pure value, until `subscribe`, `layer`, `stream` or an
 * `Agent` starts it.
 *
 * Delivery is at least once: a handler may see a message again when its worker dies, and must bear it. A failure is this
 * subscription's alone; no other one on the topic sees the retry. Without a `key` of the topic, nothing promises an order
 * between messages in flight together.
 *
 * @since 0.1.0
 */
import type { NonEmptyReadonlyArray } from "effect/Array"
import type * as DateTime from "effect/DateTime"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { identity } from "effect/Function"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type { Address } from "./Address.ts"
import type { Delivered, Delivery } from "./Delivery.ts"
import { type SubscribeError, type SubscriptionFailed, TransportError } from "./Errors.ts"
import * as address_ from "./internal/address.ts"
import type { Definition } from "./internal/definition.ts"
import type { Handling } from "./internal/handling.ts"
import * as idle from "./internal/idle.ts"
import type { RawOptions } from "./internal/policy.ts"
import { inspectAll } from "./internal/stats.ts"
import { subscribeAll } from "./internal/subscribe.ts"
import type { Message } from "./Message.ts"
import type { Reclaimer } from "./Reclaimer.ts"
import type { Source } from "./Source.ts"
import type { Common, Options, Retry } from "./SubscriptionOptions.ts"
import { Transport } from "./Transport.ts"

// -----------------------------------------------------------------------------
// models
// -----------------------------------------------------------------------------

export type { Address } from "./Address.ts"
export type * from "./SubscriptionOptions.ts"

const DefinitionId: unique symbol = Symbol.for("~@clutch/core/Subscription")

/**
 * Any subscription, whatever its types: what an `Agent` takes.
 *
 * @category models
 * @since 0.1.0
 */
export interface Any {
  /** The subscription's name. */
  readonly name: string
  /** Tells a subscription from an `Address`. Always true. */
  readonly _subscription: true
  readonly [DefinitionId]: Definition
}

/**
 * A subscription to messages of `A`, whose handler fails with `E` and requires `R`.
 *
 * @category models
 * @since 0.1.0
 */
export interface Subscription<out A, out E, out R> extends Address<A>, Any {
  /** Carries the type; never called. */
  readonly _E: (_: never) => E
  /** Carries the type; never called. */
  readonly _R: (_: never) => R
}

/**
 * What subscriptions require.
 *
 * @category models
 * @since 0.1.0
 */
export type Services<S> = S extends { readonly _R: (_: never) => infer R } ? R : unknown

/**
 * The runtime's view of a subscription.
 *
 * @internal
 */
export const definitionOf = (self: Any): Definition => self[DefinitionId]

const value = <A, E, R>(definition: Definition): Subscription<A, E, R> => ({
  name: definition.name,
  source: definition.source as Source<A>, // the source it was made of
  _subscription: true,
  _E: identity,
  _R: identity,
  [DefinitionId]: definition
})

// -----------------------------------------------------------------------------
// constructors
// -----------------------------------------------------------------------------

/**
 * A subscription that handles one message at a time, `concurrency` of them at once.
 *
 * The name is the handler's identity: the consumer group and every key of the subscription derive from it, never from a
 * function's name. Each delivery has a Scope of its own, closed before it settles.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = <A, E = never, R = never, R2 = never>(
  name: string,
  source: Source<A>,
  handler: (message: Message<A>) => Effect.Effect<void, E, R>,
  options?: Options<A, E, R2>
): Subscription<A, E, Exclude<R | R2, Delivery | Scope.Scope>> =>
  value({
    name,
    source,
    kind: "each",
    handler: ([{ message }]) => handler(message as Message<A>), // decoded by this source
    options: raw(options)
  })

/**
 * A subscription that handles up to `size` messages together, waiting at most `within` for a batch to fill.
 *
 * Success acks what the handler has not settled itself; a failure retries the rest, each with its own attempt.
 *
 * @category constructors
 * @since 0.1.0
 */
export const batch = <A, E = never, R = never, R2 = never>(
  name: string,
  source: Source<A>,
  handler: (batch: NonEmptyReadonlyArray<Delivered<A>>) => Effect.Effect<void, E, R>,
  options: Options<A, E, R2> & {
    /** Messages a batch, at most: a whole number from 1. */
    readonly size: number
    /** How long the first message of a batch waits for others. 0 takes what is there. */
    readonly within: Duration.Input
  }
): Subscription<A, E, Exclude<R | R2, Scope.Scope>> =>
  value({
    name,
    source,
    kind: "batch",
    handler: (handlings) => handler(handlings as NonEmptyReadonlyArray<Delivered<A>>), // decoded by this source
    options: raw(options)
  })

const raw = (options: object | undefined): RawOptions => options ?? {} // every field is checked when the subscription starts

/**
 * A stream of deliveries, each to be settled by whoever takes it. The subscription runs as long as the stream: when it
 * ends, what was taken and is unsettled is released, at once unless a `drainTimeout` is given. At most `prefetch` (default
 * 16) deliveries are handed out at once; `concurrency` means nothing here.
 *
 * @category constructors
 * @since 0.1.0
 */
export const stream = <A>(
  name: string,
  source: Source<A>,
  options?: Common & { readonly retry?: Retry<never> | undefined }
): Stream.Stream<Delivered<A>, SubscribeError, Transport | Reclaimer> =>
  Stream.unwrap(
    Effect.gen(function* () {
      const scope = yield* Effect.scope
      const queue = yield* Queue.unbounded<Delivered<A>, SubscribeError>()
      const handler = (handling: Handling) =>
        Effect.callback<void>((resume) => {
          handling.onOutcome = () => resume(Effect.void)
          Queue.offerUnsafe(queue, handling as Delivered<unknown> as Delivered<A>) // decoded by this source
        })
      const definition: Definition = {
        name,
        source,
        kind: "stream",
        handler: ([handling]) => handler(handling),
        // whoever took from it has ended, and settles no more: nothing is worth waiting for
        options: { ...options, ack: "manual", drainTimeout: options?.drainTimeout ?? 0 }
      }
      const [started] = yield* Scope.provide(subscribeAll([definition]), scope)
      const died = started === undefined ? Effect.never : started.running.join
      return Stream.fromQueue(queue).pipe(Stream.interruptWhen(Effect.orDie(died)))
    })
  )

/**
 * A subscription's address, from its name and topic.
 *
 * @category constructors
 * @since 0.1.0
 */
export const address = <A>(name: string, source: Source<A>): Address<A> => ({ name, source })

// -----------------------------------------------------------------------------
// running
// -----------------------------------------------------------------------------

/**
 * A running subscription.
 *
 * @category models
 * @since 0.1.0
 */
export interface Handle {
  /** Stops taking; what runs goes on, what waits is released. */
  readonly pause: Effect.Effect<void>
  /** Takes again after `pause`. Where nothing is paused, it does nothing. */
  readonly resume: Effect.Effect<void>
  /** Closes the subscription now: waits for its handlers up to `drainTimeout`, releases the rest, leaves the group. */
  readonly drain: Effect.Effect<void>
  /** Fails with `TransportError` where the log cannot be asked; `health` still tells then. */
  readonly stats: Effect.Effect<Stats, TransportError>
  /** Its state, and what is wrong where it is unhealthy. Asks nobody, so it can be read while the log is away. */
  readonly health: Effect.Effect<Pick<Stats, "state" | "problem">>
  /** Never succeeds. Fails when the subscription's own loop dies of a defect. */
  readonly join: Effect.Effect<never, SubscriptionFailed>
}

/**
 * A subscription in numbers.
 *
 * @category models
 * @since 0.1.0
 */
export interface Stats {
  /** Messages not delivered yet; none where the log cannot say cheaply. */
  readonly waiting: Option.Option<number>
  /** Deliveries not settled, of all workers. */
  readonly pending: number
  /** Retries that wait for their time or their turn. */
  readonly due: number
  /** Dead letters that are kept now. */
  readonly deadLetters: number
  /** Of a topic with a key: keys that wait for a retry of one of their messages. */
  readonly heldBack: number
  /** Messages that wait behind others of such keys, on the log; none of them is in `waiting`, `pending` or `due`. */
  readonly parked: number
  /** When the oldest message was published that holds its key back. */
  readonly oldestHeldBack: Option.Option<DateTime.Utc>
  /** Messages in handlers of this process; none where the subscription is looked at from outside. */
  readonly inFlight: Option.Option<number>
  /** `"unknown"` where the subscription is looked at from outside. */
  readonly state: "running" | "paused" | "draining" | "unhealthy" | "unknown"
  /** Why it is unhealthy. */
  readonly problem: Option.Option<string>
}

/**
 * Starts a subscription in the current scope, and returns once it is on the log. Whatever fails, dies or is interrupted
 * on the way leaves nothing behind. Closing the scope drains it.
 *
 * Fails with `SubscribeError`: `DuplicateSubscription`, `InvalidOption`, `InvalidName`, or what the log says.
 *
 * @category running
 * @since 0.1.0
 */
export const subscribe = <A, E, R>(
  self: Subscription<A, E, R>
): Effect.Effect<Handle, SubscribeError, Transport | Reclaimer | R | Scope.Scope> =>
  Effect.gen(function* () {
    const transport = yield* Transport
    const [started] = yield* subscribeAll([definitionOf(self)])
    if (started === undefined) return yield* Effect.die("one subscription was asked for")
    const { joined, running, scope } = started
    const health = Effect.sync(() => ({
      state: running.state(),
      problem: Option.map(Option.fromUndefinedOr(running.problem()), ({ message }) => message)
    }))
    return {
      pause: running.pause,
      resume: running.resume,
      drain: Scope.close(scope, Exit.void),
      stats: Effect.zipWith(inspectAll(transport, joined.groups), health, (inspection, health) => ({
        ...inspection,
        ...health,
        inFlight: Option.some(running.inFlight())
      })),
      health,
      join: running.join
    }
  })

/**
 * Runs a subscription for the lifetime of a layer. A loop that dies of a defect is logged as fatal; `Agent.run` makes a
 * process end of it.
 *
 * @category running
 * @since 0.1.0
 */
export const layer = <A, E, R>(
  self: Subscription<A, E, R>
): Layer.Layer<never, SubscribeError, Transport | Reclaimer | R> => Layer.effectDiscard(subscribe(self))

// -----------------------------------------------------------------------------
// looking
// -----------------------------------------------------------------------------

/**
 * A subscription in numbers, from any process.
 *
 * @category looking
 * @since 0.1.0
 */
export const stats = (self: Address): Effect.Effect<Stats, TransportError, Transport> =>
  Effect.gen(function* () {
    const groups = yield* address_.groups(self, "stats")
    const transport = yield* Transport
    const inspection = yield* inspectAll(transport, groups)
    return { ...inspection, inFlight: Option.none(), state: "unknown", problem: Option.none() }
  })

/**
 * Waits until what was published before the call, and every retry that it led to in this subscription, is acked or
 * dead-lettered. Later publishes do not prolong it. `due: "ignore"` does not wait for retries that are not yet due.
 *
 * Fails with reason `NoSubscription` where the subscription was never started on this log. Where its group has disappeared,
 * it waits until a worker has made it anew, and settled what comes again.
 *
 * @category looking
 * @since 0.1.0
 */
export const awaitIdle = (
  self: Address,
  options: { readonly due?: "wait" | "ignore" | undefined } = {}
): Effect.Effect<void, TransportError, Transport> =>
  Effect.suspend(() => {
    const reason = idle.problem(options)
    return reason === undefined
      ? Effect.flatMap(address_.groups(self, "awaitIdle"), (groups) => idle.awaitIdle(groups, options.due ?? "wait"))
      : Effect.fail(new TransportError({ operation: "awaitIdle", reason }))
  })
