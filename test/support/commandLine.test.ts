/** The programs that take minutes begin with nothing that they were not asked for. */
import { spawnSync } from "node:child_process"
import { fileURLToPath } from "node:url"
import { describe, expect, it } from "vitest"

const run = (program: string, args: ReadonlyArray<string>, env: Readonly<Record<string, string>> = {}) => {
  const file = fileURLToPath(new URL(`../${program}`, import.meta.url))
  const { status, stderr, stdout } = spawnSync(process.execPath, ["--conditions=@clutch/source", file, ...args], {
    encoding: "utf8",
    env: { ...process.env, NODE_OPTIONS: "", ...env },
    timeout: 20_000
  })
  return { status, stderr, stdout }
}

describe("a command line", () => {
  it.each(["simulator/run.ts", "growth/growth.ts", "soak/soak.ts", "faults/run.ts", "mutations/run.ts"])(
    "%s tells what it takes, and refuses what it does not know",
    (program) => {
      const help = run(program, ["--help"])
      expect(help.stdout).toMatch(/^pnpm \w+/)
      expect(help.status).toBe(0)
      const unknown = run(program, ["--nonsense"])
      expect(unknown.stderr).toContain("'--nonsense'")
      expect(unknown.stderr).toContain(help.stdout.trim())
      expect(unknown.status).toBe(2)
    }
  )

  it.each([
    ["simulator/run.ts", ["many"], {}, /histories many is no count/],
    ["simulator/run.ts", ["0"], {}, /histories 0 is no count/],
    ["simulator/run.ts", ["500", "seed", "more"], {}, /unexpected: more/],
    ["growth/growth.ts", ["nonsense"], {}, /no part is called nonsense; there are backlog, /],
    ["growth/growth.ts", ["backlog"], { CLUTCH_SIZES: "10,x" }, /CLUTCH_SIZES x is no count/],
    ["growth/growth.ts", ["backlog"], { CLUTCH_CALLS: "0" }, /CLUTCH_CALLS 0 is no count/],
    ["soak/soak.ts", ["fast"], {}, /unexpected: fast/],
    ["soak/soak.ts", [], { CLUTCH_MESSAGES: "many" }, /CLUTCH_MESSAGES many is no count/],
    ["faults/run.ts", ["--scale", "Infinity"], {}, /--scale Infinity is no number above 0/]
  ] as const)("%s %j with %j is refused", (program, args, env, problem) => {
    const { status, stderr } = run(program, args, env)
    expect(stderr).toMatch(problem)
    expect(status).toBe(2)
  })
})
