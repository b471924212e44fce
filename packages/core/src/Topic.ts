/**
 * A topic: a name, the schema of its data, and how to publish to it and narrow what is read from it.
 *
 * A topic is a pure value: making one touches nothing. Names and numbers are checked where the topic is used, by
 * `publish` and by subscribing, with an error that names the option.
 *
 * @since 0.1.0
 */
import type { NonEmptyReadonlyArray } from "effect/Array"
import * as Arr from "effect/Array"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { identity } from "effect/Function"
import * as Schema from "effect/Schema"
import * as Sink from "effect/Sink"
import { InvalidOption, type PublishError, TransportError } from "./Errors.ts"
import * as publisher from "./internal/publisher.ts"
import * as address from "./internal/address.ts"
import * as retention from "./internal/retention.ts"
import { repartition as change } from "./internal/repartition.ts"
import { shown } from "./internal/shown.ts"
import { spelling } from "./internal/spelling.ts"
import { sumOf } from "./internal/stats.ts"
import { type PublishOptions, type Writer, WriterId } from "./internal/writer.ts"
import type { Message } from "./Message.ts"
import * as Names from "./Names.ts"
import { type DataCodec, type Reader, type Source, TypeId } from "./Source.ts"
import { type GroupStanding, type Inspection, Transport } from "./Transport.ts"

/**
 * What can be read and published to.
 *
 * @category models
 * @since 0.1.0
 */
export interface Topic<in out A> extends Source<A> {
  /** Carries the type; never called. */
  readonly _in: (_: A) => void
  readonly [WriterId]: Writer
}

/**
 * Makes a topic. The data is stored as JSON, by the schema's JSON codec (`Schema.toCodecJson`). The schema has no
 * service requirements, since decoding is the hot path: what needs a service belongs into the handler.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = <S extends DataCodec>(
  name: string,
  options: {
    /** Of the data. Its decoder and encoder are compiled once, at first use. */
    readonly schema: S
    /**
     * Messages of one key are started in the order in which they were published, each after the one before it is settled,
     * across processes and through retries. Carried as CloudEvents' `partitionkey`. Each partition of a topic with a key
     * has one active worker a subscription: with the default of one partition, others stand by.
     */
    readonly key?: ((data: S["Type"]) => string) | undefined
    /**
     * How many logs the topic has, from 1 (default) to 1024. A key always goes to the same one: MurmurHash3 (x86, 32 bits,
     * seed 0) of its UTF-8, modulo this number; without a key they are taken in turn. Another number for a topic that is in
     * use is refused by publish and subscribe: `repartition` changes it.
     */
    readonly partitions?: number | undefined
    /**
     * Keep at most so many messages, checked at each publish. Default: all are kept. What is dropped is lost to every
     * subscription that has not read it yet, and it is counted; a message in flight is still settled.
     */
    readonly maxLength?: number | undefined
    /** Keep messages at most so long, by the log's clock, checked at each publish. What is dropped is lost as under `maxLength`. */
    readonly maxAge?: Duration.Input | undefined
    /**
     * `"acknowledged"` drops what every group on the topic has settled: acked, dead-lettered, or scheduled for its retry,
     * which carries the message. Never what is unread or pending for one of them, be it slow, paused, stopped or of another
     * program; and nothing while there is no group. Whoever reclaims for a subscription of this topic value does it, within
     * seconds. Default: what is settled stays.
     *
     * A group that is created later does not see what was dropped, whatever its `from`. `maxLength` and `maxAge` may be
     * given too: they are hard limits, and go on dropping what nobody has read.
     */
    readonly retention?: "acknowledged" | undefined
    /**
     * Under retention `"acknowledged"`: a group that holds something back and was not heard of for so long is reported, with
     * a warning, by the metric `clutch.groups.abandoned` and by `Topic.groups`. It still holds back what it has not settled,
     * until it is removed with `Topic.removeGroup`. Default 7 days.
     */
    readonly abandonedAfter?: Duration.Input | undefined
  }
): Topic<S["Type"]> => {
  const { partitions = 1 } = options
  const codec = lazily(() => Schema.toCodecJson(options.schema))
  const decode = lazily(() => Schema.decodeUnknownExit(codec()))
  const encode = lazily(() => Schema.encodeUnknownExit(codec()))
  return {
    topic: name,
    _A: identity,
    _in: () => {},
    [TypeId]: {
      partitions,
      problem: spelling(topicOptions, options) ?? keyProblem(options.key) ?? retention.problem(options),
      acknowledged: retention.acknowledged(options),
      ordered: options.key !== undefined,
      accepts: [],
      decode: (json) => decode()(json),
      keeps: []
    },
    [WriterId]: {
      encode: (data) => encode()(data),
      key: options.key,
      maxLength: options.maxLength,
      maxAge: options.maxAge
    }
  }
}

