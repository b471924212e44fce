/**
 * What several categories assert with.
 */
import { assert } from "@effect/vitest"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import { DeadLetters, type Subscription, type Transport, type TransportError } from "../index.ts"

/** What handlers fail with on purpose. */
export class Failure extends Data.TaggedError("Failure")<{ readonly message: string }> {}

/** The numbers below `count`. */
export const range = (count: number): ReadonlyArray<number> => Array.from({ length: count }, (_, i) => i)

/** The texts m0, m1, … */
export const texts = (count: number): ReadonlyArray<string> => range(count).map((i) => `m${i}`)

/** Each of `expected` exactly once, in any order. */
export const assertEachOnce = (
  actual: ReadonlyArray<string>,
  expected: ReadonlyArray<string>,
  what = "handled"
): void => {
  const counts = new Map<string, number>()
  for (const one of actual) counts.set(one, (counts.get(one) ?? 0) + 1)
  const missing = expected.filter((one) => !counts.has(one)).slice(0, 5)
  const doubled = [...counts].filter(([, count]) => count > 1).slice(0, 5)
  assert.deepStrictEqual(
    { missing, doubled, count: counts.size },
    { missing: [], doubled: [], count: expected.length },
    what
  )
}

/** All dead letters of a subscription, oldest first. */
export const deadLetters = <A>(
  self: Subscription.Address<A>
): Effect.Effect<ReadonlyArray<DeadLetters.DeadLetter<A>>, TransportError, Transport> =>
  Effect.gen(function* () {
    const letters: Array<DeadLetters.DeadLetter<A>> = []
    yield* Stream.runForEach(DeadLetters.list(self), (letter) => Effect.sync(() => void letters.push(letter)))
    return letters
  })

/** The only dead letter of a subscription. */
export const onlyDeadLetter = <A>(
  self: Subscription.Address<A>
): Effect.Effect<DeadLetters.DeadLetter<A>, TransportError, Transport> =>
  Effect.map(deadLetters(self), (letters) => {
    const [letter] = letters
    assert.strictEqual(letters.length, 1, "dead letters")
    if (letter === undefined) throw new Error("no dead letter")
    return letter
  })
