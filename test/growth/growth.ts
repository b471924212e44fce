/**
 * `pnpm growth`: what a call costs Redis while the log grows, as a table. Ends with an error where something is not flat.
 *
 * `CLUTCH_SIZES` are the sizes, separated by commas; `CLUTCH_CALLS` how often each call is measured. An argument names
 * one dimension.
 */
import { commandLine } from "../support/commandLine.ts"
import { isFlat, measure, type Row } from "./measure.ts"
import { dimensions } from "./operations.ts"
import { subscriptions } from "./subscriptions.ts"

const inProcess = "subscriptions"
const parts = [...dimensions.map(({ name }) => name), inProcess]

const { count, refuse, words } = commandLine(
  `pnpm growth [PART]

  PART           one of these: ${parts.join(", ")}; default all
  CLUTCH_SIZES   in the environment, how much there is; default 10000,100000,1000000
  CLUTCH_CALLS   in the environment, how often each call is measured; default 40`,
  1
)
const [only] = words
if (only !== undefined && !parts.includes(only)) refuse(`no part is called ${only}; there are ${parts.join(", ")}`)
const sizes = (process.env["CLUTCH_SIZES"] ?? "10000,100000,1000000")
  .split(",")
  .map((size) => count("CLUTCH_SIZES", size))
const calls = count("CLUTCH_CALLS", process.env["CLUTCH_CALLS"] ?? "40")
const share = 0.2

process.on("SIGINT", () => process.exit(130))

const rows: Array<Row> = []
for (const dimension of dimensions.filter(({ name }) => only === undefined || name === only)) {
  for (const row of await measure(dimension, { sizes, calls, share, tell: console.log })) rows.push(row)
}
if (only === undefined || only === inProcess) {
  const costs = await subscriptions([1, 50, 500], calls, console.log)
  console.log(`\n| subscriptions in a process | µs of Redis a message | µs of Node a message |\n|---|---|---|`)
  for (const { node, redis, subscriptions } of costs) {
    console.log(`| ${subscriptions} | ${Math.round(redis)} | ${Math.round(node)} |`)
  }
}
const columns = sizes.map((size) => `µs at ${size.toLocaleString("en")}`)
console.log(`\n| what grows | call | ${columns.join(" | ")} | ratio | µs at most (p95) |`)
console.log(`|---|---|${columns.map(() => "---|").join("")}---|---|`)
for (const { blocks, costs, dear, dimension, operation, ratio } of rows) {
  const most = blocks ? "over 5,000" : dear === undefined ? "many commands" : Math.round(dear)
  console.log(`| ${[dimension, operation, ...costs.map(Math.round), ratio.toFixed(2), most].join(" | ")} |`)
}
const bad = rows.filter((row) => !isFlat(row, share))
for (const { dimension, operation } of bad) console.log(`not flat: ${dimension}, ${operation}`)
process.exit(bad.length === 0 ? 0 : 1)