const topicOptions: ReadonlySet<string> = new Set([
  "schema",
  "key",
  "partitions",
  "maxLength",
  "maxAge",
  "retention",
  "abandonedAfter"
])

/** From untyped callers. */
const keyProblem = (key: unknown): InvalidOption | undefined =>
  key === undefined || typeof key === "function"
    ? undefined
    : new InvalidOption({ option: "key", problem: `${shown(key)} is refused: give a function, or leave it out` })

const lazily = <A>(make: () => A): (() => A) => {
  let made: { readonly value: A } | undefined
  return () => (made ??= { value: make() }).value
}

// -----------------------------------------------------------------------------
// narrowing
// -----------------------------------------------------------------------------

const narrow = <B>(source: Source<unknown>, reader: Partial<Reader>): Source<B> => ({
  topic: source.topic,
  _A: identity,
  [TypeId]: { ...source[TypeId], ...reader }
})

/**
 * Only the members with these tags. What is left out is acked and counted without being decoded; data without a tag is
 * no member of the union and stays in, to be found undecodable.
 *
 * @category combinators
 * @since 0.1.0
 */
export const only = <A extends { readonly _tag: string }, const T extends A["_tag"]>(
  source: Source<A>,
  ...tags: readonly [T, ...ReadonlyArray<T>]
): Source<Extract<A, { readonly _tag: T }>> => {
  const wanted: ReadonlySet<string> = new Set(tags)
  const accepts = ({ data }: Message<unknown>) =>
    typeof data !== "object" ||
    data === null ||
    !("_tag" in data) ||
    typeof data._tag !== "string" ||
    wanted.has(data._tag)
  return narrow(source, { accepts: [...source[TypeId].accepts, accepts] })
}

/**
 * Only messages whose data satisfies a predicate or refinement. What is left out is acked and counted. A predicate that
 * throws is a failure of the delivery.
 *
 * @category combinators
 * @since 0.1.0
 */
export const filter = <A, B extends A = A>(
  source: Source<A>,
  predicate: ((data: A) => data is B) | ((data: A) => boolean)
): Source<B> => {
  const keeps = (data: unknown) => predicate(data as A) // decoded by this source's own schema
  return narrow(source, { keeps: [...source[TypeId].keeps, keeps] })
}

/**
 * Only messages whose metadata satisfies a predicate. It sees the data as JSON, before it is decoded, so that what it
 * leaves out need not be decodable.
 *
 * @category combinators
 * @since 0.1.0
 */
export const filterMessage = <A>(source: Source<A>, predicate: (message: Message<unknown>) => boolean): Source<A> =>
  narrow(source, { accepts: [...source[TypeId].accepts, predicate] })

// -----------------------------------------------------------------------------
// publishing
// -----------------------------------------------------------------------------

export type { PublishOptions } from "./internal/writer.ts"

/**
 * Publishes one message, and returns it as subscribers will see it. Succeeds once it is stored.
 *
 * Fails with `PublishError`; its reason is `Encode` where the data does not fit the schema or its key is no text,
 * `Unavailable` where the log could not be reached within `timeout` (nothing was stored), `Unknown` where it was sent and
 * no reply came (it may be stored; nothing sends it again), `UnderReplicated` where fewer than `replicas` confirmed it (it
 * is stored), `Refused`, `InvalidName` or `InvalidOption`.
 *
 * @category publishing
 * @since 0.1.0
 */
export const publish = <A>(
  topic: Topic<A>,
  data: NoInfer<A>,
  options?: PublishOptions
): Effect.Effect<Message<A>, PublishError, Transport> =>
  Effect.map(publisher.publish(topic, listOf(data), options), first)

/** Copied and not spelt: the engine allots what literals make among what lives long, once many waited for an answer. */
const listOf = <A>(one: A): NonEmptyReadonlyArray<A> => {
  const list = listOfOne.slice() as [A] // where there is nothing yet
  list[0] = one
  return list
}

const listOfOne: ReadonlyArray<unknown> = Array.of(undefined)

const first = <A>(all: NonEmptyReadonlyArray<A>): A => all[0]

/**
 * Publishes many messages in order, in batches that are each stored wholly or not at all. Where it fails, `stored` of
 * the error counts the messages from the first on that are confirmed.
 *
 * @category publishing
 * @since 0.1.0
 */
export const publishAll = <A>(
  topic: Topic<A>,
  data: Iterable<NoInfer<A>>,
  options?: PublishOptions
): Effect.Effect<ReadonlyArray<Message<A>>, PublishError, Transport> =>
  Effect.suspend((): Effect.Effect<ReadonlyArray<Message<A>>, PublishError, Transport> => {
    const all: Array<A> = [...data]
    return Arr.isReadonlyArrayNonEmpty(all) ? publisher.publish(topic, all, options) : Effect.succeed([])
  })

