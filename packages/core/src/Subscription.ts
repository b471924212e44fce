/**
 * A subscription: a name, a source, a handler and its policies. A pure value, until `subscribe`, `layer`, `stream` or an
 * `Agent` starts it.
 *
 * Delivery is at least once: a handler may see a message again when its worker dies, and must bear it. A failure is this
 * subscription's alone; no other one on the topic sees the retry. Nothing promises an order between messages in flight
 * together.
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
import type * as DeadLetters from "./DeadLetters.ts"
import type { Delivered, Delivery } from "./Delivery.ts"
import type { DoNotRetry, RetryAfter, SubscribeError, SubscriptionFailed, TransportError } from "./Errors.ts"
import * as address_ from "./internal/address.ts"
import type { Definition } from "./internal/definition.ts"
import type { Handling } from "./internal/handling.ts"
import * as idle from "./internal/idle.ts"
import type { RawOptions } from "./internal/policy.ts"
import { subscribeAll } from "./internal/subscribe.ts"
import type { Message } from "./Message.ts"
import type { Reclaimer } from "./Reclaimer.ts"
import type { Source } from "./Source.ts"
import { Transport } from "./Transport.ts"

// -----------------------------------------------------------------------------
// options
// -----------------------------------------------------------------------------

declare const illegal: unique symbol
/**
 * Not a value that anyone can make: its parameter is the sentence that the compiler prints.
 *
 * @category models
 * @since 0.1.0
 */
export interface Illegal<Why extends string> {
  readonly [illegal]: Why
}

/**
 * Which failures are tried again, how often and how soon. A delay is `base × factor^(attempt − 1)`, jitter added upward,
 * capped last.
 *
 * @category models
 * @since 0.1.0
 */
export interface Retry<in E> {
  /** Tries after the first: a whole number, or `"unlimited"`. Default 5. `0` dead-letters the first failure. */
  readonly maxRetries?: number | "unlimited" | undefined
  /** Delay before the second try. Default 1 second. */
  readonly base?: Duration.Input | undefined
  /** What the delay is multiplied by for each further try, at least 1. Default 2. */
  readonly factor?: number | undefined
  /** No delay is longer, jitter included. Default 15 minutes. */
  readonly maxDelay?: Duration.Input | undefined
  /** Up to this share of the delay is added at random, from 0 to 1. Default 0.2. */
  readonly jitter?: number | undefined
  /**
   * Which of the handler's own errors are worth another try; the others are dead-lettered at once, as `notRetryable`.
   * It is not asked about defects, about `timeout`, nor about `RetryAfter` and `DoNotRetry`. Default: all.
   */
  readonly while?: ((error: E) => boolean) | undefined
}

/**
 * Options of every subscription.
 *
 * @category models
 * @since 0.1.0
 */
export interface Common {
  /** Handlers at once; for `batch`, batches at once. Default 1. */
  readonly concurrency?: number | undefined
  /**
   * Deliveries taken and not settled, at most. Default: about one second of work, as measured, and at most 16 MiB. What
   * is taken waits here and not at another worker.
   */
  readonly prefetch?: number | undefined
  /**
   * How long a delivery belongs to its consumer without a heartbeat: a dead worker's messages are delayed by so long.
   * Default 30 seconds, at least 10 ms; below 1 second a pause of the process may cost it its leases.
   */
  readonly visibilityTimeout?: Duration.Input | undefined
  /** How long a handler may run; then it is interrupted, and has failed. Default: without limit. */
  readonly timeout?: Duration.Input | undefined
  /** How long closing waits for handlers before it releases what is unfinished. Default 20 seconds; 0 releases at once. */
  readonly drainTimeout?: Duration.Input | undefined
  /** Ends the extension of any one delivery's lease, as of a handler that hangs. Default 1 hour. */
  readonly maxLease?: Duration.Input | undefined
  /**
   * Where the subscription begins when it is new on its topic: `"new"` (default), `"beginning"`, after an entry id, or at
   * a time (inclusive). One that exists goes on where it was.
   */
  readonly from?: "new" | "beginning" | { readonly id: string } | { readonly time: DateTime.Utc } | undefined
  /** The consumer's name in the group. Default: a name unique per Transport. Give one only if no other worker uses it. */
  readonly consumer?: string | undefined
  /** A blocking connection of its own, where the log has connections: the lowest latency. Default false. */
  readonly ownConnection?: boolean | undefined
}

/**
 * Called with a dead letter once it is stored. Its failure is logged, and undoes nothing.
 *
 * @category models
 * @since 0.1.0
 */
export type OnDead<A, R> =
  | ((letter: DeadLetters.DeadLetter<NoInfer<A>>) => Effect.Effect<unknown, unknown, R>)
  | undefined

