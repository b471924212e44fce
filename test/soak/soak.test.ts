/** The short form of `pnpm soak`: too short for resident memory, whose pages come late, but not for what is kept. */
import { assert, test } from "vitest"
import { growth, soak } from "./run.ts"

const total = Number(process.env["CLUTCH_MESSAGES"] ?? 200_000)

test("messages with failures through two workers leave nothing behind, in Redis or in the workers", async () => {
  const report = await soak({ total, looks: 20, tell: () => {} })
  assert.strictEqual(report.missing, 0, "messages that nobody has done")
  assert.strictEqual(report.repeated, 0, "messages that were done twice")
  assert.strictEqual(report.deadLetters.found, report.deadLetters.expected)
  assert.deepStrictEqual(report.left, { pending: 0, due: 0, waiting: 0 })
  for (const [name, { from, to }] of growth(report.looks, 0.3)) {
    if (name.includes("resident")) continue
    // a heap of this size has a share of a percent for each look of its own accord
    if (/memory|heap/.test(name)) assert.isBelow(to / from, 1.1, name)
    else assert.isAtMost(to, from, name)
  }
}, 180_000)
