/** A value as errors show it: a text in quotes, so that "3" is not taken for a number. */
import * as Inspectable from "effect/Inspectable"

export const shown = (value: unknown): string =>
  typeof value === "string" ? JSON.stringify(value) : Inspectable.toStringUnknown(value)