/**
 * When a delivery is acked.
 *
 * `"onSuccess"` (default): when the handler succeeds; a failure is retried, then dead-lettered. `"onExit"`: however the
 * handler ends. `"onReceive"`: before the handler runs, so at most once. `"manual"`: the handler settles through
 * `Delivery`; ending without settling is the failure `Unsettled`.
 *
 * @category models
 * @since 0.1.0
 */
export type Ack = "onSuccess" | "manual" | "onExit" | "onReceive"

/** Failures are retried, then dead-lettered. @category models @since 0.1.0 */
export interface Retrying<A, E, R> extends Common {
  /** Default `"onSuccess"`. */
  readonly ack?: "onSuccess" | "manual" | undefined
  readonly retry?: Retry<NoInfer<Exclude<E, RetryAfter | DoNotRetry>>> | undefined
  readonly deadLetters?: true | undefined
  readonly onDeadLetter?: OnDead<A, R>
}

/** Failures are retried, then acked, with an error in the log and a count. @category models @since 0.1.0 */
export interface Dropping<E> extends Common {
  readonly ack?: "onSuccess" | "manual" | undefined
  readonly retry?: Retry<NoInfer<Exclude<E, RetryAfter | DoNotRetry>>> | undefined
  readonly deadLetters: false
  readonly onDeadLetter?:
    | Illegal<"deadLetters: false leaves nothing to call onDeadLetter for: remove one of the two">
    | undefined
}

/** Failures are acked too. @category models @since 0.1.0 */
export interface Emptying extends Common {
  readonly ack: "onExit" | "onReceive"
  /** Whether undecodable messages are kept. Default true. */
  readonly deadLetters?: boolean | undefined
  readonly retry?:
    | Illegal<'ack "onExit" and "onReceive" ack failures too, so nothing is left to retry: remove retry, or use ack "onSuccess"'>
    | undefined
  readonly onDeadLetter?:
    | Illegal<'ack "onExit" and "onReceive" never dead-letter a failure: remove onDeadLetter, or use ack "onSuccess"'>
    | undefined
}

/** An ack policy that comes from configuration. @category models @since 0.1.0 */
export interface Plain extends Common {
  readonly ack?: Ack | undefined
  readonly deadLetters?: boolean | undefined
  readonly retry?: undefined
  readonly onDeadLetter?: undefined
}

/**
 * The options of `make` and `batch`. Policies that contradict each other do not type-check, and the compiler says why;
 * from untyped callers they are refused when the subscription starts.
 *
 * @category models
 * @since 0.1.0
 */
export type Options<A, E, R> = Retrying<A, E, R> | Dropping<E> | Emptying | Plain

// -----------------------------------------------------------------------------
// models
// -----------------------------------------------------------------------------

export type { Address } from "./Address.ts"

const DefinitionId: unique symbol = Symbol.for("~@clutch/core/Subscription")

/**
 * Any subscription, whatever its types: what an `Agent` takes.
 *
 * @category models
 * @since 0.1.0
 */
export interface Any {
  readonly name: string
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
  readonly _E: (_: never) => E
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
 * 16) deliveries are out at once; `concurrency` means nothing here.
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
  readonly resume: Effect.Effect<void>
  /** Closes the subscription now: waits for its handlers up to `drainTimeout`, releases the rest, leaves the group. */
  readonly drain: Effect.Effect<void>
  /** Fails with `TransportError` where the log cannot be asked. */
  readonly stats: Effect.Effect<Stats, TransportError>
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
  readonly deadLetters: number
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
    return {
      pause: running.pause,
      resume: running.resume,
      drain: Scope.close(scope, Exit.void),
      stats: Effect.map(transport.inspect(joined.group), (inspection) => ({
        ...inspection,
        inFlight: Option.some(running.inFlight()),
        state: running.state(),
        problem: Option.map(Option.fromUndefinedOr(running.problem()), ({ message }) => message)
      })),
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
    const group = yield* address_.group(self, "stats")
    const transport = yield* Transport
    const inspection = yield* transport.inspect(group)
    return { ...inspection, inFlight: Option.none(), state: "unknown", problem: Option.none() }
  })

/**
 * Waits until what was published before the call, and every retry that it led to in this subscription, is acked or
 * dead-lettered. Later publishes do not prolong it. `due: "ignore"` does not wait for retries that are not yet due.
 *
 * Fails with reason `NoSubscription` where the subscription was never started on this log.
 *
 * @category looking
 * @since 0.1.0
 */
export const awaitIdle = (
  self: Address,
  options?: { readonly due?: "wait" | "ignore" | undefined }
): Effect.Effect<void, TransportError, Transport> =>
  Effect.flatMap(address_.group(self, "awaitIdle"), (group) => idle.awaitIdle(group, options?.due ?? "wait"))
