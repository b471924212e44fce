/**
 * Whether a subscription's loops can do their work. Each loop reports for itself, for each partition; a change of state is
 * one log line, however often a loop fails, and however many partitions it fails for.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { TransportError } from "../Errors.ts"

export interface Health {
  readonly failed: (loop: string, error: TransportError) => Effect.Effect<void>
  readonly worked: (loop: string) => Effect.Effect<void>
  /** What is wrong now; `undefined` where nothing is. */
  readonly problem: () => TransportError | undefined
}

/** What somebody must change is another state than an outage, whose first loss of a reply and later silence are one. */
const isRefused = (error: TransportError): boolean => error.reason._tag === "Refused"

/** Of one subscription: the health of each of its partitions. */
export const makeAll = (): { readonly of: (partition: number) => Health; readonly problem: Health["problem"] } => {
  const loops = new Map<string, Map<number, TransportError>>()
  const firstOf = (problems: ReadonlyMap<number, TransportError> | undefined) => problems?.values().next().value
  const problem = () => {
    for (const problems of loops.values()) {
      const first = firstOf(problems)
      if (first !== undefined) return first
    }
    return undefined
  }
  return {
    problem,
    of: (partition) => ({
      failed: (loop, error) =>
        Effect.suspend(() => {
          const problems = loops.get(loop) ?? new Map<number, TransportError>()
          const before = problems.get(partition) ?? firstOf(problems)
          loops.set(loop, problems.set(partition, error))
          return before !== undefined && isRefused(before) === isRefused(error)
            ? Effect.void
            : Effect.logWarning(`${loop} is failing and goes on trying: ${error.message}`)
        }),
      worked: (loop) =>
        Effect.suspend(() => {
          const problems = loops.get(loop)
          return problems?.delete(partition) === true && problems.size === 0
            ? Effect.logInfo(`${loop} works again`)
            : Effect.void
        }),
      problem
    })
  }
}

export const make = (): Health => makeAll().of(0)

/**
 * How long to wait after the nth failure in a row: short at first, as most outages are; where somebody must change
 * something on the server, long, so that it is only probed.
 */
export const backoff = (failures: number, error: TransportError): Duration.Duration => {
  const [first, most] = error.reason._tag === "Refused" ? [1000, 30_000] : [50, 1000]
  return Duration.millis(Math.min(first * 2 ** Math.min(failures - 1, 16), most))
}