/**
 * Publishes what a stream brings, chunk by chunk, and counts it.
 *
 * @category publishing
 * @since 0.1.0
 */
export const sink = <A>(topic: Topic<A>): Sink.Sink<number, A, never, PublishError, Transport> =>
  Sink.reduceWhileArrayEffect(
    () => 0,
    () => true,
    (count, chunk) => Effect.map(publishAll(topic, chunk), (messages) => count + messages.length)
  )

// -----------------------------------------------------------------------------
// operating
// -----------------------------------------------------------------------------

/**
 * Changes how many partitions a topic has, to the number of this value. Returns the number before.
 *
 * Stop all publishers and workers of the topic, or let the workers finish and then stop them; call this once; then start
 * everything with the new number. It fails with reason `Refused`, and changes nothing, while a subscription has a worker
 * (one that was killed counts for ten visibility timeouts, and five minutes at least), has not settled everything, retries
 * included, or has dead letters in a partition that would be no more. Publishers cannot be seen: one that still runs goes on
 * with the old number. Nor can a group that was removed, or what is left of it: see to its dead letters before.
 *
 * A subscription that exists gets what is published from now on, on the partitions that are new too, whenever its first
 * worker starts. What is stored stays where it is: a subscription that is created later, and begins at the beginning, reads
 * it, partition by partition, but in partitions that are no more only after they are there again; and what was published
 * before and after the change has no common order by key.
 *
 * @category operating
 * @since 0.1.0
 */
export const repartition = (self: Source<unknown>): Effect.Effect<number, TransportError, Transport> => change(self)

/**
 * A group on a topic: of a subscription, or of another program.
 *
 * @category models
 * @since 0.1.0
 */
export interface GroupStatus extends GroupStanding {
  /** Which of the topic's logs. */
  readonly partition: number
  /** It has not settled all there is, and was silent for longer than the topic's `abandonedAfter` (7 days unless given). */
  readonly abandoned: boolean
}

/**
 * The groups on a topic, by partition and name: who has not settled what, and since when nothing was heard of them. It
 * shows who holds back retention `"acknowledged"`; under any other, silence is known of groups with members alone.
 *
 * @category operating
 * @since 0.1.0
 */
export const groups = (self: Source<unknown>): Effect.Effect<ReadonlyArray<GroupStatus>, TransportError, Transport> =>
  Effect.gen(function* () {
    const transport = yield* Transport
    const after = self[TypeId].acknowledged?.abandonedAfter ?? retention.abandonedAfter
    const found: Array<GroupStatus> = []
    for (const log of yield* address.logs(self, "groups")) {
      for (const group of yield* transport.groups(log)) {
        found.push({ ...group, partition: log.partition, abandoned: retention.isAbandoned(group, after) })
      }
    }
    return found
  })

/**
 * Removes a group by its name, of a subscription that is no longer wanted or of another program, with everything that it
 * has not read or settled, and with its retries. Its dead letters stay: `DeadLetters.discard` them first. Trimming goes on
 * without it. What it drops is logged and returned: its numbers as they were, summed over the partitions; none where there
 * is no such group.
 *
 * Fails with reason `Refused` while the group has a worker that was heard of within ten visibility timeouts, and five
 * minutes at least: stop it first. One that closes is gone at once. A subscription that is started later under this name is a
 * new one.
 *
 * @category operating
 * @since 0.1.0
 */
export const removeGroup = (
  self: Source<unknown>,
  name: string
): Effect.Effect<Option.Option<Inspection>, TransportError, Transport> =>
  Effect.gen(function* () {
    const transport = yield* Transport
    // of another program's group any text is a name
    const reason = typeof name === "string" ? undefined : Names.invalid("subscription", name)
    if (reason !== undefined) return yield* new TransportError({ operation: "removeGroup", reason })
    const removed: Array<Inspection> = []
    for (const log of yield* address.logs(self, "removeGroup")) {
      removed.push(...Option.toArray(yield* transport.removeGroup({ ...log, subscription: name })))
    }
    if (removed.length === 0) return Option.none()
    const total = sumOf(removed)
    const unread = Option.match(total.waiting, {
      onNone: () => "what it had not read",
      onSome: (count) => `${count} unread`
    })
    const retries = `${total.due} retries and ${total.parked} parked behind them`
    yield* Effect.logInfo(`removed a group with ${unread}, ${total.pending} pending, ${retries}`).pipe(
      Effect.annotateLogs({ topic: self.topic, subscription: name })
    )
    return Option.some(total)
  })
