/** The short form of `pnpm faults`: each scenario a few times. */
import { describe, expect, it } from "vitest"
import * as Effect from "effect/Effect"
import { run } from "./scenario.ts"
import { scenarios } from "./scenarios/index.ts"

/** How often, where twice is not enough to see anything. */
const times: Readonly<Record<string, number>> = {
  kill: 15,
  restart: 5,
  everysec: 5,
  flush: 4,
  "client-kill": 20,
  network: 12,
  memory: 5,
  trim: 5,
  clock: 8,
  order: 4,
  cluster: 4
}

describe("real processes on a real Redis", () => {
  for (const scenario of scenarios) {
    const { missing, name, what } = scenario
    it.skipIf(missing?.() !== undefined)(
      `hold the contract through: ${what}`,
      async () => {
        const { dir, figures, table, violations } = await Effect.runPromise(
          run(scenario, { times: times[name] ?? 2, progress: () => {} })
        )
        expect(violations, `${table}\nledgers and logs: ${dir}`).toStrictEqual([])
        expect(figures.confirmed).toBeGreaterThan(100)
        expect(figures.starts).toBeGreaterThan(100)
      },
      120_000
    )
  }
})
