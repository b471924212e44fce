/**
 * A topic: a name, the schema of its data, and how to publish to it and narrow what is read from it.
 *
 * A topic is a pure value: making one touches nothing. Names and numbers are checked where the topic is used, by
 * `publish` and by subscribing, with an error that names the option.
 *
 * @since 0.1.0
 */
import type { NonEmptyReadonlyArray } from "effect/Array"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { identity } from "effect/Function"
import * as Schema from "effect/Schema"
import * as Sink from "effect/Sink"
import type { PublishError } from "./Errors.ts"
import * as publisher from "./internal/publisher.ts"
import { spelling } from "./internal/spelling.ts"
import { type PublishOptions, type Writer, WriterId } from "./internal/writer.ts"
import type { Message } from "./Message.ts"
import { type DataCodec, type Reader, type Source, TypeId } from "./Source.ts"
import type { Transport } from "./Transport.ts"

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
    /** Carried as CloudEvents' `partitionkey`. It promises no order yet. */
    readonly key?: ((data: S["Type"]) => string) | undefined
    /** How many logs the topic has. Only 1, the default, is accepted in this version; more is refused by publish and subscribe. */
    readonly partitions?: number | undefined
    /**
     * Keep at most so many messages, checked at each publish. Default: all are kept. What is dropped is lost to every
     * subscription that has not read it yet, and it is counted; a message in flight is still settled.
     */
    readonly maxLength?: number | undefined
    /** Keep messages at most so long, by the log's clock, checked at each publish. What is dropped is lost as under `maxLength`. */
    readonly maxAge?: Duration.Input | undefined
  }
): Topic<S["Type"]> => {
  const codec = lazily(() => Schema.toCodecJson(options.schema))
  const decode = lazily(() => Schema.decodeUnknownExit(codec()))
  const encode = lazily(() => Schema.encodeUnknownExit(codec()))
  return {
    topic: name,
    _A: identity,
    _in: () => {},
    [TypeId]: {
      partitions: options.partitions ?? 1,
      problem: spelling(topicOptions, options),
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

const topicOptions: ReadonlySet<string> = new Set(["schema", "key", "partitions", "maxLength", "maxAge"])

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
 * Fails with `PublishError`; its reason is `Encode` where the data does not fit the schema, `Unavailable` where the log
 * could not be reached within `timeout` (nothing was stored), `Unknown` where it was sent and no reply came (it may be
 * stored; nothing sends it again), `Refused`, `InvalidName` or `InvalidOption`.
 *
 * @category publishing
 * @since 0.1.0
 */
export const publish = <A>(
  topic: Topic<A>,
  data: NoInfer<A>,
  options?: PublishOptions
): Effect.Effect<Message<A>, PublishError, Transport> =>
  Effect.map(publisher.publish(topic, [data], options), ([message]) => message)

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
    const all = Array.from<A>(data)
    return isNonEmpty(all) ? publisher.publish(topic, all, options) : Effect.succeed([])
  })

const isNonEmpty = <A>(all: ReadonlyArray<A>): all is NonEmptyReadonlyArray<A> => all.length > 0

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
