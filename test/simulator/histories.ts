/** Histories of the runtime, in as many as a test has time for: `CLUTCH_HISTORIES` sets how many a file runs. */
import { Simulator } from "@clutch/core/testing"
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"

const histories = Number(process.env["CLUTCH_HISTORIES"] ?? 500)

/** `seed` names the file: each runs histories of its own, in a process of its own. */
export const suite = (seed: string) =>
  it.effect(
    `${histories} histories of seed "${seed}" keep the contract`,
    () =>
      Effect.gen(function* () {
        const report = yield* Simulator.check({ scenario: Simulator.mixed, histories, seed })
        yield* Effect.sync(() => console.log(JSON.stringify(report)))
        const { faults, messages, subscriptions, workers } = report
        assert.isAtLeast(workers.median, 3)
        assert.isAtLeast(subscriptions.median, 2)
        assert.isAtLeast(messages.median, 10)
        assert.isAtLeast(faults.median, 3)
      }),
    600_000
  )
