/**
 * What can be read: a topic, or one narrowed by `Topic.only`, `Topic.filter` or `Topic.filterMessage`.
 *
 * @since 0.1.0
 */
import type * as Duration from "effect/Duration"
import type * as Exit from "effect/Exit"
import type * as Schema from "effect/Schema"
import type { InvalidOption } from "./Errors.ts"
import type { Message } from "./Message.ts"

/**
 * The key of what a source knows beyond its public shape.
 *
 * @category type ids
 * @since 0.1.0
 */
export const TypeId: unique symbol = Symbol.for("~@clutch/core/Source")

/**
 * How entries of a topic become messages. Reading goes in this order: JSON, `accepts`, `decode`, `keeps`; so that what a
 * source does not want need not be decodable for it.
 *
 * @category models
 * @since 0.1.0
 */
export interface Reader {
  /** How many logs the topic has. */
  readonly partitions: number
  /** Whether the topic has a key, so that its messages are started in the order of their keys. */
  readonly ordered: boolean
  /** What is off with the topic's options; told where the topic is used, as making one touches nothing. */
  readonly problem: InvalidOption | undefined
  /** Whether the topic drops what every group has settled, and when a group counts as abandoned. */
  readonly acknowledged: Acknowledged | undefined
  /** Asked of the message as JSON, before it is decoded; all must agree. */
  readonly accepts: ReadonlyArray<(message: Message<unknown>) => boolean>
  /** From JSON to data, by the topic's schema. */
  readonly decode: (json: unknown) => Exit.Exit<unknown, Schema.SchemaError>
  /** Asked of the decoded data; all must agree. */
  readonly keeps: ReadonlyArray<(data: unknown) => boolean>
}

/**
 * Retention `"acknowledged"`: what every group on the topic has settled is dropped.
 *
 * @category models
 * @since 0.1.0
 */
export interface Acknowledged {
  /** A group that holds something back, and of which nothing was heard for so long, is reported. */
  readonly abandonedAfter: Duration.Duration
}

/**
 * What can be read. Covariant, so that a helper over a union takes a narrower source.
 *
 * @category models
 * @since 0.1.0
 */
export interface Source<out A> {
  /** The topic's name. */
  readonly topic: string
  /** Carries the type; never called. */
  readonly _A: (_: never) => A
  readonly [TypeId]: Reader
}

/**
 * A schema that a topic's data may have: of any type, and without services, since decoding is the hot path.
 *
 * @category models
 * @since 0.1.0
 */
// oxlint-disable-next-line typescript/no-explicit-any -- variance: no other type stands for every Type and Encoded
export type DataCodec = Schema.Codec<any, any, never, never>
