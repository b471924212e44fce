/**
 * The script that knows how many partitions a topic has.
 *
 * @since 0.1.0
 */
import { lua } from "../internal/lua.ts"
import type { TopicKeys } from "../RedisKeys.ts"
import * as Script from "../Script.ts"

/**
 * What is asked for, or changed.
 *
 * @category partitions
 * @since 0.1.0
 */
export interface Partitions {
  /** The keys of the topic. */
  readonly keys: TopicKeys
  /** Recorded where nothing is known; or the number that there are to be. */
  readonly count: number
  /** How many there are now, for the number to be changed; `undefined` to ask. */
  readonly from: number | undefined
}

/**
 * How many partitions a topic has.
 *
 * @category partitions
 * @since 0.1.0
 */
export interface Counted {
  readonly count: number
  /** Whether somebody has said so; else only a log tells that the topic is used. */
  readonly recorded: boolean
}

/**
 * Says how many partitions a topic has, recording the number where nothing is known; or changes it, if it is `from`.
 *
 * @category partitions
 * @since 0.1.0
 */
export const partitions: Script.Script<Partitions, Counted> = Script.make({
  name: "partitions",
  lua: lua.partitions,
  keyNames: ["main", "meta"],
  argNames: ["count", "from"],
  keys: ({ keys }) => [keys.main, keys.meta],
  args: ({ count, from }) => [`${count}`, from === undefined ? "" : `${from}`],
  decode: (reply) => {
    const [count, recorded] = Script.list(reply)
    return { count: Script.number(count), recorded: Script.bool(recorded) }
  }
})
