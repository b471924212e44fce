/**
 * The script that stores what is published.
 *
 * @since 0.1.0
 */
import type { Retention } from "@clutch/core/Transport"
import type { NonEmptyReadonlyArray } from "effect/Array"
import * as Duration from "effect/Duration"
import { lua } from "../internal/lua.ts"
import type { LogKeys } from "../RedisKeys.ts"
import * as Script from "../Script.ts"
import { millis } from "./shared.ts"

/**
 * What is stored, and what the topic keeps.
 *
 * @category publish
 * @since 0.1.0
 */
export interface Publish {
  /** The keys of the log. */
  readonly keys: LogKeys
  /** Fields of each entry as the codec made them: name, value, …; a field whose value is empty is left out. */
  readonly entries: NonEmptyReadonlyArray<ReadonlyArray<string | Buffer>>
  /** What the topic keeps. */
  readonly retention: Retention
}

/**
 * What was stored.
 *
 * @category publish
 * @since 0.1.0
 */
export interface Published {
  /** In the order of `entries`. */
  readonly ids: ReadonlyArray<string>
  /** How many entries the retention dropped. */
  readonly trimmed: number
}

/**
 * The names once, then a value for each name and entry. An argument each, since the server reads every byte of an argument
 * to make a Lua string of it: of values that are cut out of a longer one, it reads every byte twice.
 */
const table = (entries: Publish["entries"]): ReadonlyArray<Script.Arg> => {
  const names = namesOf(entries)
  const args: Array<Script.Arg> = [`${names.length}`, ...names]
  for (const entry of entries) {
    for (let i = 0; i < names.length; i++) {
      const name = names[i]
      // a codec writes its fields in one order, so the first guess is nearly always right
      const at =
        String(entry[2 * i]) === name ? 2 * i : entry.findIndex((part, j) => j % 2 === 0 && String(part) === name)
      args.push(at < 0 ? "" : (entry[at + 1] ?? ""))
    }
  }
  return args
}

const namesOf = (entries: Publish["entries"]): ReadonlyArray<string> => {
  const names: Array<string> = []
  for (const entry of entries) {
    for (let i = 0; i < entry.length; i += 2) {
      const name = String(entry[i])
      if (!names.includes(name)) names.push(name)
    }
  }
  return names
}

/**
 * Stores a batch of entries, trims, and rings. All or nothing.
 *
 * @category publish
 * @since 0.1.0
 */
export const publish: Script.Script<Publish, Published> = Script.make({
  name: "publish",
  lua: lua.publish,
  keyNames: ["main", "bell"],
  argNames: ["maxLength", "maxAge", "names", "name", "value"],
  keys: ({ keys }) => [keys.main, keys.bell],
  args: ({ entries, retention }) => [
    retention.maxLength === undefined ? "" : `${retention.maxLength}`,
    retention.maxAge === undefined ? "" : millis(Duration.toMillis(retention.maxAge)),
    ...table(entries)
  ],
  decode: (reply) => {
    const [trimmed, ids] = Script.list(reply)
    return { trimmed: Script.number(trimmed), ids: Script.text(ids).split(" ") }
  }
})
