/** Histories of the runtime, as many as there is time for: 20,000 in CI, fewer elsewhere; `CLUTCH_HISTORIES` says how many a file. */
import { Simulator } from "@clutch/core/testing"
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"

const histories = Number(process.env["CLUTCH_HISTORIES"] ?? (process.env["CI"] === undefined ? 300 : 10_000))

/** `seed` names the file: each runs histories of its own, in a process of its own. */
export const suite = (seed: string) =>
  it.effect(
    `${histories} histories of seed "${seed}" keep the contract`,
    () =>
      Effect.gen(function* () {
        const report = yield* Simulator.check({ scenario: Simulator.mixed, histories, seed })
        const { faults, messages, subscriptions, workers } = report
        const medians = `${workers.median} workers, ${subscriptions.median} subscriptions, ${messages.median} messages, ${faults.median} faults`
        yield* Effect.sync(() => console.log(`medians of ${histories} histories: ${medians}`))
        assert.isAtLeast(workers.median, 3)
        assert.isAtLeast(subscriptions.median, 2)
        assert.isAtLeast(messages.median, 10)
        assert.isAtLeast(faults.median, 3)
      }),
    600_000
  )
