/**
 * `pnpm growth`: what a call costs Redis while the log grows, as a table. Ends with an error where something is not flat.
 *
 * `CLUTCH_SIZES` are the sizes, separated by commas; `CLUTCH_CALLS` how often each call is measured. An argument names
 * one dimension.
 */
import { isFlat, measure, type Row } from "./measure.ts"
import { dimensions } from "./operations.ts"
import { subscriptions } from "./subscriptions.ts"

const sizes = (process.env["CLUTCH_SIZES"] ?? "10000,100000,1000000").split(",").map(Number)
const calls = Number(process.env["CLUTCH_CALLS"] ?? 40)
const share = 0.2
const only = process.argv[2]

process.on("SIGINT", () => process.exit(130))

const rows: Array<Row> = []
for (const dimension of dimensions.filter(({ name }) => only === undefined || name === only)) {
  for (const row of await measure(dimension, { sizes, calls, share, tell: console.log })) rows.push(row)
}
if (only === undefined || only === "subscriptions") {
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
