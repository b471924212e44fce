/**
 * The scripts by which a consumer keeps what it holds, and tells what it has not started.
 *
 * @since 0.1.0
 */
import type { Entry } from "@clutch/core/Transport"
import { lua } from "../internal/lua.ts"
import type { GroupKeys } from "../RedisKeys.ts"
import * as Script from "../Script.ts"
import { counts, type Held, ids, type Member } from "./shared.ts"

/**
 * What a living consumer holds.
 *
 * @category leases
 * @since 0.1.0
 */
export interface Extend extends Member {
  /** At most `maxIds` together. Both may be empty: then it is only a sign of life. */
  readonly main: ReadonlyArray<Held>
  /** The same of the retry stream. */
  readonly retry: ReadonlyArray<Held>
}

/**
 * What is not held any more.
 *
 * @category leases
 * @since 0.1.0
 */
export interface Extended {
  /** Ids that are not this consumer's, or were delivered again since. Trimmed entries that it holds are not among them. */
  readonly lost: { readonly main: ReadonlyArray<string>; readonly retry: ReadonlyArray<string> }
  /** Whether the given nonce stands; if not, join `again`. */
  readonly fenced: boolean
}

/**
 * Extends leases, shows that the consumer lives, and records the group's position. A consumer that shows no sign of life for
 * ten visibility timeouts, and five minutes at least, and holds nothing, is removed by `tend`.
 *
 * @category leases
 * @since 0.1.0
 */
export const extend: Script.Script<Extend, Extended> = Script.make({
  name: "extend",
  lua: lua.extend,
  keyNames: ["main", "retry", "state"],
  argNames: ["mainGroup", "retryGroup", "consumer", "nonce", "mains", "id", "count"],
  keys: ({ keys }) => [keys.main, keys.retry, keys.state],
  args: ({ consumer, keys, main, nonce, retry }) => [
    keys.mainGroup,
    keys.retryGroup,
    consumer,
    nonce,
    `${main.length}`,
    ...ids(main),
    ...ids(retry),
    ...counts(main),
    ...counts(retry)
  ],
  decode: (reply) => {
    const [fenced, main, retry] = Script.list(reply)
    return {
      fenced: Script.bool(fenced),
      lost: { main: Script.list(main).map(Script.text), retry: Script.list(retry).map(Script.text) }
    }
  }
})

/**
 * What a consumer has not started.
 *
 * @category leases
 * @since 0.1.0
 */
export interface Mark {
  /** The keys of the subscription. */
  readonly keys: GroupKeys
  /** Whose mark it is. */
  readonly consumer: string
  /** Of which of the two streams. */
  readonly origin: Entry["origin"]
  /** Nothing with a greater id was started; of an owner, nothing but these; `undefined`: anything may have been. */
  readonly started: string | ReadonlyArray<string> | undefined
  /** Of an owner's claim: nothing is marked where that does not stand. Default: no owner. */
  readonly nonce?: string | undefined
}

/**
 * Sets or clears a mark. Answers whether it did.
 *
 * @category leases
 * @since 0.1.0
 */
export const mark: Script.Script<Mark, boolean> = Script.make({
  name: "mark",
  lua: lua.mark,
  keyNames: ["state"],
  argNames: ["consumer", "origin", "mark", "nonce"],
  keys: ({ keys }) => [keys.state],
  args: ({ consumer, nonce, origin, started = "" }) => [
    consumer,
    origin,
    typeof started === "string" ? started : ["=", ...started].join(" "),
    nonce ?? ""
  ],
  decode: (reply) => reply === 1
})
