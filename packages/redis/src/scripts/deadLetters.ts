/**
 * The script that gives dead letters another chance.
 *
 * @since 0.1.0
 */
import type { NonEmptyReadonlyArray } from "effect/Array"
import { lua } from "../internal/lua.ts"
import type { GroupKeys } from "../RedisKeys.ts"
import * as Script from "../Script.ts"
import { millis } from "./shared.ts"

/**
 * Which dead letters are redriven, and when they are due.
 *
 * @category dead letters
 * @since 0.1.0
 */
export interface Redrive {
  /** The keys of the subscription. */
  readonly keys: GroupKeys
  /** At most `maxIds`. */
  readonly ids: NonEmptyReadonlyArray<string>
  /** Milliseconds; 0 goes to the retry stream at once. */
  readonly delay: number
}

/**
 * How redriving went.
 *
 * @category dead letters
 * @since 0.1.0
 */
export interface Redriven {
  /** How many were dead letters, and are retries now. */
  readonly redriven: number
  /** How many ids of the list were looked at, from its first: go on behind them. At least one. */
  readonly processed: number
}

/**
 * Schedules dead letters as retries with no attempts made, and removes them.
 *
 * @category dead letters
 * @since 0.1.0
 */
export const redrive: Script.Script<Redrive, Redriven> = Script.make({
  name: "redrive",
  lua: lua.redrive,
  keyNames: ["deadLetters", "due", "retry", "bell"],
  argNames: ["delay", "id"],
  keys: ({ keys }) => [keys.deadLetters, keys.due, keys.retry, keys.bell],
  args: ({ delay, ids }) => [millis(delay), ...ids],
  decode: (reply) => {
    const [redriven, processed] = Script.list(reply)
    return { redriven: Script.number(redriven), processed: Script.number(processed) }
  }
})
