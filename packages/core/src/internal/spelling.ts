/** A misspelt option would be silently left out: from untyped callers, it is refused. */
import * as Predicate from "effect/Predicate"
import { InvalidOption } from "../Errors.ts"
import { shown } from "./shown.ts"

export const spelling = (known: ReadonlySet<string>, options: object): InvalidOption | undefined => {
  const unknown = Object.keys(options).find((option) => !known.has(option))
  return unknown === undefined
    ? undefined
    : new InvalidOption({ option: unknown, problem: "there is no such option: remove it, or check its spelling" })
}

/** The same of options that may be left out, but not be something else. */
export const optional = (known: ReadonlySet<string>, options: unknown, example: string): InvalidOption | undefined =>
  Predicate.isObject(options)
    ? spelling(known, options)
    : new InvalidOption({
        option: "options",
        problem: `${shown(options)} is refused: give an object, such as ${example}, or leave it out`
      })
