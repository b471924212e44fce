/** A misspelt option would be silently left out: from untyped callers, it is refused. */
import { InvalidOption } from "../Errors.ts"

export const spelling = (known: ReadonlySet<string>, options: object): InvalidOption | undefined => {
  const unknown = Object.keys(options).find((option) => !known.has(option))
  return unknown === undefined
    ? undefined
    : new InvalidOption({ option: unknown, problem: "there is no such option: remove it, or check its spelling" })
}
