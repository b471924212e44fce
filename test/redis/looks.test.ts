/** When subscriptions look at what nothing rang for: each in its time, and many at once. */
import { afterEach, assert, beforeEach, describe, it, vi } from "@effect/vitest"
import * as Looks from "../../packages/redis/src/internal/looks.ts"

const minute = 60_000

beforeEach(() => {
  vi.useFakeTimers({ toFake: ["performance", "setTimeout", "clearTimeout"] })
})
afterEach(() => {
  vi.useRealTimers()
})

/** So many that look again as soon as they have looked; when each did. */
const looking = (members: number): ReadonlyArray<ReadonlyArray<number>> => {
  const looks = Looks.make(() => members)
  return Array.from({ length: members }, () => {
    const at = [performance.now()]
    const look = () => {
      at.push(performance.now())
      looks.next(look)
    }
    looks.next(look)
    return at
  })
}

describe("looks", () => {
  for (const [members, interval] of [
    [1, 5000],
    [7, 5000],
    [25, 12_500],
    [100, 50_000],
    [1000, 500_000]
  ] as const) {
    it(`of ${members}: each after three eighths of ${interval} ms at least, and as many at most`, () => {
      const all = looking(members)
      vi.advanceTimersByTime(10 * interval)
      for (const at of all) {
        assert.isAbove(at.length, 9)
        for (const [i, time] of at.slice(1).entries()) {
          // a timer is late by a millisecond where its moment lies between two
          assert.isAtMost(time - (at[i] ?? Number.NaN), interval + 2)
          assert.isAtLeast(time - (at[i] ?? Number.NaN), 0.375 * interval - 2)
        }
      }
    })
  }

  it("of a hundred wake their process every five seconds, not for each", () => {
    const all = looking(100)
    vi.advanceTimersByTime(10 * minute)
    const times = all.flatMap((at) => at.slice(1).map(Math.round))
    assert.isAbove(times.length, 1000)
    assert.isAtMost(new Set(times).size, (10 * minute) / 5000)
  })

  it("that were taken back are not made", () => {
    const looks = Looks.make(() => 1)
    let called = 0
    const back = looks.next(() => {
      called += 1
    })
    looks.next(() => {
      called += 10
    })
    back()
    vi.advanceTimersByTime(minute)
    assert.strictEqual(called, 10)
  })
})
