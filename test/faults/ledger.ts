/**
 * What every process of a scenario did, kept outside Redis: a file a process, a line of JSON an event.
 *
 * A line is written by one synchronous call before anything else happens, so a process that is killed leaves all that it
 * did up to then. Times are microseconds of the machine's monotonic clock, which all processes share and no jump moves.
 */
import type { Outcome } from "@clutch/core/Transport"
import { closeSync, openSync, readdirSync, readSync, writeSync } from "node:fs"
import { join } from "node:path"

/** A subscription's delivery of message `n`: `entry` is its stream and id there. */
export interface Delivered {
  readonly n: number
  readonly entry: string
  readonly attempt: number
}

export interface Settled extends Delivered {
  readonly outcome: Outcome["_tag"]
  /** As the log answered; `error` where it did not, and the call is repeated. */
  readonly how: "done" | "lost" | "unknown" | "error"
}

/** `from` is when a call was made, `at` when its answer was there. */
export type What =
  | { readonly is: "publishing"; readonly ns: ReadonlyArray<number> }
  | {
      readonly is: "published"
      readonly ns: ReadonlyArray<number>
      readonly from: number
      /** `unknown`: it may be stored. `refused`: it is not. */
      readonly how: "confirmed" | "unknown" | "refused"
      /** Entries that the topic's retention dropped meanwhile, as this publisher counts them since it began. */
      readonly trimmed: number
    }
  | { readonly is: "joined"; readonly sub: string; readonly consumer: string }
  | { readonly is: "fetched"; readonly sub: string; readonly entries: ReadonlyArray<Delivered> }
  | ({
      readonly is: "started"
      readonly sub: string
      readonly original: string
      readonly partition?: number
      /** Of a topic with a key. */
      readonly fence?: number | undefined
    } & Delivered)
  | ({
      readonly is: "ended"
      readonly sub: string
      readonly how: "succeeded" | "failed" | "interrupted"
    } & Delivered)
  | {
      readonly is: "settled"
      readonly sub: string
      readonly from: number
      /** Under which they were settled, of a topic with a key. */
      readonly fence?: number | undefined
      readonly entries: ReadonlyArray<Settled>
    }
  | {
      readonly is: "fault"
      readonly what: string
      readonly from: number
      /** The process it was done to, where it was one of ours. */
      readonly to?: string
      /**
       * It may lose what was confirmed so many milliseconds before it, and up to its end; absent where it loses nothing.
       * `"all"` stands for everything before.
       */
      readonly loses?: number | "all"
      /** Entries that it dropped from the topic. */
      readonly trimmed?: number
    }
  /** Messages published from then on are handled. */
  | { readonly is: "healed"; readonly from: number }

export type Event = What & { readonly at: number; readonly by: string }

export const now = (): number => Number(process.hrtime.bigint() / 1000n)

export interface Ledger {
  readonly write: (what: What) => void
  readonly close: () => void
}

/** The ledger of this process. */
export const open = (dir: string, by: string): Ledger => {
  const file = openSync(join(dir, `${by}.ledger`), "a")
  return {
    write: (what) => void writeSync(file, `${JSON.stringify({ at: now(), ...what })}\n`),
    close: () => closeSync(file)
  }
}

export interface Tail {
  /** What was written since the last call; file after file, each in order. */
  readonly poll: () => ReadonlyArray<Event>
}

/** Reads the ledgers of a folder while they grow. */
export const tail = (dir: string): Tail => {
  const files = new Map<string, { at: number }>()
  const chunk = Buffer.alloc(1 << 20)
  const read = (name: string, seen: { at: number }): ReadonlyArray<Event> => {
    const events: Array<Event> = []
    const by = name.replace(/\.ledger$/, "")
    const file = openSync(join(dir, name), "r")
    try {
      for (;;) {
        const length = readSync(file, chunk, 0, chunk.length, seen.at)
        if (length === 0) return events
        // up to the last whole line: what comes behind may be half of a character
        const end = chunk.lastIndexOf(10, length - 1) + 1
        if (end === 0) {
          if (length < chunk.length) return events
          throw new Error(`${name}: a line of more than ${chunk.length} bytes`)
        }
        seen.at += end
        for (const line of chunk.toString("utf8", 0, end - 1).split("\n")) {
          events.push({ ...(JSON.parse(line) as What & { readonly at: number }), by }) // written by `open`
        }
      }
    } finally {
      closeSync(file)
    }
  }
  return {
    poll: () => {
      const events: Array<Event> = []
      for (const name of readdirSync(dir)) {
        if (!name.endsWith(".ledger")) continue
        let seen = files.get(name)
        if (seen === undefined) files.set(name, (seen = { at: 0 }))
        events.push(...read(name, seen))
      }
      return events
    }
  }
}
