/**
 * The service a backend implements: logs with consumer groups, on which every move is atomic.
 *
 * A log is addressed by topic and partition; a group is a subscription's place on it, with a retry log, a set of
 * retries not yet due, and dead letters of its own. The runtime (concurrency, policies, tracing, drain) is written
 * once, over this interface. A backend decides nothing: it is told what becomes of a delivery, and makes it so in one
 * step, wholly or not at all. `@clutch/core/conformance` is the suite that a backend must pass.
 *
 * What a backend does not promise: exactly-once delivery. A delivery whose worker dies is delivered again.
 *
 * @since 0.1.0
 */
import type { NonEmptyReadonlyArray } from "effect/Array"
import * as Context from "effect/Context"
import type * as DateTime from "effect/DateTime"
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import type * as Option from "effect/Option"
import type * as Result from "effect/Result"
import type * as Scope from "effect/Scope"
import type { TransportError } from "./Errors.ts"
import type { Attributes } from "./Message.ts"

// -----------------------------------------------------------------------------
// addresses
// -----------------------------------------------------------------------------

/**
 * One log of a topic.
 *
 * @category models
 * @since 0.1.0
 */
export interface Log {
  /** The topic's name. */
  readonly topic: string
  /** From 0; below the topic's number of partitions. */
  readonly partition: number
}

/**
 * A subscription's place on a log.
 *
 * @category models
 * @since 0.1.0
 */
export interface Group extends Log {
  /** The subscription's name. */
  readonly subscription: string
}

/**
 * Where a group begins when it is created: after what is there, before it, after an entry id (exclusive), or at a
 * time (inclusive). A group that exists goes on where it was, whatever is asked.
 *
 * @category models
 * @since 0.1.0
 */
export type StartPosition = "new" | "beginning" | { readonly id: string } | { readonly time: DateTime.Utc }

// -----------------------------------------------------------------------------
// what is stored and what is delivered
// -----------------------------------------------------------------------------

/**
 * A message to be stored: `data` is JSON text, `attributes` what cannot be derived.
 *
 * @category models
 * @since 0.1.0
 */
export interface Outgoing {
  /** JSON text. */
  readonly data: string
  /** `undefined` where everything is derived. */
  readonly attributes: Attributes | undefined
}

/**
 * A stored message as read: the bytes of its data, and its attributes.
 *
 * @category models
 * @since 0.1.0
 */
export interface Content {
  /** UTF-8 of JSON text, unless somebody else wrote it. */
  readonly data: Uint8Array
  /** `undefined` where everything is derived. */
  readonly attributes: Attributes | undefined
}

/**
 * What a topic keeps at most. Both limits drop messages that nobody has read yet, and messages in flight. What every group
 * has settled is another matter: see `Transport.trim`.
 *
 * @category models
 * @since 0.1.0
 */
export interface Retention {
  /** Messages, at most; `undefined` keeps any number. */
  readonly maxLength: number | undefined
  /** By the log's clock; `undefined` keeps them for ever. */
  readonly maxAge: Duration.Duration | undefined
}

/**
 * One delivery of a stored message to a consumer. The same object is handed back to settle it: a backend may give it
 * fields of its own.
 *
 * @category models
 * @since 0.1.0
 */
export interface Entry {
  /** Which of the group's two logs it was read from. */
  readonly origin: "main" | "retry"
  /** The name of that log, as the backend stores it (on Redis: the stream's key). */
  readonly stream: string
  /** Entry id in `stream`. */
  readonly id: string
  /** Entry id in the topic's own log, the same through every retry. */
  readonly originalId: string
  /** Which attempt this is; 1 is the first. Releases and deliveries known not to have started do not count. */
  readonly attempt: number
  /** How often a consumer died while it held this entry of `stream`, as counted attempts. */
  readonly reclaims: number
  /** When the message was first delivered to this group; milliseconds since the epoch, by the log's clock. */
  readonly firstDelivered: number
  /** The dead letter it was redriven from, through all retries since. */
  readonly redriven?: string | undefined
  /** Of a retry in an ordered group: the key that it holds back. */
  readonly key?: string | undefined
  /** Bytes, as stored. */
  readonly size: number
  /** What it holds; a sentence where the backend's codec cannot read it. */
  readonly content: Result.Result<Content, string>
}

