/**
 * What can go wrong, named after what its reader must do about it.
 *
 * Each subsystem has one error whose `reason` is a tagged union, so that `Effect.catchTag` takes the
 * subsystem and `Effect.catchReason` one case of it. Every message names the option or key and the way out.
 * `RetryAfter` and `DoNotRetry` are what a handler raises to steer its own retries.
 *
 * @since 0.1.0
 */
import * as Data from "effect/Data"
import * as Duration from "effect/Duration"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"

// -----------------------------------------------------------------------------
// reasons
// -----------------------------------------------------------------------------

/**
 * The server or its connection cannot serve now; nothing was stored. It may pass by itself.
 *
 * @category reasons
 * @since 0.1.0
 */
export class Unavailable extends Schema.TaggedError<Unavailable>()("Unavailable", {
  detail: Schema.String,
  cause: Schema.optional(Schema.Defect())
}) {
  override get message() {
    return this.detail
  }
}

/**
 * The command was sent and no reply came: it may have been done. Nothing resends it by itself.
 *
 * @category reasons
 * @since 0.1.0
 */
export class Unknown extends Schema.TaggedError<Unknown>()("Unknown", {
  detail: Schema.String,
  cause: Schema.optional(Schema.Defect())
}) {
  override get message() {
    return this.detail
  }
}

/**
 * The server refuses until somebody changes it: missing permission, wrong password, a key of another type.
 *
 * @category reasons
 * @since 0.1.0
 */
export class Refused extends Schema.TaggedError<Refused>()("Refused", {
  detail: Schema.String,
  cause: Schema.optional(Schema.Defect())
}) {
  override get message() {
    return this.detail
  }
}

/**
 * No such subscription on the log: it was never started there, or its name or topic is misspelt.
 *
 * @category reasons
 * @since 0.1.0
 */
export class NoSubscription extends Schema.TaggedError<NoSubscription>()("NoSubscription", {
  topic: Schema.String,
  subscription: Schema.String
}) {
  override get message() {
    return `no subscription "${this.subscription}" on topic "${this.topic}": start it once, or check both names`
  }
}

/**
 * A name that cannot be part of a key.
 *
 * @category reasons
 * @since 0.1.0
 */
export class InvalidName extends Schema.TaggedError<InvalidName>()("InvalidName", {
  kind: Schema.Literals(["namespace", "topic", "subscription", "consumer"]),
  name: Schema.String,
  rule: Schema.String
}) {
  override get message() {
    return `${this.kind} name ${JSON.stringify(this.name)} is refused: ${this.rule}`
  }
}

/**
 * An option whose value makes no sense, alone or beside another one.
 *
 * @category reasons
 * @since 0.1.0
 */
export class InvalidOption extends Schema.TaggedError<InvalidOption>()("InvalidOption", {
  option: Schema.String,
  problem: Schema.String
}) {
  override get message() {
    return `option "${this.option}": ${this.problem}`
  }
}

/**
 * Two live subscriptions share topic, name and consumer: in one process, or, where the topic has a key, in two. Rename one
 * of them, give one another `consumer`, or close the first.
 *
 * @category reasons
 * @since 0.1.0
 */
export class DuplicateSubscription extends Schema.TaggedError<DuplicateSubscription>()("DuplicateSubscription", {
  topic: Schema.String,
  subscription: Schema.String
}) {
  override get message() {
    return (
      `subscription "${this.subscription}" on topic "${this.topic}" is already running: ` +
      `give one of the two another name or "consumer", or close the first`
    )
  }
}

/**
 * It is stored, and fewer replicas than asked for have confirmed it in time. They may have it all the same, or receive it
 * soon; publishing it again stores it twice. `detail` says why nothing is known of them, where that is so.
 *
 * @category reasons
 * @since 0.1.0
 */
export class UnderReplicated extends Schema.TaggedError<UnderReplicated>()("UnderReplicated", {
  wanted: Schema.Number,
  confirmed: Schema.Number,
  within: Schema.Duration,
  detail: Schema.optional(Schema.String)
}) {
  override get message() {
    const why = this.detail === undefined ? "" : ` (${this.detail})`
    return (
      `stored, but ${this.confirmed} of ${this.wanted} replicas confirmed it within ` +
      `${Duration.format(this.within)}${why}`
    )
  }
}

/**
 * The data does not fit the topic's schema, or its `key` gives no text for it.
 *
 * @category reasons
 * @since 0.1.0
 */
export class Encode extends Schema.TaggedError<Encode>()("Encode", {
  detail: Schema.String,
  cause: Schema.optional(Schema.Defect())
}) {
  override get message() {
    return `the data cannot be encoded: ${this.detail}`
  }
}

/**
 * Another consumer owns the delivery by now: this worker was silent for longer than its visibility timeout.
 *
 * @category reasons
 * @since 0.1.0
 */
