import { assert, describe, it } from "@effect/vitest"
import * as DateTime from "effect/DateTime"
import * as dates from "../../../packages/core/src/internal/dates.ts"

describe("dates.ofMillis", () => {
  it("keeps what is a date, and takes the nearest one for what is none", () => {
    const of = (millis: number) => DateTime.toEpochMillis(dates.ofMillis(millis))
    assert.deepStrictEqual(
      [0, 1_700_000_000_123, 8.64e15, 8.64e15 + 2, 2 ** 64, Infinity, -1e300, Number.NaN].map(of),
      [0, 1_700_000_000_123, 8.64e15, 8.64e15, 8.64e15, 8.64e15, -8.64e15, 0]
    )
  })
})
