/** A copy of the workspace in a temporary folder, where anything may be broken: the checkout is never written to. */
import * as Effect from "effect/Effect"
import { type ChildProcess, execFileSync, spawn } from "node:child_process"
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync } from "node:fs"
import { tmpdir } from "node:os"
import { dirname, join } from "node:path"
import { fileURLToPath } from "node:url"

const checkout = fileURLToPath(new URL("../..", import.meta.url))

/** It sees every mutation, and says nothing of the product. */
const ownTest = "test/mutations/mutations.test.ts"

/** Tracked or new, but nothing that is ignored. */
const files = () =>
  execFileSync("git", ["ls-files", "-z", "--cached", "--others", "--exclude-standard"], { cwd: checkout })
    .toString()
    .split("\0")
    .filter((file) => file !== "" && file !== ownTest && existsSync(join(checkout, file)))

const make = (): string => {
  const root = mkdtempSync(join(tmpdir(), "clutch-mutate-"))
  for (const file of files()) {
    mkdirSync(dirname(join(root, file)), { recursive: true })
    cpSync(join(checkout, file), join(root, file))
  }
  // not the folder itself, as caches are written into it
  mkdirSync(join(root, "node_modules"))
  for (const name of readdirSync(join(checkout, "node_modules"))) {
    if (!/^\.(vite|cache)/.test(name)) {
      symlinkSync(join(checkout, "node_modules", name), join(root, "node_modules", name))
    }
  }
  // links between packages are relative: copied as they are, they lead to the copies
  for (const folder of ["test", ...readdirSync(join(root, "packages")).map((name) => join("packages", name))]) {
    const modules = join(folder, "node_modules")
    if (existsSync(join(checkout, modules))) {
      cpSync(join(checkout, modules), join(root, modules), { recursive: true, verbatimSymlinks: true })
    }
  }
  return root
}

/** Removed with the Scope. */
export const workspace = Effect.acquireRelease(Effect.sync(make), (root) =>
  Effect.sync(() => rmSync(root, { recursive: true, force: true }))
)

const end = ({ pid }: ChildProcess) => {
  if (pid === undefined) return
  try {
    // with the workers and servers that it started
    process.kill(-pid, "SIGKILL")
  } catch {
    // it has ended by itself
  }
}

/** Runs Node in the copy; answers with all that it printed. */
const node = (root: string, args: ReadonlyArray<string>): Effect.Effect<string> =>
  Effect.callback((resume) => {
    const child = spawn(process.execPath, args, {
      cwd: root,
      detached: true,
      stdio: ["ignore", "pipe", "pipe"],
      env: { ...process.env, CLUTCH_SHORT: "1", CI: "true", FORCE_COLOR: "0" }
    })
    let printed = ""
    const keep = (text: Buffer) => {
      printed = (printed + text.toString()).slice(-20_000)
    }
    child.stdout.on("data", keep)
    child.stderr.on("data", keep)
    child.on("close", () => {
      end(child)
      resume(Effect.succeed(printed))
    })
    return Effect.sync(() => end(child))
  })

/** Writes the scripts into the package, as `pnpm lua` does. */
export const buildLua = (root: string) => node(root, ["packages/redis/scripts/build-lua.mjs"])

/** What a run of tests came to. */
export interface Outcome {
  readonly passed: number
  /** Their full titles. */
  readonly failed: ReadonlyArray<string>
  /** Only where no report was written. */
  readonly printed: string
}

interface Report {
  readonly testResults: ReadonlyArray<{
    readonly assertionResults: ReadonlyArray<{ readonly status: string; readonly fullName: string }>
  }>
}

/** Runs vitest in the copy. */
export const vitest = (root: string, args: ReadonlyArray<string>): Effect.Effect<Outcome> =>
  Effect.suspend(() => {
    const report = join(root, "mutate-report.json")
    rmSync(report, { force: true })
    const all = ["node_modules/vitest/vitest.mjs", "run", "--reporter=json", `--outputFile=${report}`, ...args]
    return Effect.map(node(root, all), (printed): Outcome => {
      if (!existsSync(report)) return { passed: 0, failed: [], printed }
      // vitest's own JSON report
      const { testResults } = JSON.parse(readFileSync(report, "utf8")) as Report
      const results = testResults.flatMap(({ assertionResults }) => assertionResults)
      return {
        passed: results.filter(({ status }) => status === "passed").length,
        failed: results.filter(({ status }) => status === "failed").map(({ fullName }) => fullName),
        printed
      }
    })
  })
