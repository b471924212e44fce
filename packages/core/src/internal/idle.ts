/** Waiting until a subscription has dealt with what was there: by comparing ids, never by counting. */
import * as Effect from "effect/Effect"
import { InvalidOption, type TransportError } from "../Errors.ts"
import { type Group, Transport } from "../Transport.ts"
import type { Groups } from "./address.ts"
import { shown } from "./shown.ts"
import { optional } from "./spelling.ts"

const known: ReadonlySet<string> = new Set(["due"])

/** From untyped callers. */
export const problem = (options: { readonly due?: unknown }): InvalidOption | undefined => {
  const misspelt = optional(known, options, '{ due: "ignore" }')
  if (misspelt !== undefined) return misspelt
  const { due } = options
  return due === undefined || due === "wait" || due === "ignore"
    ? undefined
    : new InvalidOption({ option: "due", problem: `${shown(due)} is refused: give "wait" or "ignore"` })
}

/**
 * Two passes must agree: between the steps of one, a message can move from a log that is still to be looked at to one
 * that was looked at already.
 */
const passes = 2

export const awaitIdle = (groups: Groups, due: "wait" | "ignore"): Effect.Effect<void, TransportError, Transport> =>
  Effect.gen(function* () {
    const transport = yield* Transport
    const idle = (group: Group, through: string) =>
      Effect.gen(function* () {
        for (let idle = 0; idle < passes;) {
          if (yield* transport.outstanding(group, { through, due })) {
            idle = 0
            yield* transport.progress(group)
          } else idle += 1
        }
      })
    // all ends are noted before anybody waits: later publishes do not prolong it
    const ends = yield* Effect.forEach(
      groups,
      (group) => Effect.map(transport.lastId(group), (through) => ({ group, through })),
      { concurrency: "unbounded" }
    )
    yield* Effect.forEach(ends, ({ group, through }) => idle(group, through), {
      concurrency: "unbounded",
      discard: true
    })
  })
