import { assert, describe, it } from "@effect/vitest"
import * as Arbitrary from "effect/Arbitrary"
import * as Schema from "effect/Schema"
import { compareIds } from "../../../packages/core/src/internal/ids.ts"

describe("ids", () => {
  it.each([
    ["0-0", "0-1"],
    ["0-9", "0-10"],
    ["9-0", "10-0"],
    ["9-99999", "10-0"],
    ["1700000000000-5", "1700000000001-0"],
    ["1700000000000-2", "1700000000000-10"],
    ["9007199254740993-0", "9007199254740994-0"],
    ["5-18446744073709551614", "5-18446744073709551615"]
  ])("%s comes before %s", (before, after) => {
    assert.isBelow(compareIds(before, after), 0)
    assert.isAbove(compareIds(after, before), 0)
    assert.strictEqual(compareIds(after, after), 0)
  })

  const part = Arbitrary.schema(Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 2 ** 40 })))
  it.prop(
    "orders as the two numbers do",
    [part, part, part, part],
    ([a, b, c, d]) => {
      const expected = Math.sign(a - c) || Math.sign(b - d)
      assert.strictEqual(Math.sign(compareIds(`${a}-${b}`, `${c}-${d}`)), expected)
      assert.strictEqual(Math.sign(compareIds(`${a}-${b}`, `${a}-${d}`)), Math.sign(b - d))
    },
    { arbitrary: { runs: 300 } }
  )
})