/**
 * Why a message is a dead letter: its retries are used up, its failure was not worth a retry, it cannot be decoded,
 * or its handler said so.
 *
 * @category models
 * @since 0.1.0
 */
export type DeadLetterReason = "exhausted" | "notRetryable" | "poison" | "rejected"

/**
 * What becomes of a delivery.
 *
 * `Ack`: done. `Release`: given back for any consumer, at no cost of an attempt. `Retry`: the next attempt is due
 * after `delay`. `DeadLetter`: never again, kept with its reason and how many attempts were counted. Under `Retry` and
 * `DeadLetter`, `cause` tells the failure in words. `Park` is known to an `Owner` alone: the message waits behind an
 * earlier one of its key, at no cost of an attempt.
 *
 * @category models
 * @since 0.1.0
 */
export type Outcome =
  | { readonly _tag: "Ack" }
  | { readonly _tag: "Release" }
  | { readonly _tag: "Park" }
  | { readonly _tag: "Retry"; readonly delay: Duration.Duration; readonly cause: string }
  | {
      readonly _tag: "DeadLetter"
      readonly reason: DeadLetterReason
      readonly cause: string
      readonly attempts: number
    }

/**
 * An outcome for a delivery. `repeated` says that it was asked for before and no reply came, so that finding nothing
 * to settle is no proof of a lost lease.
 *
 * @category models
 * @since 0.1.0
 */
export interface Settlement {
  /** As `fetch` returned it. */
  readonly entry: Entry
  /** What becomes of it. */
  readonly outcome: Outcome
  /** Asked for before, without a reply. */
  readonly repeated: boolean
  /** The ordering key of a message that has a place in the order; an `Owner` alone looks at it. */
  readonly key?: string | undefined
}

/**
 * How a settlement went: `done`; for a dead letter, the id it is kept under; `freed` and its field say, of a group that
 * hands out by key, that the key is held back no longer; `lost`, refused because the delivery belongs to another consumer;
 * `unknown`, there is nothing to settle, and it may have been this worker's own earlier call; or an error, where it was not
 * stored, the delivery is still pending, and the call is worth repeating.
 *
 * @category models
 * @since 0.1.0
 */
export type Settled =
  | "done"
  | "freed"
  | { readonly _tag: "DeadLettered"; readonly id: string; readonly freed?: boolean | undefined }
  | "lost"
  | "unknown"
  | TransportError

// -----------------------------------------------------------------------------
// a consumer
// -----------------------------------------------------------------------------

/**
 * How to join a group.
 *
 * @category models
 * @since 0.1.0
 */
export interface JoinOptions {
  /** The group to join, created where it is absent. */
  readonly group: Group
  /** Unique per Transport unless given. */
  readonly consumer: string | undefined
  /** Stored beside the group: this consumer is judged by its own, whoever reclaims. */
  readonly visibilityTimeout: Duration.Duration
  /** Where the group begins if this call creates it. */
  readonly from: StartPosition
  /** A blocking connection of its own for the main log, where the backend has connections. */
  readonly ownConnection: boolean
}

/**
 * How much to take. `alone: true` takes one delivery that must run alone, and nothing else, without waiting.
 *
 * @category models
 * @since 0.1.0
 */
export interface FetchLimit {
  /** Entries, at least 1. */
  readonly count: number
  /** Bytes, roughly: a first entry is delivered whatever its size. */
  readonly bytes: number
  /** Only one suspect (see `Fetched`), and without waiting. */
  readonly alone: boolean
  /**
   * How many attempts an entry may have, so that one whose last attempt this would be is taken alone after its consumer
   * died. `Infinity` where retries are unlimited.
   */
  readonly maxAttempts: number
}

/**
 * What was taken. `suspects` says that entries wait which must be taken alone, because consumers died of them or
 * beside them: twice, or once where the next attempt is the last. The runtime lets its handlers end, then fetches with
 * `alone: true`.
 *
 * @category models
 * @since 0.1.0
 */
