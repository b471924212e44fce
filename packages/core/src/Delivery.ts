/**
 * The facts of one delivery of a message to a handler, and the ways to settle it.
 *
 * A handler reads it from its context (`yield* Delivery`); a batch or a stream gets one with each message. Under
 * `ack: "manual"` the handler must settle; under `"onSuccess"` and `"onExit"` it may, and what it chose stands; under
 * `"onReceive"` the delivery is acked before. It is settled once: a second settle is refused with `AlreadySettled` and
 * counted.
 *
 * @since 0.1.0
 */
import type * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import type * as DateTime from "effect/DateTime"
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import type { SettleError } from "./Errors.ts"
import type { Message } from "./Message.ts"

/**
 * How a delivery ends. Each succeeds once the log has it. Fails with `SettleError`: `AlreadySettled`, `LeaseLost` where
 * another consumer owns the delivery by now, `Unavailable` where the subscription closed before the log could be reached.
 *
 * @category models
 * @since 0.1.0
 */
export interface Settle {
  /** Done: the message is not delivered to this subscription again. */
  readonly ack: Effect.Effect<void, SettleError>
  /** Given back for any consumer, at no cost of an attempt. */
  readonly release: Effect.Effect<void, SettleError>
  /**
   * Failed: try again after `after`, or by the subscription's backoff. It counts as an attempt; where none is left the
   * message is dead-lettered as exhausted. `cause` is kept with it. An `after` that is no finite duration from 0 is left
   * out of account.
   */
  readonly retry: (options?: {
    readonly after?: Duration.Input | undefined
    readonly cause?: Cause.Cause<unknown> | undefined
  }) => Effect.Effect<void, SettleError>
  /** Never again: dead-lettered with reason `rejected`, and the text as its cause. */
  readonly deadLetter: (reason: string) => Effect.Effect<void, SettleError>
}

/**
 * What is known of a delivery.
 *
 * @category models
 * @since 0.1.0
 */
export interface DeliveryInfo {
  /** The topic's name. */
  readonly topic: string
  /** Which of the topic's logs it belongs to, from 0. */
  readonly partition: number
  /**
   * Of a topic with a key: a number that only grows within a partition, each time that a worker takes it over. Who was
   * frozen past its lease may still run a handler while the next worker has started: a downstream that keeps
   * the greatest fence it has seen, for each partition, can refuse the older one. `undefined` without a key.
   */
  readonly fence: number | undefined
  /** The log it was read from, as stored: the topic's own, or the subscription's retry log. */
  readonly stream: string
  /** The consumer group that read it. */
  readonly group: string
  /** This worker's name in the consumer group. */
  readonly consumer: string
  /** Entry id in `stream`. */
  readonly messageId: string
  /**
   * Entry id in the topic's own log, the same through every retry. `Message.id` is the CloudEvents id, derived from this
   * unless the publisher gave one.
   */
  readonly originalId: string
  /** Which attempt this is; 1 is the first. */
  readonly attempt: number
  /** When the message was first delivered to this subscription, by the log's clock. */
  readonly firstDelivered: DateTime.Utc
  /** The id of the dead letter it was redriven from; `undefined` where it never was one. */
  readonly redriven?: string | undefined
}

/**
 * The delivery that is being handled.
 *
 * @category services
 * @since 0.1.0
 */
export class Delivery extends Context.Service<Delivery, DeliveryInfo & Settle>()("@clutch/core/Delivery") {}

/**
 * A delivery with its message: what batches and streams are made of.
 *
 * @category models
 * @since 0.1.0
 */
export interface Delivered<out A> extends DeliveryInfo, Settle {
  /** The message that is delivered. */
  readonly message: Message<A>
}
