/**
 * `pnpm mutate [--only NAME,NAME] [--all]`: breaks the product on purpose, one way at a time, and sees its tests fail.
 *
 * First the tests are run unbroken, as a test that fails anyway kills nothing. Ends with 1 where a mutation survives,
 * does not fit the sources any more, or its test is not there.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import { readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { parseArgs } from "node:util"
import { ensureRedis } from "../support/ensure-redis.mjs"
import { applied, type Guard, type Mutation } from "./mutation.ts"
import { mutations } from "./mutations.ts"
import { buildLua, type Outcome, vitest, workspace } from "./workspace.ts"

const usage = `pnpm mutate [--only NAME,NAME] [--all]

  --only    these mutations; default all ${mutations.length}
  --all     where its own test stays green, the whole suite is asked

${mutations.map(({ edits: [{ file }], name }) => `  ${name.padEnd(40)} ${file}`).join("\n")}
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
      options: { only: { type: "string" }, all: { type: "boolean" }, help: { type: "boolean" } }
    })
    return values
  } catch (error) {
    return refuse(error instanceof Error ? error.message : String(error))
  }
}

const chosen = (only: string | undefined): ReadonlyArray<Mutation> =>
  only === undefined
    ? mutations
    : only
        .split(",")
        .map((name) => mutations.find((one) => one.name === name) ?? refuse(`there is no mutation "${name}"`))

/** A test that waits for what never comes is stopped after so long, and so is a run that hangs. */
const testTimeout = 15_000
const runTimeout = "2 minutes"

const escaped = (text: string) => text.replaceAll(/[.*+?^${}()|[\]\\]/g, "\\$&")

const argumentsOf = (project: Guard["project"], files: ReadonlyArray<string>, tests: ReadonlyArray<string>) => [
  `--project=${project}`,
  `--testTimeout=${testTimeout}`,
  "-t",
  tests.map(escaped).join("|"),
  ...new Set(files)
]

/** What became of a mutation. */
interface Verdict {
  readonly mutation: Mutation
  readonly isKilled: boolean
  /** The test that saw it, or what is wrong. */
  readonly by: string
  readonly seconds: number
}

const judge = ({ failed, passed, printed }: Outcome, { test }: Guard): Pick<Verdict, "isKilled" | "by"> => {
  const [first] = failed
  if (first !== undefined) return { isKilled: true, by: first }
  if (passed > 0) return { isKilled: false, by: "SURVIVED" }
  return { isKilled: false, by: `NO TEST RAN for "${test}"\n${printed.slice(-2000)}` }
}

const attempt = (root: string, mutation: Mutation, all: boolean) =>
  Effect.gen(function* () {
    const { edits, killedBy } = mutation
    const hasLua = edits.some(({ file }) => file.endsWith(".lua"))
    const originals = new Map<string, string>()
    const apply = () => {
      for (const edit of edits) {
        const path = join(root, edit.file)
        const text = readFileSync(path, "utf8")
        if (!originals.has(path)) originals.set(path, text)
        const changed = applied(edit, text)
        if (Result.isFailure(changed)) return changed.failure
        writeFileSync(path, changed.success)
      }
      return undefined
    }
    const restore = Effect.gen(function* () {
      for (const [path, text] of originals) writeFileSync(path, text)
      if (hasLua) yield* buildLua(root)
    })
    return yield* Effect.gen(function* () {
      const problem = apply()
      if (problem !== undefined) return { isKilled: false, by: `DOES NOT APPLY: ${problem}` }
      if (hasLua) yield* buildLua(root)
      const narrow = vitest(root, argumentsOf(killedBy.project, [killedBy.file], [killedBy.test]))
      const outcome = yield* Effect.timeoutOption(narrow, runTimeout)
      if (Option.isNone(outcome)) return { isKilled: true, by: `${killedBy.test} (it hangs)` }
      const verdict = judge(outcome.value, killedBy)
      if (verdict.isKilled || !all) return verdict
      const inMemory = judge(yield* vitest(root, ["--project=unit", "--bail=1"]), killedBy)
      return inMemory.isKilled ? inMemory : judge(yield* vitest(root, ["--project=redis", "--bail=1"]), killedBy)
    }).pipe(Effect.ensuring(restore))
  })

/** The tests unbroken: what is red, or is not there. */
const baseline = (root: string, selected: ReadonlyArray<Mutation>) =>
  Effect.forEach(["unit", "redis"] as const, (project) => {
    const guards = selected.map(({ killedBy }) => killedBy).filter((guard) => guard.project === project)
    if (guards.length === 0) return Effect.succeed([])
    const files = guards.map(({ file }) => file)
    const tests = guards.map(({ test }) => test)
    return Effect.map(vitest(root, argumentsOf(project, files, tests)), ({ failed, passed, printed }) => {
      if (passed + failed.length === 0) return [`no test of ${project} ran:\n${printed}`]
      return failed.map((test) => `red without a mutation: ${test}`)
    })
  })

const secondsSince = (begun: number) => (performance.now() - begun) / 1000

const table = (verdicts: ReadonlyArray<Verdict>) => {
  const rows = verdicts.map(({ by, isKilled, mutation, seconds }) => [
    isKilled ? "killed" : "ALIVE",
    mutation.name,
    mutation.edits.map(({ file }) => file.replace(/^packages\/(\w+)\/src\//, "$1/")).join(", "),
    by.split("\n")[0] ?? "",
    seconds.toFixed(1)
  ])
  const head = ["", "mutation", "where", "killed by", "seconds"]
  const widths = head.map((name, at) => Math.max(name.length, ...rows.map((row) => (row[at] ?? "").length)))
  const line = (row: ReadonlyArray<string>) =>
    row
      .map((cell, at) => cell.padEnd(widths[at] ?? 0))
      .join("  ")
      .trimEnd()
  return [line(head), ...rows.map(line)].join("\n")
}

const { all = false, help, only } = options()
if (help === true) {
  console.log(usage)
  process.exit(0)
}
const selected = chosen(only)
ensureRedis()

const program = Effect.gen(function* () {
  const begun = performance.now()
  const root = yield* workspace
  const problems = (yield* baseline(root, selected)).flat()
  for (const problem of problems) console.log(problem)
  if (problems.length > 0) return false
  console.log(`the tests of ${selected.length} mutations are green without them, ${secondsSince(begun).toFixed(0)} s`)
  const verdicts: Array<Verdict> = []
  for (const mutation of selected) {
    const started = performance.now()
    const verdict = yield* attempt(root, mutation, all)
    const seconds = secondsSince(started)
    verdicts.push({ mutation, ...verdict, seconds })
    const how = verdict.isKilled ? "killed" : verdict.by
    console.log(`${verdicts.length}/${selected.length} ${mutation.name}: ${how}, ${seconds.toFixed(1)} s`)
  }
  const killed = verdicts.filter(({ isKilled }) => isKilled).length
  console.log(`\n${table(verdicts)}\n`)
  console.log(`killed ${killed} of ${verdicts.length} in ${secondsSince(begun).toFixed(0)} s`)
  return killed === verdicts.length
})

NodeRuntime.runMain(
  Effect.map(Effect.scoped(program), (isGood) => {
    if (!isGood) process.exitCode = 1
  })
)
