/** A break of the product that is made on purpose, and the test that must see it. */
import * as Result from "effect/Result"

export interface Edit {
  /** From the root of the workspace. */
  readonly file: string
  /** Occurs exactly once in it. */
  readonly find: string
  readonly replace: string
}

/** Where a guarantee is held. */
export interface Guard {
  readonly project: "unit" | "redis" | "cluster"
  readonly file: string
  /** The test's title, or a part of it that no other test of the file has, unless both see the break. */
  readonly test: string
}

export interface Mutation {
  readonly name: string
  /** More than one only where a single one would break nothing. */
  readonly edits: readonly [Edit, ...Array<Edit>]
  readonly killedBy: Guard
}

/** The text with the change; or what is wrong, where it does not fit. */
export const applied = ({ file, find, replace }: Edit, text: string): Result.Result<string, string> => {
  const at = text.indexOf(find)
  if (at < 0) return Result.fail(`${file} does not have the text any more:\n${find}`)
  if (text.includes(find, at + 1)) return Result.fail(`${file} has the text more than once:\n${find}`)
  if (find === replace) return Result.fail(`${file} would not change:\n${find}`)
  return Result.succeed(text.slice(0, at) + replace + text.slice(at + find.length))
}
