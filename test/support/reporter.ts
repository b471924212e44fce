/**
 * Ends a run with one line that a person and a script can read: `N passed, N failed, N skipped`.
 *
 * With `CLUTCH_TEST_COUNTS` set to a file, the counts are added to that file instead: `run.mjs` sums several runs.
 */
import { appendFileSync } from "node:fs"
import type { Reporter, TestModule } from "vitest/node"

export default class CountsReporter implements Reporter {
  onTestRunEnd(modules: ReadonlyArray<TestModule>, unhandledErrors: ReadonlyArray<unknown>): void {
    const counts = { passed: 0, failed: unhandledErrors.length, skipped: 0 }
    for (const module of modules) {
      const before = counts.failed
      for (const test of module.children.allTests()) {
        const { state } = test.result()
        // "pending" is a test that an interrupted run never reached
        counts[state === "pending" ? "skipped" : state] += 1
      }
      // a file that does not load, or whose hook fails, has no failed test of its own, and must not look like success
      if (module.state() === "failed" && counts.failed === before) counts.failed += 1
    }
    const file = process.env["CLUTCH_TEST_COUNTS"]
    if (file === undefined) console.log(`${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped`)
    else appendFileSync(file, `${JSON.stringify(counts)}\n`)
  }
}
