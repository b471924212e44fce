/**
 * The short form of `pnpm growth`: twenty times as much, and no call costs twice as much. What reads everything there is
 * costs twenty times as much; `pnpm growth` tells smaller differences, on a quiet machine.
 */
import { assert, describe, test } from "vitest"
import { isFlat, measure } from "./measure.ts"
import { dimensions } from "./operations.ts"

const sizes = [5000, 100_000]

describe("what a call costs does not grow with", () => {
  for (const dimension of dimensions) {
    test(
      dimension.name,
      async () => {
        const rows = await measure(dimension, { sizes, calls: 7, share: 1, tell: () => {} })
        const grown = rows.filter((row) => !isFlat(row, 1))
        assert.deepStrictEqual(grown, [], "microseconds that Redis takes a call, and whether a command takes 5 ms")
      },
      120_000
    )
  }
})
