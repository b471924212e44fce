/**
 * `pnpm soak`: ten million messages with failures through two worker processes, and a table of what must not grow.
 *
 * `CLUTCH_MESSAGES` sets how many there are. The first fifth is the warm-up.
 */
import { commandLine } from "../support/commandLine.ts"
import { growth, soak } from "./run.ts"

process.on("SIGINT", () => process.exit(130))

const { count } = commandLine(
  `pnpm soak

  CLUTCH_MESSAGES   in the environment, how many there are; default 10000000`,
  0
)
const total = count("CLUTCH_MESSAGES", process.env["CLUTCH_MESSAGES"] ?? "10000000")
const report = await soak({ total, looks: 40, tell: console.log })

const problems: Array<string> = []
console.log(`\n| | behind the warm-up | at the end | growth |`)
console.log(`|---|---|---|---|`)
for (const [name, { from, to }] of growth(report.looks, 0.2)) {
  const share = to / from - 1
  const bytes = /memory|heap/.test(name)
  const told = (value: number) => (bytes ? `${(value / 1e6).toFixed(1)} MB` : `${value}`)
  console.log(`| ${name} | ${told(from)} | ${told(to)} | ${(100 * share).toFixed(1)} % |`)
  if (bytes ? share > 0.05 : to > from) problems.push(`${name} has grown`)
}
const { deadLetters, left, messagesPerSecond, missing, repeated } = report
console.log(`\n${Math.round(messagesPerSecond)} messages a second; ${missing} missing, ${repeated} repeated`)
console.log(`${deadLetters.found} dead letters, of ${deadLetters.expected}`)
console.log(`left: ${left.pending} pending, ${left.due} due, ${left.waiting} waiting`)
if (missing + repeated > 0) problems.push("messages are missing or repeated")
if (deadLetters.found !== deadLetters.expected) problems.push("dead letters are missing")
if (left.pending + left.due + (left.waiting ?? 1) > 0) problems.push("something is left")
for (const problem of problems) console.log(problem)
process.exit(problems.length === 0 ? 0 : 1)
