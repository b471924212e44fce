/** Worker processes of a test: started, watched by what they print, told to stop, and gone when the scope closes. */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { spawn } from "node:child_process"
import { once } from "node:events"
import { createInterface } from "node:readline"
import { fileURLToPath } from "node:url"
import type { Place } from "../support/place.ts"
import { fresh, until } from "./kit.ts"

export interface WorkerSettings {
  readonly place: Place
  readonly namespace: string
  readonly topic: string
  readonly subscription: string
  /** Of its connections. */
  readonly name: string
  /** False where another process reclaims. */
  readonly reclaims?: boolean
  readonly options: {
    readonly concurrency?: number
    readonly prefetch?: number
    readonly consumer?: string
    readonly visibilityTimeout?: number
    readonly drainTimeout?: number
    readonly from?: "new" | "beginning"
    readonly ownConnection?: boolean
    readonly manual?: boolean
    readonly retry?: { readonly maxRetries?: number; readonly base?: number; readonly jitter?: number }
  }
}

export interface Event {
  readonly event: "start" | "end" | "settled" | "log" | "drained" | "watching"
  readonly data?: string
  readonly attempt?: number
  readonly consumer?: string
  /** When a handler began. */
  readonly at?: number
  readonly settled?: string
  readonly level?: string
  readonly text?: string
}

export interface Child {
  readonly events: ReadonlyArray<Event>
  readonly of: (event: Event["event"]) => ReadonlyArray<Event>
  /** What the handlers began with, in order. */
  readonly started: () => ReadonlyArray<string>
  readonly signal: (signal: "SIGTERM" | "SIGKILL" | "SIGSTOP" | "SIGCONT") => void
  /** Writes a line to its stdin. */
  readonly say: (line: string) => void
  readonly ended: Promise<number | string | null>
  readonly hasEnded: () => boolean
  readonly stderr: () => string
  /** Waits until it has printed such an event. */
  readonly prints: (what: string, match: (event: Event) => boolean, millis?: number) => Effect.Effect<void>
}

/** Starts `children/{program}.ts`. The scope kills it if it still runs. */
export const start = (
  program: "worker" | "reclaimer",
  settings: Omit<WorkerSettings, "name"> & { readonly name?: string }
): Effect.Effect<Child, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const file = fileURLToPath(new URL(`./children/${program}.ts`, import.meta.url))
      const process_ = spawn(process.execPath, [file], {
        stdio: ["pipe", "pipe", "pipe"],
        env: {
          PATH: process.env["PATH"],
          HOME: process.env["HOME"],
          NODE_OPTIONS: "--conditions=@clutch/source",
          CLUTCH_CASE: JSON.stringify({ name: fresh("child"), ...settings })
        }
      })
      const events: Array<Event> = []
      let stderr = ""
      let over = false
      createInterface({ input: process_.stdout }).on("line", (line) => {
        // a process that is killed may leave half a line
        if (line.endsWith("}")) events.push(JSON.parse(line) as Event) // the children print nothing else
      })
      process_.stderr.setEncoding("utf8").on("data", (text: string) => (stderr += text))
      process_.stdin.on("error", () => {})
      const ended = once(process_, "close").then(([code, signal]: ReadonlyArray<number | string | null>) => {
        over = true
        return code ?? signal ?? null
      })
      const child: Child = {
        events,
        of: (event) => events.filter((one) => one.event === event),
        started: () => events.flatMap(({ data, event }) => (event === "start" && data !== undefined ? [data] : [])),
        signal: (signal) => void process_.kill(signal),
        say: (line) => void process_.stdin.write(`${line}\n`),
        ended,
        hasEnded: () => over,
        stderr: () => stderr,
        prints: (what, match, millis = 30_000) =>
          until(
            `a child prints ${what}`,
            () => {
              if (events.some(match)) return true
              if (over) throw new Error(`it ended, and never printed ${what}:\n${JSON.stringify(events)}\n${stderr}`)
              return false
            },
            millis
          )
      }
      return child
    }),
    (child) =>
      Effect.promise(async () => {
        if (child.hasEnded()) return
        child.signal("SIGKILL")
        await child.ended
      })
  )
