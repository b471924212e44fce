/**
 * `pnpm faults [--only kill,stop] [--scale 0.01]`: real processes on real Redis, broken again and again.
 *
 * Each scenario prints a line of figures, and what it violated. Ends with 1 where anything was.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Effect from "effect/Effect"
import { parseArgs } from "node:util"
import { ensureRedis } from "../support/ensure-redis.mjs"
import * as Figures from "./figures.ts"
import { type Report, run, type Scenario, times } from "./scenario.ts"
import { scenarios } from "./scenarios/index.ts"

const usage = `pnpm faults [--only NAME,NAME] [--scale NUMBER]

  --only    these scenarios; default all
  --scale   how much of each; default 1, a small part of it for a quick look

${scenarios.map(({ name, times, what }) => `  ${name.padEnd(12)} ${String(times).padStart(5)} × ${what}`).join("\n")}
`

const refuse = (message: string): never => {
  console.error(`${message}\n\n${usage}`)
  process.exit(2)
}

const options = () => {
  try {
    const { values } = parseArgs({
      // pnpm hands its own separator on
      args: process.argv.slice(2).filter((argument) => argument !== "--"),
      options: { only: { type: "string" }, scale: { type: "string" }, help: { type: "boolean" } }
    })
    return values
  } catch (error) {
    return refuse(error instanceof Error ? error.message : String(error))
  }
}

const chosen = (only: string | undefined): ReadonlyArray<Scenario> =>
  only === undefined
    ? scenarios
    : only
        .split(",")
        .map(
          (name) =>
            scenarios.find((one) => one.name === name) ??
            refuse(`there is no scenario "${name}": it is one of ${scenarios.map(({ name }) => name).join(", ")}`)
        )

/** Where a person looks on, a line that is written over; elsewhere, ten lines a scenario. */
const progress = (name: string) => (done: number, all: number) => {
  if (process.stdout.isTTY) process.stdout.write(`\r${name} ${done}/${all}${done === all ? "\n" : ""}`)
  else if (done % Math.ceil(all / 10) === 0) console.log(`${name} ${done}/${all}`)
}

const tell = ({ dir, figures, name, table, violations }: Report) => {
  console.log(`${name}: ${Figures.line(figures)}`)
  for (const { invariant, text } of violations.slice(0, 20)) console.log(`  VIOLATED ${invariant}: ${text}`)
  if (violations.length > 20) console.log(`  and ${violations.length - 20} more`)
  if (violations.length > 0) console.log(`${table}\n  ledgers and logs: ${dir}`)
}

const { help, only, scale = "1" } = options()
if (help === true) {
  console.log(usage)
  process.exit(0)
}
const factor = Number(scale)
if (!(factor > 0 && Number.isFinite(factor))) refuse(`--scale ${scale} is no number above 0`)
const selected = chosen(only)
ensureRedis()

const program = Effect.gen(function* () {
  let failed = 0
  for (const scenario of selected) {
    const missing = scenario.missing?.()
    if (missing !== undefined) {
      console.log(`${scenario.name}: CANNOT RUN HERE: ${missing}`)
      failed += 1
      continue
    }
    yield* run(scenario, { times: times(scenario, factor), progress: progress(scenario.name) }).pipe(
      Effect.map((report) => {
        tell(report)
        failed += report.violations.length
      }),
      // the others are worth knowing all the same
      Effect.catchDefect((defect) =>
        Effect.sync(() => {
          console.log(`${scenario.name}: FAILED: ${String(defect)}`)
          failed += 1
        })
      )
    )
  }
  console.log(failed === 0 ? "no invariant was violated" : `${failed} failures`)
  process.exitCode = failed === 0 ? 0 : 1
})
NodeRuntime.runMain(program)
