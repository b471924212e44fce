/**
 * The scripts that drop what every group has settled, and that remove a group.
 *
 * @since 0.1.0
 */
import { lua } from "../internal/lua.ts"
import type { GroupKeys, LogKeys } from "../RedisKeys.ts"
import * as Script from "../Script.ts"
import { maxIds } from "./shared.ts"

/**
 * Which log to trim, and what is known of groups that have disappeared from it.
 *
 * @category retention
 * @since 0.1.0
 */
export interface Trim {
  /** The keys of the log. */
  readonly keys: LogKeys
  /** Groups that have disappeared, as `Trimming.unnamed` told them: name and state key. */
  readonly missing: ReadonlyArray<{ readonly name: string; readonly state: string }>
}

/**
 * What was dropped.
 *
 * @category retention
 * @since 0.1.0
 */
export interface Trimming {
  /** Entries that every group had settled, and are gone. */
  readonly trimmed: number
  /** More can be dropped at once: call again. */
  readonly more: boolean
  /** Groups that have disappeared and were not named: nothing was dropped, call again with them. */
  readonly unnamed: ReadonlyArray<string>
}

/**
 * Drops entries from the head of a log, up to what every group on it has settled.
 *
 * @category retention
 * @since 0.1.0
 */
export const trim: Script.Script<Trim, Trimming> = Script.make({
  name: "trim",
  lua: lua.trim,
  keyNames: ["main", "groups", "state"],
  argNames: ["name"],
  keys: ({ keys, missing }) => [keys.main, keys.groups, ...missing.map(({ state }) => state)],
  args: ({ missing }) => missing.map(({ name }) => name),
  decode: (reply) => {
    const [trimmed, more, ...unnamed] = Script.list(reply)
    return { trimmed: Script.number(trimmed), more: Script.bool(more), unnamed: unnamed.map(Script.text) }
  }
})

/**
 * Which group to remove.
 *
 * @category retention
 * @since 0.1.0
 */
export interface Remove {
  /** The keys of the subscription. */
  readonly keys: GroupKeys
}

/**
 * What was removed.
 *
 * @category retention
 * @since 0.1.0
 */
export interface Removed {
  /** Members that live: where there are any, nothing was done. */
  readonly living: number
  /** More is pending than one call settles: call again. */
  readonly more: boolean
  /** There was something, and it is gone. */
  readonly removed: boolean
}

/**
 * Removes a group with all that it has not settled, and its retries; not its dead letters.
 *
 * @category retention
 * @since 0.1.0
 */
export const remove: Script.Script<Remove, Removed> = Script.make({
  name: "remove",
  lua: lua.remove,
  keyNames: ["main", "retry", "due", "state", "groups", "bell", "blocked", "parked", "owners"],
  argNames: ["mainGroup", "retryGroup", "limit"],
  keys: ({ keys }) => [
    keys.main,
    keys.retry,
    keys.due,
    keys.state,
    keys.groups,
    keys.bell,
    keys.blocked,
    keys.parked,
    keys.owners
  ],
  args: ({ keys }) => [keys.mainGroup, keys.retryGroup, `${maxIds}`],
  decode: (reply) => {
    const [living, more, removed] = Script.list(reply)
    return { living: Script.number(living), more: Script.bool(more), removed: Script.bool(removed) }
  }
})
