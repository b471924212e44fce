/** Command lines of words: what a program does not know it refuses, with what there is. */
import { parseArgs } from "node:util"

export interface CommandLine {
  readonly words: ReadonlyArray<string>
  /** Ends the process with 2. */
  readonly refuse: (problem: string) => never
  /** A whole number from 1, by what it is called and how it was given; ends the process where it is none. */
  readonly count: (name: string, given: string) => number
}

/** At most so many words, and `--help`, which ends the process. */
export const commandLine = (usage: string, most: number): CommandLine => {
  const refuse = (problem: string): never => {
    console.error(`${problem}\n\n${usage}`)
    process.exit(2)
  }
  const parsed = () => {
    try {
      return parseArgs({
        // pnpm hands its own separator on
        args: process.argv.slice(2).filter((argument) => argument !== "--"),
        allowPositionals: true,
        options: { help: { type: "boolean" } }
      })
    } catch (error) {
      return refuse(error instanceof Error ? error.message : String(error))
    }
  }
  const { positionals, values } = parsed()
  if (values.help === true) {
    console.log(usage)
    process.exit(0)
  }
  if (positionals.length > most) refuse(`unexpected: ${positionals.slice(most).join(" ")}`)
  return {
    words: positionals,
    refuse,
    count: (name, given) => {
      const value = Number(given)
      return Number.isSafeInteger(value) && value >= 1
        ? value
        : refuse(`${name} ${given} is no count: give a whole number from 1`)
    }
  }
}
