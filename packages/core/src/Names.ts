/**
 * What may be a name. Names become parts of keys, so a name that could make another's key is refused.
 *
 * @since 0.1.0
 */
import * as Inspectable from "effect/Inspectable"
import { InvalidName } from "./Errors.ts"

/** The last parts of the keys that are derived from a name; a name that ends in one would chain. */
const reserved: ReadonlySet<string> = new Set(["retry", "dlq", "due", "state", "bell"])

// oxlint-disable-next-line no-control-regex -- control characters are what it looks for
const forbidden = /[{}/\\\s\u0000-\u001f\u007f]/

const maxLength = 200

const broken = (name: unknown): string | undefined => {
  if (typeof name !== "string") return "it is no text: give one"
  if (name.length === 0) return "it is empty: give it at least one character"
  if (name.length > maxLength) return `it is longer than ${maxLength} characters`
  if (!name.isWellFormed()) return "it holds half of a character: different names would be one key"
  if (forbidden.test(name)) return "braces, slashes, white space and control characters are not allowed in names"
  const parts = name.split(".")
  if (parts.some((part) => part.length === 0)) return "a dot separates two parts that are not empty"
  const last = parts.at(-1) ?? ""
  if (reserved.has(last)) {
    return `it ends in "${last}", which ends the keys that are derived from a name: choose another ending`
  }
  if (name.startsWith("-")) return "a leading dash marks consumers of the runtime's own"
  return undefined
}

/**
 * Why a name is refused; `undefined` where it is fine.
 *
 * A name has 1 to 200 characters, none of them a brace, a slash or backslash, white space or a control character; it does
 * not begin with a dash; parts separated by dots are not empty, and the last of them is none of `retry`, `dlq`, `due`,
 * `state`, `bell`.
 *
 * @category getters
 * @since 0.1.0
 */
export const invalid = (
  kind: "namespace" | "topic" | "subscription" | "consumer",
  name: string
): InvalidName | undefined => {
  const rule = broken(name)
  return rule === undefined ? undefined : new InvalidName({ kind, name: Inspectable.toStringUnknown(name), rule })
}
