/** What publishing needs: what a topic knows of it, and what a publisher may say. */
import type * as Duration from "effect/Duration"
import type * as Exit from "effect/Exit"
import type * as Schema from "effect/Schema"

/** The key of what a topic knows for publishing. */
export const WriterId: unique symbol = Symbol.for("~@clutch/core/Topic")

/**
 * What a topic knows for publishing.
 *
 * @category models
 * @since 0.1.0
 */
export interface Writer {
  readonly encode: (data: unknown) => Exit.Exit<unknown, Schema.SchemaError>
  readonly key: ((data: unknown) => string) | undefined
  readonly maxLength: number | undefined
  readonly maxAge: Duration.Input | undefined
}

/**
 * What a publisher may say beside the data.
 *
 * @category models
 * @since 0.1.0
 */
export interface PublishOptions {
  /** CloudEvents `id`. Default: the entry's id in the log. Refused for more than one message at once. */
  readonly id?: string | undefined
  /** CloudEvents `source`. Default: `/{namespace}/{topic}`. */
  readonly source?: string | undefined
  /** CloudEvents `subject`. Default: none. */
  readonly subject?: string | undefined
  /** Texts of the application's own. Default: none. */
  readonly headers?: Readonly<Record<string, string>> | undefined
  /**
   * How long to wait in an outage before failing with reason `Unavailable`. Default 10 seconds; 0 fails at once. As long,
   * and at least a second, the log's answer is awaited; then the reason is `Unknown`.
   */
  readonly timeout?: Duration.Input | undefined
  /**
   * How many replicas must have it before publishing succeeds; a whole number from 1. Default: none is waited for. Where
   * fewer confirm within `within`, it fails with reason `UnderReplicated`, and is stored all the same. It makes a loss by
   * a failover less likely, and does not rule it out. The in-memory log has no replicas, and takes them for granted.
   */
  readonly replicas?: number | undefined
  /** How long `replicas` are waited for, once a batch of 256 messages. Default 1 second. */
  readonly within?: Duration.Input | undefined
}