export interface Fetched {
  /** At most as many as `FetchLimit` allows. */
  readonly entries: ReadonlyArray<Entry>
  /** More wait that must be taken alone. */
  readonly suspects: boolean
}

/**
 * A member of a group, of a Scope's lifetime. When the Scope closes before `keep`, joining is undone as if it had never
 * been; afterwards the consumer leaves: what it still holds is released, and it is removed from the group if nothing of
 * it is pending.
 *
 * @category models
 * @since 0.1.0
 */
export interface Consumer {
  /** As given to `join`, or made by it. */
  readonly name: string
  /** Joining stands: from here on, closing leaves the group in place. Cannot fail: it touches nothing but this value. */
  readonly keep: () => void
  /**
   * Waits until there is something to deliver, then takes it: released and retried entries before new ones, of which it
   * may take some where there are many of either. It never returns empty-handed without `suspects`, unless asked for `alone`.
   * The caller runs it in an uninterruptible region, so that what was taken is handed over and never dropped in between:
   * the implementation makes its waiting, and only that, interruptible by itself (`Effect.interruptible`).
   * A group that has disappeared is created again first (contract 9).
   */
  readonly fetch: (limit: FetchLimit) => Effect.Effect<Fetched, TransportError>
  /**
   * Settles each in one atomic step, and answers in the same order. Fails only where nothing is known of the whole list:
   * with reason `Unknown`, repeat it as `repeated`.
   */
  readonly settle: (
    settlements: NonEmptyReadonlyArray<Settlement>
  ) => Effect.Effect<ReadonlyArray<Settled>, TransportError>
  /** Extends the leases of those that are still this consumer's by its visibility timeout; returns the others. */
  readonly extend: (entries: NonEmptyReadonlyArray<Entry>) => Effect.Effect<ReadonlyArray<Entry>, TransportError>
  /**
   * Records that, of what this consumer holds of the given log, nothing behind `id` has been started, so that a reclaim
   * costs those no attempt; `undefined` records that anything may have started. Takes effect when it returns.
   */
  readonly mark: (origin: "main" | "retry", id: string | undefined) => Effect.Effect<void, TransportError>
}

// -----------------------------------------------------------------------------
// order by key
// -----------------------------------------------------------------------------

/**
 * How to enrol as a worker of an ordered group.
 *
 * @category models
 * @since 0.1.0
 */
export type EnrollOptions = Omit<JoinOptions, "ownConnection">

/**
 * Who works on an ordered group's log. Nobody but its owner is delivered anything.
 *
 * @category models
 * @since 0.1.0
 */
export interface Roster {
  /** The workers that have shown signs of life within their visibility timeouts, and do not rest; in any order. */
  readonly workers: ReadonlyArray<string>
  /** Who owns the log; none where nobody does, or its owner's lease has ended. */
  readonly owner: Option.Option<string>
  /** How long until the lease of the owner ends, unless it is renewed. */
  readonly expires: Option.Option<Duration.Duration>
}

/**
 * A worker of an ordered group, of a Scope's lifetime; it owns nothing until it claims. When the Scope closes before
 * `keep`, enrolling is undone as joining is.
 *
 * @category models
 * @since 0.1.0
 */
export interface Worker {
  /** As given to `enroll`, or made by it. */
  readonly name: string
  /** Enrolling stands. Cannot fail: it touches nothing but this value. */
  readonly keep: () => void
  /**
   * Who is there. Asking is a sign of life. A group that has disappeared is created again first. Fails with reason
   * `DuplicateSubscription` where this worker was silent for longer than its visibility timeout, and another one that lives
   * has taken its name.
   */
  readonly roster: Effect.Effect<Roster, TransportError>
  /** Is no worker to others until it asks for the roster again: they may take what it does not own. */
  readonly rest: Effect.Effect<void, TransportError>
  /** Calls `changed` whenever `roster` may answer differently, apart from a lease that ends. */
  readonly watch: (changed: () => void) => Effect.Effect<void, TransportError, Scope.Scope>
  /**
   * Takes the log, if nobody owns it: none where another worker does. What others held of the group is taken from them
   * first, and counts as an attempt unless their marks show that it had not started. Closing the Scope gives back what is
   * held, at no cost of an attempt, and the log with it, in one step.
   */
  readonly claim: Effect.Effect<Option.Option<Owner>, TransportError, Scope.Scope>
}

