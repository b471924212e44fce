/**
 * Nothing that waits is forgotten by a fetch that was full before it looked at everything.
 *
 * The story: eight released deliveries filled a fetch of eight. The retry beside them was not looked at, what had rung for
 * it was taken as answered, and nothing rang again: it lay there until the next scan.
 */
import type { Entry, Outcome } from "@clutch/core/Transport"
import { assert, describe, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as S from "./support.ts"

/** Far below the shortest time until a consumer that nobody wakes looks again, 2.5 seconds, and far above a round trip. */
const atOnce = Duration.seconds(1)

describe("a fetch that released deliveries fill", () => {
  for (const count of [1, 8]) {
    for (const [what, limit] of [
      [`its count of ${count}`, { count }],
      // one byte is full with the first
      ...(count === 1 ? ([["its bytes", { count: 100, bytes: 1 }]] as const) : [])
    ] as const) {
      it.live(`by ${what} leaves the retry beside them, and then new entries, to the next ones at once`, () =>
        Effect.gen(function* () {
          const { options } = yield* S.shared
          const transport = yield* S.transport(options)
          const holder = yield* S.join(transport)
          const released = Array.from({ length: count }, (_, i) => `released ${i}`)
          yield* S.publish(transport, "retried", ...released)
          const { entries } = yield* holder.fetch(S.limit())
          assert.deepStrictEqual(entries.map(S.text), ["retried", ...released])
          const settlement = (entry: Entry, outcome: Outcome) => ({ entry, outcome, repeated: false })
          const [failing, ...others] = entries
          if (failing === undefined) return assert.fail("nothing was fetched")
          const outcomes = yield* holder.settle([
            settlement(failing, { _tag: "Retry", delay: Duration.zero, cause: "once" }),
            ...others.map((entry) => settlement(entry, { _tag: "Release" }))
          ])
          assert.deepStrictEqual(
            outcomes,
            entries.map(() => "done" as const)
          )
          while ((yield* transport.tend(S.group())).moved === 0);
          yield* S.publish(transport, "new")
          // joined after everything has rung: nothing but its own memory can tell it of the retry
          const taker = yield* S.join(yield* S.transport(options))
          const first = yield* taker.fetch(S.limit(limit))
          assert.deepStrictEqual(first.entries.map(S.text), released)
          for (const expected of ["retried", "new"]) {
            const next = yield* Effect.timeoutOrElse(taker.fetch(S.limit({ ...limit, count: 1 })), {
              duration: atOnce,
              orElse: () => Effect.die(new Error(`"${expected}" lay unread`))
            })
            assert.deepStrictEqual(next.entries.map(S.text), [expected])
          }
        }).pipe(Effect.scoped)
      )
    }
  }
})

describe("a flood of retries", () => {
  it.live("leaves room for new ones in each fetch, and nothing is lost or doubled", () =>
    Effect.gen(function* () {
      const { options } = yield* S.shared
      const transport = yield* S.transport(options)
      const texts = (what: string) => Array.from({ length: 600 }, (_, i) => `${what} ${i}`)
      const settled = (entries: ReadonlyArray<Entry>, outcome: Outcome) => {
        const [first, ...rest] = entries.map((entry) => ({ entry, outcome, repeated: false }))
        return first === undefined ? assert.fail("nothing was fetched") : ([first, ...rest] as const)
      }
      yield* Effect.gen(function* () {
        const holder = yield* S.join(transport)
        yield* S.publish(transport, "first", ...texts("old"))
        for (let failed = 0; failed < 601;) {
          const { entries } = yield* holder.fetch(S.limit({ count: 512 }))
          yield* holder.settle(settled(entries, { _tag: "Retry", delay: Duration.zero, cause: "once" }))
          failed += entries.length
        }
      }).pipe(Effect.scoped)
      for (let moved = 0; moved < 601;) moved += (yield* transport.tend(S.group())).moved
      yield* S.publish(transport, "second", ...texts("new"))
      const taker = yield* S.join(yield* S.transport(options))
      const fetches: Array<ReadonlyArray<string>> = []
      while (fetches.flat().length < 1202) {
        const entries = yield* S.fetching(taker, { count: 128 })
        yield* taker.settle(settled(entries, S.ack))
        fetches.push(entries.map(S.text))
      }
      assert.sameMembers(fetches.flat(), ["first", "second", ...texts("old"), ...texts("new")])
      // the first one only finds out that there are so many
      for (const texts of fetches.slice(1, 6)) {
        assert.isAtMost(texts.length, 128)
        assert.isTrue(texts.some((text) => text.startsWith("old")))
        assert.isTrue(texts.some((text) => text.startsWith("new")))
      }
    }).pipe(Effect.scoped)
  )
})
