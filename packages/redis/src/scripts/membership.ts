/**
 * The scripts by which a consumer joins its group, undoes that, and leaves.
 *
 * @since 0.1.0
 */
import type { StartPosition } from "@clutch/core/Transport"
import * as DateTime from "effect/DateTime"
import { lua } from "../internal/lua.ts"
import * as Script from "../Script.ts"
import { flag, maxIds, millis, type Named, type Place } from "./shared.ts"

/**
 * How a consumer joins.
 *
 * @category membership
 * @since 0.1.0
 */
export interface Join extends Place, Named {
  /** Milliseconds. */
  readonly visibilityTimeout: number
  /** Where the main group begins, if it is created and no position is remembered. */
  readonly from: StartPosition
  /**
   * `first`: a new consumer. `again`: this consumer was in the group before (a reconnect, a lost nonce, NOGROUP): its marks
   * stand as long as its groups do, and a group created without a remembered position begins at the beginning.
   */
  readonly mode: "first" | "again"
}

/**
 * What joining found and made.
 *
 * @category membership
 * @since 0.1.0
 */
export interface Joined {
  /** Which groups were created. */
  readonly created: { readonly main: boolean; readonly retry: boolean }
  /** Where the main group begins (exclusive); `undefined` if it was there. */
  readonly start: string | undefined
  /**
   * Mode `again` and the main group created: how many entries lie behind its start, so may repeat. A lower bound where
   * `more` is true.
   */
  readonly repeats: { readonly count: number; readonly more: boolean }
  /** Nothing was done: a worker of an ordered group that lives has the name. */
  readonly taken: boolean
}

const start = (from: StartPosition): string => {
  if (from === "new") return "$"
  if (from === "beginning") return "0-0"
  if ("id" in from) return from.id
  const time = DateTime.toEpochMillis(from.time)
  // a group's position is exclusive, and a start time is not: the last id possible before it
  return time <= 0 ? "0-0" : `${time - 1}-18446744073709551615`
}

/**
 * Joins a group, creating what is absent.
 *
 * @category membership
 * @since 0.1.0
 */
export const join: Script.Script<Join, Joined> = Script.make({
  name: "join",
  lua: lua.join,
  keyNames: ["main", "retry", "state", "owners"],
  argNames: ["mainGroup", "retryGroup", "consumer", "nonce", "visibilityTimeout", "start", "mode", "ordered", "holder"],
  keys: ({ keys }) => [keys.main, keys.retry, keys.state, keys.owners],
  args: ({ consumer, from, holder, keys, mode, nonce, ordered, visibilityTimeout }) => [
    keys.mainGroup,
    keys.retryGroup,
    consumer,
    nonce,
    millis(visibilityTimeout),
    start(from),
    mode,
    flag(ordered),
    holder ?? ""
  ],
  decode: (reply) => {
    const [main, retry, begin, count, more, taken] = Script.list(reply)
    return {
      created: { main: Script.bool(main), retry: Script.bool(retry) },
      start: begin === null ? undefined : Script.text(begin),
      repeats: { count: Script.number(count), more: Script.bool(more) },
      taken: Script.bool(taken)
    }
  }
})

/**
 * What was undone.
 *
 * @category membership
 * @since 0.1.0
 */
export interface RolledBack {
  /** Whether the join of this nonce was found. */
  readonly found: boolean
  /** How many consumers were removed: one in each of the two groups at most. */
  readonly consumers: number
  /** How many groups were removed. */
  readonly groups: number
  /** How many keys were removed. */
  readonly keys: number
}

/**
 * Undoes what the `join` of this nonce created, as far as nobody else has begun to use it. Safe to repeat, and after a
 * `join` whose reply was lost. Only for the nonce of a `first` join.
 *
 * @category membership
 * @since 0.1.0
 */
export const rollback: Script.Script<Place, RolledBack> = Script.make({
  name: "rollback",
  lua: lua.rollback,
  keyNames: ["main", "retry", "state", "owners"],
  argNames: ["mainGroup", "retryGroup", "consumer", "nonce", "ordered"],
  keys: ({ keys }) => [keys.main, keys.retry, keys.state, keys.owners],
  args: ({ consumer, keys, nonce, ordered }) => [keys.mainGroup, keys.retryGroup, consumer, nonce, flag(ordered)],
  decode: (reply) => {
    const [found, consumers, groups, keys] = Script.list(reply)
    return {
      found: Script.bool(found),
      consumers: Script.number(consumers),
      groups: Script.number(groups),
      keys: Script.number(keys)
    }
  }
})

/**
 * What leaving did.
 *
 * @category membership
 * @since 0.1.0
 */
export interface Left {
  /** How many deliveries were given back. */
  readonly released: number
  /** Pending entries whose content was trimmed: settled, as nothing of them is left. */
  readonly trimmed: number
  /** More is pending than one call releases: call again. */
  readonly more: boolean
  /** The consumer is no longer in the group, or its name belongs to another incarnation by now. */
  readonly removed: boolean
}

/**
 * Releases what the consumer holds, and removes it.
 *
 * @category membership
 * @since 0.1.0
 */
export const leave: Script.Script<Place & Named, Left> = Script.make({
  name: "leave",
  lua: lua.leave,
  keyNames: ["main", "retry", "state", "bell", "owners"],
  argNames: ["mainGroup", "retryGroup", "consumer", "nonce", "limit", "ordered", "holder"],
  keys: ({ keys }) => [keys.main, keys.retry, keys.state, keys.bell, keys.owners],
  args: ({ consumer, holder, keys, nonce, ordered }) => [
    keys.mainGroup,
    keys.retryGroup,
    consumer,
    nonce,
    `${maxIds}`,
    flag(ordered),
    holder ?? ""
  ],
  decode: (reply) => {
    const [released, trimmed, more, removed] = Script.list(reply)
    return {
      released: Script.number(released),
      trimmed: Script.number(trimmed),
      more: Script.bool(more),
      removed: Script.bool(removed)
    }
  }
})