/**
 * `unread: false` takes nothing that was never delivered: only what was given back or retried.
 *
 * @category models
 * @since 0.1.0
 */
export interface OwnerLimit extends FetchLimit {
  /** Whether new messages may be taken. */
  readonly unread: boolean
}

/**
 * The one worker that is delivered what a log has for an ordered group. Its lease lasts for its visibility timeout after
 * each `extend`, `fetch` or `settle`; every step is checked against it on the log. Once it is lost it never comes back:
 * another claim makes another owner.
 *
 * A key that waits for a retry is *held back*: from the first `Retry` of a message of that key until a message of that
 * key is acked or dead-lettered and no other of it is parked. A parked message comes, as an entry of the retry log, when
 * the one before it is acked or dead-lettered: in the same step.
 *
 * @category models
 * @since 0.1.0
 */
export interface Owner {
  /** Grows with every claim of this log, and only grows. */
  readonly fence: number
  /** The keys that are held back, each since the message that holds it back was published (ms since the epoch). */
  readonly heldBack: ReadonlyArray<{ readonly key: string; readonly since: number }>
  /** How many messages are parked. */
  readonly parked: number
  /**
   * As a `Consumer`'s, given back before retried before new, each in the order of ids. Nothing is taken from behind a
   * suspect, and it not before what was given back and lies in front of it. `"lost"` where the lease is. A reply that was
   * lost, or came later than a lease, loses it: what it may have delivered is to be claimed anew.
   */
  readonly fetch: (limit: OwnerLimit) => Effect.Effect<Fetched | "lost", TransportError>
  /**
   * Settles each in one atomic step, in the order of the list. `Retry` of a message with a key holds the key back; `Park`
   * puts it behind, or where its key is not held back, becomes its first retry at once. After the first that could
   * not be stored, none that has a key and is not an `Ack` of the main log is done: they answer with the same error.
   */
  readonly settle: Consumer["settle"]
  /** Renews the lease of the log, and those of the entries; returns those that are lost, or `"lost"` where the log is. */
  readonly extend: (entries: ReadonlyArray<Entry>) => Effect.Effect<ReadonlyArray<Entry> | "lost", TransportError>
  /**
   * As a `Consumer`'s, but by key, messages do not start in the order of their log: records that of what it holds of the given
   * log only these have been started, or may be soon. `"lost"` where the lease is: nothing was recorded, and what was to start
   * must not.
   */
  readonly mark: (
    origin: "main" | "retry",
    ids: ReadonlyArray<string> | undefined
  ) => Effect.Effect<"done" | "lost", TransportError>
}

// -----------------------------------------------------------------------------
// tending and looking
// -----------------------------------------------------------------------------

/**
 * What one round of tending did, and when to come back at the latest. `next` is none where nothing will fall due before
 * something changes.
 *
 * @category models
 * @since 0.1.0
 */
export interface Tended {
  /** Retries that were due and are now in the retry log. */
  readonly moved: number
  /** Deliveries taken from consumers that died. */
  readonly reclaimed: number
  /** Dead consumers with nothing pending, removed. */
  readonly removed: number
  /** Scheduled retries that could not be read, and are dead letters now. */
  readonly poison: number
  /** How long until a retry is due or a lease may end; zero where more can be done at once. */
  readonly next: Option.Option<Duration.Duration>
}

/**
 * A group's numbers, as the log shows them.
 *
 * @category models
 * @since 0.1.0
 */
export interface Inspection {
  /** Messages not delivered yet; none where the log cannot say cheaply. */
  readonly waiting: Option.Option<number>
  /** Deliveries not settled, of both logs. */
  readonly pending: number
  /** Retries that wait for their time or their turn. */
  readonly due: number
  /** Dead letters that are kept. */
  readonly deadLetters: number
  /** Keys that are held back by a message that waits for its retry; 0 where the group is not ordered. */
  readonly heldBack: number
  /** Messages that wait behind others of their keys. */
  readonly parked: number
  /** When the oldest message that holds its key back was published; milliseconds since the epoch, by the log's clock. */
  readonly oldestHeldBack: Option.Option<number>
}

