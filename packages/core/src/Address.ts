/**
 * Where a subscription is: enough to find its streams, for operators' tools, which need no handler.
 *
 * @since 0.1.0
 */
import type { Source } from "./Source.ts"

/**
 * A subscription's name and what it reads. Every subscription is one; `Subscription.address` makes one from its parts.
 *
 * @category models
 * @since 0.1.0
 */
export interface Address<out A = unknown> {
  /** The subscription's name. */
  readonly name: string
  /** The topic it reads, or one narrowed from it. */
  readonly source: Source<A>
}
