/** The command line. What it does not know it refuses, with what there is. */
import { fileURLToPath } from "node:url"
import { parseArgs } from "node:util"
import { type Scenario, scenarios } from "./scenarios.ts"

export interface Options {
  readonly scenarios: ReadonlyArray<Scenario>
  readonly rounds: number
  readonly quick: boolean
  /** The part of a full run's messages. */
  readonly share: number
  /** Where each process leaves a CPU profile; none without. */
  readonly profile: string | undefined
  /** The folder of the page and the JSON file; nothing is written without. */
  readonly out: string | undefined
}

const usage = `pnpm bench [scenario …] [--rounds n] [--quick] [--share s] [--out folder] [--profile folder] [--list]

  scenario     only these; default: all
  --rounds n   how often each measurement is made; default 3, with --quick 1
  --share s    the part of the messages, above 0 and up to 1; default 1, with --quick 0.1
  --quick      few messages, no measurement that is slow or that no target asks for
  --out        where benchmarks.md and benchmarks.json are written; default docs, and for less than a full run nowhere
  --profile    where each measured process leaves a CPU profile (node --cpu-prof); it slows what it looks at
  --list       names the scenarios`

const refuse = (problem: string): undefined => {
  console.error(`${problem}\n\n${usage}`)
  process.exitCode = 2
  return undefined
}

const docs = fileURLToPath(new URL("../../../docs", import.meta.url))

export const parse = (args: ReadonlyArray<string>): Options | undefined => {
  let parsed
  try {
    parsed = parseArgs({
      args: args.filter((arg) => arg !== "--"),
      allowPositionals: true,
      options: {
        rounds: { type: "string" },
        share: { type: "string" },
        quick: { type: "boolean", default: false },
        out: { type: "string" },
        profile: { type: "string" },
        list: { type: "boolean", default: false },
        help: { type: "boolean", default: false }
      }
    })
  } catch (error) {
    return refuse(error instanceof Error ? error.message : String(error))
  }
  const { positionals, values } = parsed
  if (values.help || values.list) {
    console.log(values.help ? usage : scenarios.map(({ name, title }) => `${name.padEnd(18)}${title}`).join("\n"))
    return undefined
  }
  const unknown = positionals.filter((name) => !scenarios.some((one) => one.name === name))
  if (unknown.length > 0) {
    return refuse(
      `no scenario is called ${unknown.join(", ")}; there are ${scenarios.map(({ name }) => name).join(", ")}`
    )
  }
  const rounds = values.rounds === undefined ? (values.quick ? 1 : 3) : Number(values.rounds)
  if (!Number.isSafeInteger(rounds) || rounds < 1) {
    return refuse(`--rounds ${values.rounds} is no count: give a whole number from 1`)
  }
  const share = values.share === undefined ? (values.quick ? 0.1 : 1) : Number(values.share)
  if (!(share > 0 && share <= 1)) return refuse(`--share ${values.share} is no part: give a number above 0 and up to 1`)
  const whole = positionals.length === 0 && share === 1 && !values.quick
  return {
    scenarios: positionals.length === 0 ? scenarios : scenarios.filter(({ name }) => positionals.includes(name)),
    rounds,
    quick: values.quick,
    share,
    profile: values.profile,
    out: values.out ?? (whole ? docs : undefined)
  }
}