/**
 * What one round of trimming did.
 *
 * @category models
 * @since 0.1.0
 */
export interface Trimmed {
  /** Entries dropped: every group on the log had settled them. */
  readonly trimmed: number
  /** More can be dropped at once: call again. */
  readonly more: boolean
}

/**
 * How a group on a log stands, whoever made it.
 *
 * @category models
 * @since 0.1.0
 */
export interface GroupStanding {
  /** Its name on the log: of a subscription, the subscription's. */
  readonly name: string
  /** It has disappeared, and its subscription remembers where it was: it would be created again from there. */
  readonly missing: boolean
  /** Members, dead ones included until they are removed. */
  readonly consumers: number
  /** Deliveries of the main log that are not settled. */
  readonly pending: number
  /** The first entry that it has not settled: from here on, it holds back trimming. None where it has settled all there is. */
  readonly holds: Option.Option<string>
  /** How long nothing was heard of it, by the log's clock. */
  readonly silent: Duration.Duration
}

/**
 * A dead letter as stored.
 *
 * @category models
 * @since 0.1.0
 */
export interface DeadEntry {
  /** Its id among the dead letters. */
  readonly id: string
  /** Entry id in the topic's own log. */
  readonly originalId: string
  /** What it held; a sentence where the backend's codec cannot read it. */
  readonly content: Result.Result<Content, string>
  /** The data's bytes; of a foreign entry without data, all of its fields. */
  readonly raw: Uint8Array
  /** Why it will not be tried again. */
  readonly reason: DeadLetterReason
  /** The last failure, in words. */
  readonly cause: string
  /** How many attempts were counted. */
  readonly attempts: number
  /** When it was first delivered to this group, in ms since the epoch by the log's clock; none where nobody knows. */
  readonly firstDelivered: Option.Option<number>
  /** When it became a dead letter, in ms since the epoch by the log's clock. */
  readonly deadLettered: number
}

/**
 * How many replicas to wait for, and how long.
 *
 * @category models
 * @since 0.1.0
 */
export interface Replication {
  /** At least 1. */
  readonly replicas: number
  /** Finite and above 0. */
  readonly within: Duration.Duration
}

/**
 * What publishing a batch did.
 *
 * @category models
 * @since 0.1.0
 */
export interface Published {
  /** The entries' ids, in the order of the messages. */
  readonly ids: ReadonlyArray<string>
  /** How many entries the retention dropped. */
  readonly trimmed: number
  /** Where replicas were waited for: how many confirmed, and why that is not known, where it is not. */
  readonly replicated?: { readonly confirmed: number; readonly problem: string | undefined } | undefined
}

export { callback } from "./internal/callback.ts"

/**
 * A backend.
 *
 * @category services
 * @since 0.1.0
 */
