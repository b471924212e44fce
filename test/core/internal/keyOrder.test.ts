import { assert, describe, it } from "@effect/vitest"
import type { Handling } from "../../../packages/core/src/internal/handling.ts"
import { KeyOrder } from "../../../packages/core/src/internal/keyOrder.ts"
import { handling } from "./handlings.ts"

const made = (
  options: {
    readonly heldBack?: ReadonlyArray<string>
    readonly parked?: number
    readonly outOfOrder?: () => void
  } = {}
) => {
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
    outOfOrder: options.outOfOrder ?? (() => assert.fail("in order"))
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

  it("neither starts nor parks anything more once a message came that had come before", () => {
    let disorders = 0
    const { ids, order } = made({ heldBack: ["a"], outOfOrder: () => (disorders += 1) })
    for (const n of [1, 2]) order.offer(handling(n, "main", "b"))
    order.offer(handling(1, "main", "b"))
    order.offer(handling(3, "main", "a"))
    order.offer(handling(4, "main", "c"))
    order.offer(handling(5, "retry", "d"))
    assert.deepStrictEqual([ids(), disorders], [[["1-0"], []], 1])
    const idOf = ({ messageId }: Handling) => messageId
    const waiting = [...order.waiting()].map(idOf)
    assert.deepStrictEqual(waiting, ["2-0", "1-0", "3-0", "4-0", "5-0"])
    assert.deepStrictEqual(order.clear([]).map(idOf), waiting)
    assert.isEmpty(order.clear([]))
  })

  it("counts nothing of a key that was freed before", () => {
    const { order } = made({ heldBack: ["a"], parked: 2 })
    const retried = handling(1, "retry", "a")
    order.offer(retried)
    retried.outcome = { _tag: "Ack" }
    order.ended(retried)
    order.settled(retried, "freed")
    order.settled(retried, "done")
    assert.deepStrictEqual([order.parked, order.heldBack().keys], [2, 0])
  })

  it("keeps what is held back, runs or waits, however many keys come and go", () => {
    const { ids, order } = made({ heldBack: ["held"] })
    const running = handling(1, "main", "runs")
    order.offer(running)
    order.offer(handling(2, "main", "runs"))
    for (let nth = 3; nth < 5003; nth++) {
      const one = handling(nth, "main", `key ${nth}`)
      order.offer(one)
      one.outcome = { _tag: "Ack" }
      order.settled(one, "done")
      order.ended(one)
    }
    const before = ids()[0]?.length
    order.offer(handling(5003, "main", "held"))
    order.offer(handling(5004, "main", "runs"))
    assert.deepStrictEqual([ids()[0]?.length, ids()[1]], [before, ["5003-0"]])
    running.outcome = { _tag: "Ack" }
    order.settled(running, "done")
    order.ended(running)
    assert.strictEqual(ids()[0]?.at(-1), "2-0")
    assert.deepStrictEqual([order.stuck, order.heldBack().keys], [1, 1])
    // what is idle goes, by and by
    assert.isAtMost([...Reflect.get(order, "keys").keys()].length, 1026)
  })
})
