/**
 * A CloudEvents 1.0 event with typed data: what is published, stored and handled.
 *
 * What can be derived is not stored: `id` and `time` come from the entry's own id, `type` from the data's `_tag`, else
 * from the topic's name, `source` from namespace and topic. `Attributes` holds what differs from that. W3C
 * `traceparent` and `tracestate` travel with the message, so that one trace reaches from publish to dead letter.
 *
 * @since 0.1.0
 */
import type * as DateTime from "effect/DateTime"
import * as Schema from "effect/Schema"
import * as stored from "./internal/stored.ts"

/**
 * An event with typed data.
 *
 * @category models
 * @since 0.1.0
 */
export interface Message<out A> {
  /**
   * Unique within `source`. The entry's id in the topic's log, unless the publisher gave one; of a partition above 0,
   * followed by a slash and the partition's number.
   */
  readonly id: string
  /** Where it comes from: a URI reference. `/{namespace}/{topic}` unless the publisher gave one. */
  readonly source: string
  /** The data's `_tag`, else the topic's name. */
  readonly type: string
  /** When it was stored, by the log's clock. */
  readonly time: DateTime.Utc
  /** What was published: decoded by the topic's schema, but plain JSON where `Topic.filterMessage` looks at it. */
  readonly data: A
  /** CloudEvents `subject`: what the event is about, in words of the publisher. `undefined` unless one was given. */
  readonly subject?: string | undefined
  /** Texts of the application's own, beside the data. */
  readonly headers: Readonly<Record<string, string>>
  /** The ordering key, made by the topic's `key`; CloudEvents' partitioning extension. */
  readonly partitionkey?: string | undefined
  /** W3C Trace Context of the publisher; CloudEvents' distributed tracing extension. */
  readonly traceparent?: string | undefined
  /**
   * W3C Trace Context's vendor data, beside `traceparent`. Passed on as it came, also to what the handler publishes.
   */
  readonly tracestate?: string | undefined
}

/**
 * The attributes of a stored message that differ from what is derived.
 *
 * @category models
 * @since 0.1.0
 */
export const Attributes = Schema.Struct({
  id: Schema.optional(Schema.String),
  source: Schema.optional(Schema.String),
  type: Schema.optional(Schema.String),
  time: Schema.optional(Schema.String),
  subject: Schema.optional(Schema.String),
  partitionkey: Schema.optional(Schema.String),
  traceparent: Schema.optional(Schema.String),
  tracestate: Schema.optional(Schema.String),
  headers: Schema.optional(Schema.Record(Schema.String, Schema.String))
})

/**
 * The attributes of a stored message that differ from what is derived: each is absent where nothing differs.
 *
 * @category models
 * @since 0.1.0
 */
export interface Attributes extends Schema.Schema.Type<typeof Attributes> {}

/**
 * The millisecond part of an entry id: when it was stored, by the log's clock.
 *
 * @category getters
 * @since 0.1.0
 */
export const millisOf: (entryId: string) => number = stored.millisOf

/**
 * The type that data speaks for itself: its `_tag`, else the topic's name.
 *
 * @category getters
 * @since 0.1.0
 */
export const typeOf: (topic: string, json: unknown) => string = stored.typeOf

/**
 * The message of a stored entry: what is derived, overlaid with its attributes. `json` is its data as JSON, not decoded.
 *
 * @category constructors
 * @since 0.1.0
 */
export const fromEntry = <A>(entry: {
  readonly namespace: string
  readonly topic: string
  readonly partition?: number | undefined
  readonly originalId: string
  readonly json: A
  readonly attributes: Attributes | undefined
}): Message<A> => stored.message({ ...entry, data: entry.json })
