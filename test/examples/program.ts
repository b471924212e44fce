/**
 * Example programs as child processes: started, watched by what they print, told to stop.
 */
import { spawn } from "node:child_process"
import { once } from "node:events"
import { fileURLToPath } from "node:url"

const sources = new URL("../../packages/examples/src/", import.meta.url)

export interface Ended {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

export interface Program {
  /** Resolves when its stdout holds the text; rejects when it ends without. */
  readonly prints: (text: string) => Promise<void>
  readonly signal: (signal: "SIGINT" | "SIGTERM" | "SIGKILL") => void
  readonly ended: Promise<Ended>
}

// a failed test must leave no process behind
const running = new Set<() => void>()
process.on("exit", () => running.forEach((kill) => kill()))

/** Starts `packages/examples/src/{name}.ts`. */
export const start = (
  name: string,
  args: ReadonlyArray<string> = [],
  env: Readonly<Record<string, string>> = {}
): Program => {
  const file = fileURLToPath(new URL(`${name}.ts`, sources))
  const child = spawn(process.execPath, ["--conditions=@clutch/source", file, ...args], {
    stdio: ["ignore", "pipe", "pipe"],
    // a vitest worker's own settings, such as its coverage or colours, are not the program's
    env: { PATH: process.env["PATH"], HOME: process.env["HOME"], NO_COLOR: "1", ...env }
  })
  const kill = () => void child.kill("SIGKILL")
  running.add(kill)
  let stdout = ""
  let stderr = ""
  let changed = () => {}
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    stdout += text
    changed()
  })
  child.stderr.setEncoding("utf8").on("data", (text: string) => (stderr += text))
  // "close" comes after the last of both streams, "exit" may not
  const ended = once(child, "close").then(([code]): Ended => {
    running.delete(kill)
    return { code, stdout, stderr }
  })
  return {
    prints: (text) => {
      const seen = new Promise<void>((resolve) => {
        changed = () => {
          if (stdout.includes(text)) resolve()
        }
        changed()
      })
      const early = ended.then(({ code }) => {
        if (!stdout.includes(text)) throw new Error(`ended with ${code} and never printed ${text}:\n${stdout}${stderr}`)
      })
      return Promise.race([seen, early])
    },
    signal: (signal) => void child.kill(signal),
    ended
  }
}

/** Runs it to its end. */
export const run = (...args: Parameters<typeof start>): Promise<Ended> => start(...args).ended
