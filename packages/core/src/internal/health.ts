/**
 * Whether a subscription's loops can do their work. Each loop reports for itself, for each partition; a change of state is
 * one log line, however often a loop fails, and however many partitions it fails for.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { TransportError } from "../Errors.ts"

/** What a subscription does again and again, as its log lines name it. */
export type Loop =
  | "fetching"
  | "reading"
  | "settling"
  | "extending leases"
  | "marking"
  | "claiming"
  | "looking for workers"
  | "watching"
  | "reclaiming"
  | "trimming"

export interface Health {
  readonly failed: (loop: Loop, error: TransportError) => Effect.Effect<void>
  readonly worked: (loop: Loop) => Effect.Effect<void>
  /** It has nothing to do here any more: no problem, and no proof that it works. */
  readonly over: (loop: Loop) => void
  /** What is wrong now; `undefined` where nothing is. */
  readonly problem: () => TransportError | undefined
}

/** What somebody must change is another state than an outage, whose first loss of a reply and later silence are one. */
const isRefused = (error: TransportError): boolean => error.reason._tag === "Refused"

/** The health of several parts. */
export interface All {
  /** Of one of them, by its partition or whatever else it is known by. */
  readonly of: (part: unknown) => Health
  readonly problem: Health["problem"]
}

/** Of one subscription: the health of each of its partitions. */
export const makeAll = (): All => {
  const loops = new Map<Loop, Map<unknown, TransportError>>()
  /** Loops that were last said to fail. */
  const told = new Set<Loop>()
  const firstOf = (problems: ReadonlyMap<unknown, TransportError> | undefined) => problems?.values().next().value
  const problem = () => {
    for (const problems of loops.values()) {
      const first = firstOf(problems)
      if (first !== undefined) return first
    }
    return undefined
  }
  return {
    problem,
    of: (part) => ({
      failed: (loop, error) =>
        Effect.suspend(() => {
          const problems = loops.get(loop) ?? new Map<unknown, TransportError>()
          const before = problems.get(part) ?? firstOf(problems)
          loops.set(loop, problems.set(part, error))
          if (before !== undefined && isRefused(before) === isRefused(error)) return Effect.void
          told.add(loop)
          return Effect.logWarning(`${loop} is failing and goes on trying: ${error.message}`)
        }),
      worked: (loop) =>
        Effect.suspend(() => {
          const problems = loops.get(loop)
          if (problems === undefined) return Effect.void
          problems.delete(part)
          return problems.size === 0 && told.delete(loop) ? Effect.logInfo(`${loop} works again`) : Effect.void
        }),
      over: (loop) => void loops.get(loop)?.delete(part),
      problem
    })
  }
}

/**
 * How long to wait after the nth failure in a row: short at first, as most outages are; where somebody must change
 * something on the server, long, so that it is only probed.
 */
export const backoff = (failures: number, error: TransportError): Duration.Duration => {
  const [first, most] = error.reason._tag === "Refused" ? [1000, 30_000] : [50, 1000]
  return Duration.millis(Math.min(first * 2 ** Math.min(failures - 1, 16), most))
}
