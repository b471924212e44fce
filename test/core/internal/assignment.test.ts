import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Random from "effect/Random"
import { plan, type Seen } from "../../../packages/core/src/internal/assignment.ts"

const names = (count: number) => Array.from({ length: count }, (_, i) => `w${i}`)
const free = (count: number): Array<Seen> =>
  Array.from({ length: count }, (_, partition) => ({ partition, owner: undefined }))

const counts = (workers: ReadonlyArray<string>, seen: ReadonlyArray<Seen>) =>
  workers.map((worker) => seen.filter(({ owner }) => owner === worker).length)

/** All workers do what they plan, in one turn; returns how many partitions changed hands. */
const turn = (workers: ReadonlyArray<string>, seen: Array<Seen>): number => {
  const plans = workers.map((worker) => ({ worker, plan: plan(worker, workers, seen) }))
  let moves = 0
  for (const { plan, worker } of plans) {
    for (const partition of plan.claim) {
      assert.isUndefined(seen[partition]?.owner, "two reached for the same")
      seen[partition] = { partition, owner: worker }
    }
    const mine = seen.filter(({ owner }) => owner === worker).slice(0, plan.surplus)
    for (const { partition } of mine) {
      seen[partition] = { partition, owner: undefined }
      moves += 1
    }
  }
  return moves
}

describe("assignment", () => {
  it("one worker takes all", () => {
    assert.deepStrictEqual(plan("w0", [], free(3)), { claim: [0, 1, 2], surplus: 0 })
  })

  it("workers that start together take their shares, and none reaches for another's", () => {
    const seen = free(10)
    turn(names(4), seen)
    assert.deepStrictEqual(
      counts(names(4), seen).toSorted((a, b) => a - b),
      [2, 2, 3, 3]
    )
  })

  it("what is fair is left alone", () => {
    const seen = free(7)
    turn(names(3), seen)
    const before = [...seen]
    assert.strictEqual(turn(names(3), seen), 0)
    assert.deepStrictEqual(seen, before)
  })

  it("a worker that shows up in nobody's list still owns what it owns", () => {
    const seen: Array<Seen> = [
      { partition: 0, owner: "ghost" },
      { partition: 1, owner: undefined }
    ]
    assert.deepStrictEqual(plan("w0", ["w0"], seen), { claim: [1], surplus: 0 })
  })

  it.effect(
    "whoever comes and goes, all is owned after two turns, shares differ by one, and no more moves than must",
    () =>
      Effect.gen(function* () {
        for (let run = 0; run < 300; run++) {
          const partitions = yield* Random.nextIntBetween(1, 20)
          let workers = names(yield* Random.nextIntBetween(1, 6))
          const seen = free(partitions)
          turn(workers, seen)
          for (let change = 0; change < 4; change++) {
            const next = names(yield* Random.nextIntBetween(1, 6))
            for (const [at, { owner }] of seen.entries()) {
              if (owner !== undefined && !next.includes(owner)) seen[at] = { partition: at, owner: undefined }
            }
            const share = Math.ceil(partitions / next.length)
            const least = counts(next, seen).reduce((sum, count) => sum + Math.max(0, count - share), 0)
            const larger = partitions % next.length
            const full = counts(next, seen).filter((count) => count >= share).length
            // of those who own a larger share, only so many may keep it
            const must = least + (larger > 0 ? Math.max(0, full - larger) : 0)
            const moves = turn(next, seen) + turn(next, seen)
            assert.isAtMost(moves, must)
            const shares = counts(next, seen)
            assert.isTrue(
              seen.every(({ owner }) => owner !== undefined),
              "all owned"
            )
            assert.isAtMost(Math.max(...shares) - Math.min(...shares), 1)
            workers = next
          }
        }
      })
  )
})
