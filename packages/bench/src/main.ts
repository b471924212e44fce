/**
 * `pnpm bench [scenario …] [--rounds n] [--quick] [--share s] [--out folder] [--profile folder] [--list]`
 *
 * Starts a Redis of its own and runs every contestant in turn, each measurement in a process of its own, all of them
 * once a round. Then it prints the tables, and a full run writes them. Plain Node: nothing of what is measured runs here.
 */
import { mkdirSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { parse } from "./options.ts"
import { page, summary } from "./page.ts"
import { evaluate } from "./results.ts"
import { runRounds } from "./rounds.ts"

/** More digits than anything here is exact to. */
const rounded = (_: string, value: unknown) => (typeof value === "number" ? Number(value.toPrecision(5)) : value)

const options = parse(process.argv.slice(2))
if (options !== undefined) {
  const report = evaluate(options, await runRounds(options))
  console.log(summary(report))
  if (options.out !== undefined) {
    mkdirSync(options.out, { recursive: true })
    writeFileSync(join(options.out, "benchmarks.md"), page(report))
    writeFileSync(join(options.out, "benchmarks.json"), `${JSON.stringify(report, rounded, 2)}\n`)
    console.log(`\nwritten to ${options.out}: benchmarks.md, benchmarks.json`)
  }
  if (report.measurements.some(({ failed }) => failed !== undefined)) process.exitCode = 1
}
