import { assert, describe, it } from "@effect/vitest"
import { Held } from "../../../packages/core/src/internal/held.ts"
import { handling } from "./handlings.ts"

const ids = (held: Held) => [...held].map(({ messageId }) => messageId)

describe("held", () => {
  it("keeps what was added, oldest first, until it is deleted, once", () => {
    const held = new Held()
    const [a, b, c] = [handling(1), handling(2), handling(3)]
    for (const one of [a, b, c]) held.add(one)
    assert.isTrue(held.delete(b))
    assert.isFalse(held.delete(b))
    assert.isFalse(held.delete(handling(9)))
    assert.deepStrictEqual([ids(held), held.size], [["1-0", "3-0"], 2])
  })

  it("whatever goes first, the others stay, and can be deleted after gaps were closed", () => {
    const held = new Held()
    const all = Array.from({ length: 3000 }, (_, n) => handling(n))
    for (const one of all) held.add(one)
    const stay = all.filter((_, n) => n % 7 === 0)
    for (const one of all) if (!stay.includes(one)) assert.isTrue(held.delete(one))
    assert.deepStrictEqual(
      ids(held),
      stay.map(({ messageId }) => messageId)
    )
    for (const one of stay) assert.isTrue(held.delete(one))
    assert.deepStrictEqual([ids(held), held.size], [[], 0])
  })
})
