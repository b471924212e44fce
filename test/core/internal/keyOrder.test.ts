import { assert, describe, it } from "@effect/vitest"
import type { Handling } from "../../../packages/core/src/internal/handling.ts"
import { KeyOrder } from "../../../packages/core/src/internal/keyOrder.ts"
import { handling } from "./handlings.ts"

const made = (options: { readonly heldBack?: ReadonlyArray<string>; readonly parked?: number } = {}) => {
  const ready: Array<Handling> = []
  const parking: Array<Handling> = []
  const order = new KeyOrder({
    heldBack: (options.heldBack ?? []).map((key) => ({ key, since: 0 })),
    parked: options.parked ?? 0,
    ready: (one) => ready.push(one),
    park: (one) => {
      one.outcome = { _tag: "Park" }
      parking.push(one)
    },
    outOfOrder: () => assert.fail("in order")
  })
  const ids = () => [ready, parking].map((all) => all.map(({ messageId }) => messageId))
  return { ids, order, parking }
}

describe("the order of keys", () => {
  it("knows of what was parked before this worker owned the partition, until it has gone on", () => {
    const { order } = made({ heldBack: ["a"], parked: 2 })
    const first = handling(1, "retry", "a")
    order.offer(first)
    assert.strictEqual(order.parked, 2)
    first.outcome = { _tag: "Ack" }
    order.settled(first, "done")
    assert.strictEqual(order.parked, 1)
  })

  it("holds a key back that is freed while another message of it is being parked: that one is to go first", () => {
    const { ids, order, parking } = made({ heldBack: ["a"] })
    const retried = handling(1, "retry", "a")
    order.offer(retried)
    order.offer(handling(2, "main", "a"))
    retried.outcome = { _tag: "Ack" }
    order.settled(retried, "freed")
    order.ended(retried)
    order.offer(handling(3, "main", "a"))
    assert.deepStrictEqual(ids(), [["1-0"], ["2-0", "3-0"]])
    for (const one of parking) order.settled(one, "done")
    assert.deepStrictEqual([order.parked, order.heldBack().keys], [2, 1])
  })
})
