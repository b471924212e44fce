import * as Names from "@clutch/core/Names"
import { assert, describe, it } from "@effect/vitest"

const kinds = ["namespace", "topic", "subscription", "consumer"] as const

describe("Names", () => {
  it.each([
    "orders",
    "o",
    "Orders-2",
    "eu.orders.placed",
    "a_b-c:d",
    "заказы",
    "注文",
    "🥚",
    "retry.orders",
    "dlq-orders",
    "retrying",
    "orders.retry2",
    "a".repeat(200)
  ])("accepts %s as a name of any kind", (name) => {
    for (const kind of kinds) assert.isUndefined(Names.invalid(kind, name))
  })

  const refused: ReadonlyArray<readonly [string, RegExp]> = [
    ["", /empty/],
    ["a{b", /braces/],
    ["a}b", /braces/],
    ["{orders}", /braces/],
    ["a/b", /slashes/],
    ["a\\b", /slashes/],
    ["a b", /white space/],
    ["a\tb", /white space/],
    ["a\nb", /white space/],
    ["a\u00a0b", /white space/],
    ["a\u2028b", /white space/],
    ["a\u0000b", /control/],
    ["a\u001bb", /control/],
    ["a\u007fb", /control/],
    [" orders", /white space/],
    [".orders", /dot/],
    ["orders.", /dot/],
    ["a..b", /dot/],
    [".", /dot/],
    ["a".repeat(201), /longer than 200/],
    ["-orders", /dash/]
  ]
  it.each(refused)("refuses %j, and says why", (name, why) => {
    for (const kind of kinds) {
      const problem = Names.invalid(kind, name)
      assert.strictEqual(problem?._tag, "InvalidName")
      assert.strictEqual(problem?.kind, kind)
      assert.strictEqual(problem?.name, name)
      assert.match(problem?.rule ?? "", why)
      assert.include(problem?.message ?? "", `${kind} name ${JSON.stringify(name)}`)
    }
  })

  it.each(["retry", "dlq", "due", "state", "bell"])(
    "2. a name that ends in %s, which would chain with derived keys, is refused",
    (ending) => {
      for (const name of [ending, `billing.${ending}`, `a.b.${ending}`]) {
        assert.include(Names.invalid("subscription", name)?.rule ?? "accepted", `"${ending}"`)
      }
      assert.isUndefined(Names.invalid("subscription", `${ending}.billing`))
    }
  )

  it.each([undefined, null, 7, {}, []])("refuses %o from an untyped caller, without throwing", (name) => {
    // what a caller from JavaScript could pass
    const problem = Names.invalid("topic", name as string)
    assert.strictEqual(problem?._tag, "InvalidName")
    assert.match(problem?.rule ?? "", /no text/)
  })
})
