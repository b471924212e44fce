/**
 * The script that does what nobody else does in time: due retries and dead consumers.
 *
 * @since 0.1.0
 */
import { lua } from "../internal/lua.ts"
import type { GroupKeys } from "../RedisKeys.ts"
import * as Script from "../Script.ts"

/**
 * One round of tending.
 *
 * @category tending
 * @since 0.1.0
 */
export interface Tend {
  /** The keys of the subscription. */
  readonly keys: GroupKeys
  /**
   * Whether to look at the consumers as well, which costs about 1 µs for each pending entry. Without it only due retries are
   * moved, and `next` tells nothing of leases.
   */
  readonly scan: boolean
  /** `cursor` of the round before; `undefined` begins a new scan. */
  readonly cursor: string | undefined
}

/**
 * What a round did, and when the next is due.
 *
 * @category tending
 * @since 0.1.0
 */
export interface Tending {
  /** Retries that were due and are now on the retry stream. */
  readonly moved: number
  /** Deliveries taken from dead consumers, and waiting for anybody. */
  readonly reclaimed: number
  /** Pending entries of dead consumers whose content was trimmed: settled, as nothing of them is left. */
  readonly trimmed: number
  /** Members of the due set that were none: now poison dead letters. */
  readonly poison: number
  /** Dead consumers with nothing pending, removed. */
  readonly removed: number
  /** Milliseconds until a retry is due or a lease may end; `undefined` if nothing is foreseen. */
  readonly next: number | undefined
  /** More can be done at once: call again. */
  readonly more: boolean
  /** Where the scan of the next round goes on; `undefined` if this one came to its end. */
  readonly cursor: string | undefined
  /** Keys of an ordered group that nothing would have freed, or that waited though nothing held them back. */
  readonly mended: number
  /** An error of the server that stopped the moving of due retries; the rest was done. */
  readonly problem: string | undefined
}

/**
 * Moves due retries, takes deliveries from dead consumers, removes dead consumers.
 *
 * @category tending
 * @since 0.1.0
 */
export const tend: Script.Script<Tend, Tending> = Script.make({
  name: "tend",
  lua: lua.tend,
  keyNames: ["main", "retry", "due", "deadLetters", "state", "bell", "blocked", "parked"],
  argNames: ["mainGroup", "retryGroup", "scan", "cursor"],
  keys: ({ keys }) => [
    keys.main,
    keys.retry,
    keys.due,
    keys.deadLetters,
    keys.state,
    keys.bell,
    keys.blocked,
    keys.parked
  ],
  args: ({ cursor, keys, scan }) => [keys.mainGroup, keys.retryGroup, scan ? "1" : "0", cursor ?? ""],
  decode: (reply) => {
    const [moved, reclaimed, trimmed, poison, removed, next, more, cursor, problem, mended] = Script.list(reply)
    const wait = Script.number(next)
    return {
      moved: Script.number(moved),
      reclaimed: Script.number(reclaimed),
      trimmed: Script.number(trimmed),
      poison: Script.number(poison),
      removed: Script.number(removed),
      next: wait < 0 ? undefined : wait,
      more: Script.bool(more),
      cursor: Script.text(cursor) || undefined,
      problem: Script.text(problem) || undefined,
      mended: Script.number(mended)
    }
  }
})
