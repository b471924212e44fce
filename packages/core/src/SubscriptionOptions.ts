/**
 * The options of a subscription, one interface for each kind of policy.
 *
 * Users meet these as `Subscription.Options`, `Subscription.Retry` and so on.
 *
 * @since 0.1.0
 */
import type * as DateTime from "effect/DateTime"
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import type * as DeadLetters from "./DeadLetters.ts"
import type { DoNotRetry, RetryAfter } from "./Errors.ts"
import type * as RetryPolicy from "./RetryPolicy.ts"

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
export interface Retry<in E> extends RetryPolicy.Options {
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
  /** Handlers at once; for `batch`, batches at once. A whole number from 1. Default 1. */
  readonly concurrency?: number | undefined
  /**
   * Deliveries taken and not settled, at most; a whole number from 1. Default: about one second of work, as measured. Whatever
   * is given, at most 16 MiB are held, or one message. What is taken waits here and not at another worker. Of a stream, also
   * how many are handed out at once, 16 by default. Of a topic with several partitions, at least as many, and shared out
   * among them, also where this worker reads only some.
   */
  readonly prefetch?: number | undefined
  /**
   * Of a topic with a key: where so many messages of a partition wait on the log, behind others of their keys that wait for
   * a retry, new ones of the partition are not read; what had been read by then waits there as well. A whole number from 1.
   * Default 10,000. Refused where the topic has no key.
   */
  readonly maxWaiting?: number | undefined
  /**
   * How long a delivery belongs to its consumer without a heartbeat: a dead worker's messages are delayed by so long.
   * Default 30 seconds, at least 10 ms; below 1 second a pause of the process may cost it its leases.
   */
  readonly visibilityTimeout?: Duration.Input | undefined
  /** How long a handler may run; then it is interrupted, and has failed. At least 1 ms. Default: without limit. */
  readonly timeout?: Duration.Input | undefined
  /** How long closing waits for handlers before it releases what is unfinished. Default 20 seconds; 0 releases at once. */
  readonly drainTimeout?: Duration.Input | undefined
  /**
   * Ends the extension of a delivery's lease so long after its handler began, as of one that hangs. Of a topic with a key, its
   * partition is claimed anew then. Default 1 hour, at least 10 ms.
   */
  readonly maxLease?: Duration.Input | undefined
  /**
   * Where the subscription begins when it is new on its topic: `"new"` (default), `"beginning"`, after an entry id, or at
   * a time (inclusive). One that exists goes on where it was.
   */
  readonly from?: "new" | "beginning" | { readonly id: string } | { readonly time: DateTime.Utc } | undefined
  /**
   * The consumer's name in the group. Default: a name unique per Transport. Give one only if no other process uses it. Of a
   * topic with a key, subscribing waits for another of that name, until that has left or was silent for its visibility
   * timeout; a second after `visibilityTimeout` it fails with reason `DuplicateSubscription`.
   */
  readonly consumer?: string | undefined
  /**
   * A blocking connection of its own, where the log has connections: the lowest latency. Default false. Refused for a
   * topic with a key or with several partitions.
   */
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

/**
 * Failures are retried, then dead-lettered.
 *
 * @category models
 * @since 0.1.0
 */
export interface Retrying<A, E, R> extends Common {
  /** Default `"onSuccess"`. */
  readonly ack?: "onSuccess" | "manual" | undefined
  /** Which failures are tried again, how often and how soon. Default: the policy of `Retry`, with 5 retries. */
  readonly retry?: Retry<NoInfer<Exclude<E, RetryAfter | DoNotRetry>>> | undefined
  /** Default true: what is exhausted, not retryable, rejected or undecodable is kept. `false` makes it `Dropping`. */
  readonly deadLetters?: true | undefined
  /** Called with each dead letter once it is stored. Default: nothing is called. */
  readonly onDeadLetter?: OnDead<A, R>
}

/**
 * Failures are retried, then acked, with an error in the log and a count.
 *
 * @category models
 * @since 0.1.0
 */
export interface Dropping<E> extends Common {
  /** Default `"onSuccess"`. */
  readonly ack?: "onSuccess" | "manual" | undefined
  /** Which failures are tried again before they are acked. Default: the policy of `Retry`, with 5 retries. */
  readonly retry?: Retry<NoInfer<Exclude<E, RetryAfter | DoNotRetry>>> | undefined
  /** What would become a dead letter is acked, with an error in the log, and counted as dropped. */
  readonly deadLetters: false
  /** Nothing is kept, so there is nothing to call it with. */
  readonly onDeadLetter?:
    | Illegal<"deadLetters: false leaves nothing to call onDeadLetter for: remove one of the two">
    | undefined
}

/**
 * Failures are acked too.
 *
 * @category models
 * @since 0.1.0
 */
export interface Emptying extends Common {
  /** `"onExit"`: however the handler ends. `"onReceive"`: before it runs, so at most once. */
  readonly ack: "onExit" | "onReceive"
  /** Whether undecodable messages are kept. Default true. */
  readonly deadLetters?: boolean | undefined
  /** Failures are acked, so there is nothing to retry. */
  readonly retry?:
    | Illegal<'ack "onExit" and "onReceive" ack failures too, so nothing is left to retry: remove retry, or use ack "onSuccess"'>
    | undefined
  /** Failures are acked, so none becomes a dead letter. */
  readonly onDeadLetter?:
    | Illegal<'ack "onExit" and "onReceive" never dead-letter a failure: remove onDeadLetter, or use ack "onSuccess"'>
    | undefined
}

/**
 * An ack policy that comes from configuration.
 *
 * @category models
 * @since 0.1.0
 */
export interface Plain extends Common {
  /** Default `"onSuccess"`. */
  readonly ack?: Ack | undefined
  /** Whether what will not be tried again is kept. Default true. */
  readonly deadLetters?: boolean | undefined
  /** The default policy: another one needs an `ack` that is known when this is compiled. */
  readonly retry?: undefined
  /** Nothing is called: it needs an `ack` that is known when this is compiled. */
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
