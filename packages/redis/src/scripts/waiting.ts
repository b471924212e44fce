/**
 * The script that takes what waits for anybody: released by the living, reclaimed from the dead.
 *
 * @since 0.1.0
 */
import type { Entry } from "@clutch/core/Transport"
import type { Fields } from "../Codec.ts"
import { lua } from "../internal/lua.ts"
import * as Script from "../Script.ts"
import { type Member, millis } from "./shared.ts"

/**
 * How much to take, and for whom.
 *
 * @category waiting
 * @since 0.1.0
 */
export interface Take extends Omit<Member, "nonce"> {
  /** From 1 to `maxIds`. */
  readonly count: number
  /** Roughly: the first is taken whatever its size. */
  readonly bytes: number
  /** One suspect and nothing else. */
  readonly alone: boolean
  /** `Infinity` where retries are unlimited. */
  readonly maxAttempts: number
}

/**
 * One delivery that was taken.
 *
 * @category waiting
 * @since 0.1.0
 */
export interface TakenEntry {
  /** Which of the two streams. */
  readonly origin: Entry["origin"]
  /** Entry id. */
  readonly id: string
  /** Its delivery count now: what `Held` wants. `reclaims` is one less. */
  readonly count: number
  /** As stored. */
  readonly fields: Fields
}

/**
 * What was taken, and what goes on waiting.
 *
 * @category waiting
 * @since 0.1.0
 */
export interface Taken {
  /** Those of the main stream, then those of the retry stream. */
  readonly entries: ReadonlyArray<TakenEntry>
  /** Suspects wait that were not taken. */
  readonly suspects: boolean
  /** More than suspects waits. */
  readonly more: boolean
  /** Entries whose content was trimmed while they waited: settled, as nothing of them is left. */
  readonly trimmed: number
}

/**
 * Takes deliveries that were released or reclaimed.
 *
 * @category waiting
 * @since 0.1.0
 */
export const take: Script.Script<Take, Taken> = Script.make({
  name: "take",
  lua: lua.take,
  keyNames: ["main", "retry", "state"],
  argNames: ["mainGroup", "retryGroup", "consumer", "limit", "bytes", "alone", "maxAttempts"],
  keys: ({ keys }) => [keys.main, keys.retry, keys.state],
  args: ({ alone, bytes, consumer, count, keys, maxAttempts }) => [
    keys.mainGroup,
    keys.retryGroup,
    consumer,
    `${count}`,
    millis(bytes),
    alone ? "1" : "0",
    Number.isFinite(maxAttempts) ? `${maxAttempts}` : ""
  ],
  decode: (reply) => {
    const [suspects, more, trimmed, main, retry] = Script.list(reply)
    const entries: Array<TakenEntry> = []
    for (const origin of ["main", "retry"] as const) {
      for (const row of Script.list(origin === "main" ? main : retry)) {
        const [id, count, fields] = Script.list(row)
        entries.push({
          origin,
          id: Script.text(id),
          count: Script.number(count),
          fields: Script.list(fields).map(Script.bytes)
        })
      }
    }
    return { entries, suspects: Script.bool(suspects), more: Script.bool(more), trimmed: Script.number(trimmed) }
  }
})
