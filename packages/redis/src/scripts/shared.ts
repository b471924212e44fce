/**
 * What the scripts share: who calls, what is held, and how arguments are written.
 *
 * @since 0.1.0
 */
import type { Entry } from "@clutch/core/Transport"
import type { GroupKeys } from "../RedisKeys.ts"

/**
 * How many ids one call of a script may name: Lua's `unpack` ends at 7,990 values.
 *
 * @category constants
 * @since 0.1.0
 */
export const maxIds = 1000

/**
 * One incarnation of a consumer. The nonce is unique to it, such as a random UUID.
 *
 * @category models
 * @since 0.1.0
 */
export interface Member {
  /** The keys of the subscription. */
  readonly keys: GroupKeys
  /** Its name in both groups. */
  readonly consumer: string
  /** Unique to this incarnation. */
  readonly nonce: string
}

/**
 * An incarnation that may be a worker of an ordered group.
 *
 * @category models
 * @since 0.1.0
 */
export interface Place extends Member {
  /** Whether it is: then the other workers are told of it. */
  readonly ordered?: boolean | undefined
}

/**
 * An incarnation of a worker of an ordered group, which has its name to itself while it lives.
 *
 * @category models
 * @since 0.1.0
 */
export interface Named extends Member {
  /** The nonce of its `first` join, whatever its incarnation now. Default: nothing is asked of the name. */
  readonly holder?: string | undefined
}

/**
 * Of a flag, as the scripts read it.
 *
 * @category arguments
 * @since 0.1.0
 */
export const flag = (value: boolean | undefined): string => (value === true ? "1" : "0")

/**
 * A delivery as the pending list knows it: entry id, and the delivery count it had when it was read (1 after XREADGROUP,
 * `taken.count` after `take`).
 *
 * @category models
 * @since 0.1.0
 */
export interface Held {
  /** Entry id. */
  readonly id: string
  /** Delivery count. */
  readonly count: number
}

/**
 * The stream of an origin.
 *
 * @category arguments
 * @since 0.1.0
 */
export const streamOf = (keys: GroupKeys, origin: Entry["origin"]): string => keys[origin]

/**
 * The consumer group of an origin.
 *
 * @category arguments
 * @since 0.1.0
 */
export const groupOf = (keys: GroupKeys, origin: Entry["origin"]): string =>
  origin === "main" ? keys.mainGroup : keys.retryGroup

/**
 * Milliseconds as text: whole, not negative, and no more than Lua prints without an exponent (beyond the year 5000 it
 * makes no difference).
 *
 * @category arguments
 * @since 0.1.0
 */
export const millis = (value: number): string => `${Math.min(Math.max(Math.ceil(value), 0), 1e14)}`

/**
 * The ids alone, in order.
 *
 * @category arguments
 * @since 0.1.0
 */
export const ids = (held: ReadonlyArray<Held>): ReadonlyArray<string> => held.map((_) => _.id)

/**
 * The delivery counts alone, in the same order.
 *
 * @category arguments
 * @since 0.1.0
 */
export const counts = (held: ReadonlyArray<Held>): ReadonlyArray<string> => held.map((_) => `${_.count}`)
