/** The programs of a scenario as processes: bundled once, started often, gone when the scope closes. */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { build } from "esbuild"
import { type ChildProcess, spawn } from "node:child_process"
import { once } from "node:events"
import { appendFileSync } from "node:fs"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import type { Settings } from "./load.ts"

/**
 * The worker and the publisher as one file each: starting a process so costs a quarter of what it costs from sources, and
 * a scenario starts a thousand.
 */
export const bundle = (dir: string): Effect.Effect<void> =>
  Effect.promise(async () => {
    await build({
      entryPoints: ["worker", "publisher"].map((name) => fileURLToPath(new URL(`./${name}.ts`, import.meta.url))),
      outdir: dir,
      outExtension: { ".js": ".mjs" },
      bundle: true,
      platform: "node",
      format: "esm",
      target: "node22",
      conditions: ["@clutch/source"],
      // ioredis is CommonJS
      banner: { js: "import { createRequire } from 'node:module'; const require = createRequire(import.meta.url);" },
      logLevel: "error"
    })
  })

export interface Process {
  readonly by: string
  readonly pid: number
  readonly signal: (signal: "SIGTERM" | "SIGKILL" | "SIGSTOP" | "SIGCONT") => void
  /** Ends its input. */
  readonly endInput: () => void
  readonly ended: Promise<number | string | null>
  readonly hasEnded: () => boolean
}

// whatever ends this process, none of these may stay
const running = new Set<ChildProcess>()
process.on("exit", () => {
  for (const child of running) child.kill("SIGKILL")
})

/** Starts a bundled program. What it prints goes to a file beside its ledger. The scope kills it if it still runs. */
export const start = (
  program: "worker" | "publisher",
  settings: Settings
): Effect.Effect<Process, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const { by, dir } = settings
      const child = spawn(process.execPath, [join(dir, `${program}.mjs`)], {
        stdio: ["pipe", "pipe", "pipe"],
        // a group of its own: what a terminal sends to this one is not for them
        detached: true,
        env: { PATH: process.env["PATH"], HOME: process.env["HOME"], CLUTCH_FAULTS: JSON.stringify(settings) }
      })
      running.add(child)
      let over = false
      const keep = (text: string) => appendFileSync(join(dir, `${by}.log`), text)
      child.stdout.setEncoding("utf8").on("data", keep)
      child.stderr.setEncoding("utf8").on("data", keep)
      child.stdin.on("error", () => {})
      const ended = once(child, "close").then(([code, signal]: ReadonlyArray<number | string | null>) => {
        over = true
        running.delete(child)
        return code ?? signal ?? null
      })
      return {
        by,
        pid: child.pid ?? -1,
        signal: (signal) => void child.kill(signal),
        endInput: () => child.stdin.end(),
        ended,
        hasEnded: () => over
      } satisfies Process
    }),
    (child) =>
      Effect.promise(async () => {
        if (child.hasEnded()) return
        child.signal("SIGKILL")
        await child.ended
      })
  )
