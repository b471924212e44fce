import { assert, describe, it } from "@effect/vitest"
import type { Handling } from "../../../packages/core/src/internal/handling.ts"
import { Waiting } from "../../../packages/core/src/internal/waiting.ts"
import { handling } from "./handlings.ts"

const ids = (waiting: Iterable<Handling>) => [...waiting].map(({ messageId }) => messageId)

describe("waiting", () => {
  it("gives back in order, oldest first", () => {
    const waiting = new Waiting()
    assert.isUndefined(waiting.shift())
    for (const n of [1, 2, 3]) waiting.push(handling(n))
    assert.strictEqual(waiting.first?.messageId, "1-0")
    assert.deepStrictEqual([waiting.shift()?.messageId, waiting.size], ["1-0", 2])
    assert.deepStrictEqual(ids(waiting), ["2-0", "3-0"])
    waiting.push(handling(4))
    assert.deepStrictEqual(ids(waiting), ["2-0", "3-0", "4-0"])
  })

  it("counts what waits of each log", () => {
    const waiting = new Waiting()
    waiting.push(handling(1))
    waiting.push(handling(2, "retry"))
    waiting.push(handling(3))
    assert.deepStrictEqual({ ...waiting.counts }, { main: 2, retry: 1 })
    waiting.shift()
    assert.deepStrictEqual({ ...waiting.counts }, { main: 1, retry: 1 })
    waiting.remove(({ entry }) => entry.origin === "retry")
    assert.deepStrictEqual({ ...waiting.counts }, { main: 1, retry: 0 })
  })

  it("removes what satisfies a predicate, keeps the order of the rest, and forgets what was shifted", () => {
    const waiting = new Waiting()
    for (let n = 0; n < 10; n++) waiting.push(handling(n))
    waiting.shift()
    const removed = waiting.remove(({ entry }) => Number.parseInt(entry.id, 10) % 2 === 0)
    assert.deepStrictEqual(ids(removed), ["2-0", "4-0", "6-0", "8-0"])
    assert.deepStrictEqual(ids(waiting), ["1-0", "3-0", "5-0", "7-0", "9-0"])
    assert.strictEqual(waiting.size, 5)
  })

  it("stays right over many more than it keeps at once", () => {
    const waiting = new Waiting()
    let next = 0
    for (let n = 0; n < 10_000; n++) {
      waiting.push(handling(n))
      if (n >= 3) assert.strictEqual(waiting.shift()?.messageId, `${next++}-0`)
    }
    assert.strictEqual(waiting.size, 3)
    assert.deepStrictEqual(ids(waiting), ["9997-0", "9998-0", "9999-0"])
    assert.deepStrictEqual({ ...waiting.counts }, { main: 3, retry: 0 })
  })
})