export class Transport extends Context.Service<
  Transport,
  {
    /** Part of every key and of the derived `source` of every message. */
    readonly namespace: string
    /** `messaging.system` of spans and metrics: `"redis"`, `"memory"`. */
    readonly system: string
    /** The name of the topic's own log, as stored. */
    readonly stream: (log: Log) => string
    /**
     * Stores a batch in order, all or nothing, and says how many entries the retention dropped. Returns once it is stored.
     * Fails at once where the log cannot be reached: waiting is the caller's. With `replication` it waits for replicas too,
     * once for the batch, and says how many confirmed; too few of them are no failure here.
     */
    readonly publish: (
      log: Log,
      messages: NonEmptyReadonlyArray<Outgoing>,
      retention: Retention,
      replication?: Replication
    ) => Effect.Effect<Published, TransportError>
    /** Joins a group, creating it if it is absent. Whatever fails, dies or is interrupted leaves nothing behind. */
    readonly join: (options: JoinOptions) => Effect.Effect<Consumer, TransportError, Scope.Scope>
    /**
     * Enrols as a worker of an ordered group, creating it if it is absent. Whatever fails, dies or is interrupted leaves
     * nothing behind. A group is joined or enrolled for, and never both. Fails with reason `DuplicateSubscription` while
     * another worker of that name lives.
     */
    readonly enroll: (options: EnrollOptions) => Effect.Effect<Worker, TransportError, Scope.Scope>
    /**
     * The number of partitions a topic has. Where none is recorded and the topic was never used, `partitions` is recorded;
     * a topic that is used without a record has 1.
     */
    readonly partitions: (topic: string, partitions: number) => Effect.Effect<number, TransportError>
    /** Records another number of partitions, if it is `from`; returns the number it is then. */
    readonly repartition: (
      topic: string,
      change: { readonly from: number; readonly to: number }
    ) => Effect.Effect<number, TransportError>
    /**
     * Moves the retries that are due, takes deliveries from consumers that died, removes dead consumers that hold nothing.
     * Bounded work a call; `next` is zero where more is left. Needs no membership.
     */
    readonly tend: (group: Group) => Effect.Effect<Tended, TransportError>
    /**
     * Calls `changed` whenever `tend` of a group on this log may have something new to do or to wait for, and, where the log
     * is trimmed, when something was published.
     */
    readonly watch: (log: Log, changed: () => void) => Effect.Effect<void, TransportError, Scope.Scope>
    /**
     * Drops entries from the log's head, up to what every group on it has settled: the groups of other programs too, and
     * one that has disappeared and is remembered. Where there is no group, nothing was settled by anybody, and nothing is
     * dropped. One atomic step, and bounded work a call: `more` says that it did not come to the end.
     */
    readonly trim: (log: Log) => Effect.Effect<Trimmed, TransportError>
    /** The groups on a log, by name; none where it never was. */
    readonly groups: (log: Log) => Effect.Effect<ReadonlyArray<GroupStanding>, TransportError>
    /**
     * Removes a group, with what it has not read, its deliveries and its retries; its dead letters stay. Returns its numbers
     * as they were, none where it never was. Fails with `Refused` while it has a member that was heard of within ten
     * visibility timeouts, and five minutes at least.
     */
    readonly removeGroup: (group: Group) => Effect.Effect<Option.Option<Inspection>, TransportError>
    /** A group's numbers; zeros, and no `waiting`, where it never was. Creates nothing. */
    readonly inspect: (group: Group) => Effect.Effect<Inspection, TransportError>
    /** The id of the last entry ever added to the log; `0-0` where there was none. */
    readonly lastId: (log: Log) => Effect.Effect<string, TransportError>
    /**
     * Whether anything that began as an entry up to `through` is neither acked nor dead-lettered. `due: "ignore"` leaves
     * out retries whose time has not come. Compares ids; counts nothing. True where the group has disappeared, and what it
     * remembers would make it anew. Fails with `NoSubscription` where it does not exist.
     */
    readonly outstanding: (
      group: Group,
      options: { readonly through: string; readonly due: "wait" | "ignore" }
    ) => Effect.Effect<boolean, TransportError>
    /** Waits until `outstanding` may answer differently: for a change, or where the log cannot tell, for a short while. */
    readonly progress: (group: Group) => Effect.Effect<void>
    /** The dead letters of a group; none where it never was. */
    readonly deadLetters: {
      /** Oldest first, after the given id. */
      readonly page: (
        group: Group,
        options: { readonly after: string | undefined; readonly limit: number }
      ) => Effect.Effect<ReadonlyArray<DeadEntry>, TransportError>
      /** One of them; none where there is none of this id. */
      readonly get: (group: Group, id: string) => Effect.Effect<Option.Option<DeadEntry>, TransportError>
      /** How many there are. */
      readonly count: (group: Group) => Effect.Effect<number, TransportError>
      /**
       * Schedules each as a retry of the same subscription, attempts reset, and removes it here, in one step a message.
       * Returns how many there were; ids not found are passed over. Any number of ids.
       */
      readonly redrive: (
        group: Group,
        ids: ReadonlyArray<string>,
        delay: Duration.Duration
      ) => Effect.Effect<number, TransportError>
      /** Removes them for good. Returns how many there were; ids not found are passed over. Any number of ids. */
      readonly discard: (group: Group, ids: ReadonlyArray<string>) => Effect.Effect<number, TransportError>
    }
  }
>()("@clutch/core/Transport") {}