export class LeaseLost extends Schema.TaggedError<LeaseLost>()("LeaseLost", {}) {
  override get message() {
    return "the lease was lost: the delivery belongs to another consumer, and this settlement was not applied"
  }
}

/**
 * The delivery was settled before; the first settlement stands.
 *
 * @category reasons
 * @since 0.1.0
 */
export class AlreadySettled extends Schema.TaggedError<AlreadySettled>()("AlreadySettled", {}) {
  override get message() {
    return "the delivery is settled already: settle it once"
  }
}

// -----------------------------------------------------------------------------
// errors
// -----------------------------------------------------------------------------

/**
 * An operation on the log failed.
 *
 * @category errors
 * @since 0.1.0
 */
export class TransportError extends Schema.TaggedError<TransportError>()("TransportError", {
  operation: Schema.String,
  reason: Schema.Union([
    Unavailable,
    Unknown,
    Refused,
    NoSubscription,
    DuplicateSubscription,
    InvalidName,
    InvalidOption
  ])
}) {
  override get message() {
    return `${this.operation}: ${this.reason.message}`
  }
}

/**
 * A message was not published; where the reason is `Unknown`, it may have been, and where it is `UnderReplicated`, it is.
 * `stored` counts the messages of the call that are confirmed as stored, from the first on.
 *
 * @category errors
 * @since 0.1.0
 */
export class PublishError extends Schema.TaggedError<PublishError>()("PublishError", {
  topic: Schema.String,
  stored: Schema.Number,
  reason: Schema.Union([Encode, Unavailable, Unknown, UnderReplicated, Refused, InvalidName, InvalidOption])
}) {
  override get message() {
    return `publish to "${this.topic}": ${this.reason.message}`
  }
}

/**
 * A subscription could not be started; nothing of the attempt remains.
 *
 * @category errors
 * @since 0.1.0
 */
export class SubscribeError extends Schema.TaggedError<SubscribeError>()("SubscribeError", {
  topic: Schema.String,
  subscription: Schema.String,
  reason: Schema.Union([DuplicateSubscription, InvalidOption, InvalidName, Unavailable, Unknown, Refused])
}) {
  override get message() {
    return `subscribe "${this.subscription}" to "${this.topic}": ${this.reason.message}`
  }
}

/**
 * The subscription's own loop died of a defect: a bug of Clutch or of a backend, never of a handler.
 *
 * @category errors
 * @since 0.1.0
 */
export class SubscriptionFailed extends Schema.TaggedError<SubscriptionFailed>()("SubscriptionFailed", {
  topic: Schema.String,
  subscription: Schema.String,
  cause: Schema.Defect()
}) {
  override get message() {
    return `the loop of subscription "${this.subscription}" on "${this.topic}" died: ${String(this.cause)}`
  }
}

/**
 * A delivery was not settled by this call.
 *
 * @category errors
 * @since 0.1.0
 */
export class SettleError extends Schema.TaggedError<SettleError>()("SettleError", {
  topic: Schema.String,
  subscription: Schema.String,
  messageId: Schema.String,
  reason: Schema.Union([LeaseLost, AlreadySettled, Unavailable])
}) {
  override get message() {
    return `settle ${this.messageId} of "${this.subscription}" on "${this.topic}": ${this.reason.message}`
  }
}

/**
 * A handler under `ack: "manual"` ended without settling its delivery. Counts as a failure of the handler.
 *
 * @category errors
 * @since 0.1.0
 */
export class Unsettled extends Schema.TaggedError<Unsettled>()("Unsettled", {}) {
  override get message() {
    return `the handler ended without settling: under ack "manual" call ack, retry, release or deadLetter of Delivery`
  }
}

// -----------------------------------------------------------------------------
// raised by handlers
// -----------------------------------------------------------------------------

/**
 * Raised by any handler: try again after `delay`, instead of the policy's own backoff. It counts as an attempt.
 *
 * @category errors
 * @since 0.1.0
 */
export class RetryAfter extends Data.TaggedError("RetryAfter")<{
  /** From the failure to the next try. No finite duration from 0 means the policy's own backoff. */
  readonly delay: Duration.Input
  /** What went wrong; kept in words with the message. */
  readonly cause?: unknown
}> {
  override get message() {
    const delay = Duration.fromInput(this.delay)
    return `try again after ${Option.isSome(delay) ? Duration.format(delay.value) : "the usual delay"}`
  }
}

/**
 * Raised by any handler: retrying is pointless. The message is dead-lettered at once, with reason `notRetryable`.
 *
 * @category errors
 * @since 0.1.0
 */
export class DoNotRetry extends Data.TaggedError("DoNotRetry")<{
  /** Why, in words: the first line of the dead letter's cause. */
  readonly reason: string
  /** What went wrong; kept in words with the message. */
  readonly cause?: unknown
}> {
  override get message() {
    return this.reason
  }
}
