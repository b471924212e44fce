/**
 * What to do with a delivery that failed: try again, how often, how soon.
 *
 * A policy is a pure value. A subscription asks it once for each failure; the attempt is counted by the log, across
 * processes, so a policy keeps no state. Delays are measured from the failure, not from the first try.
 *
 * @since 0.1.0
 */
import * as Duration from "effect/Duration"
import * as Inspectable from "effect/Inspectable"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import { InvalidOption } from "./Errors.ts"
import * as durations from "./internal/durations.ts"
import { spelling } from "./internal/spelling.ts"

/**
 * A checked policy.
 *
 * @category models
 * @since 0.1.0
 */
export interface RetryPolicy {
  /** Tries after the first; `Infinity` where they are unlimited. */
  readonly maxRetries: number
  /** Delay before the second try, before jitter. */
  readonly base: Duration.Duration
  /** What the delay is multiplied by for each further try; at least 1. */
  readonly factor: number
  /** No delay is longer, jitter included. */
  readonly maxDelay: Duration.Duration
  /** Up to this share of the delay is added at random; from 0 to 1. */
  readonly jitter: number
}

/**
 * How a policy is asked for.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /** Tries after the first: a whole number from 0, or `"unlimited"`. Default 5. `0` dead-letters the first failure. */
  readonly maxRetries?: number | "unlimited" | undefined
  /** Delay before the second try. Default 1 second. */
  readonly base?: Duration.Input | undefined
  /** What the delay is multiplied by for each further try, at least 1. Default 2. */
  readonly factor?: number | undefined
  /** No delay is longer, jitter included. Default 15 minutes. */
  readonly maxDelay?: Duration.Input | undefined
  /** Up to this share of the delay is added at random, from 0 to 1. Default 0.2: at most a fifth longer. */
  readonly jitter?: number | undefined
}

const known: ReadonlySet<string> = new Set<keyof Options>(["maxRetries", "base", "factor", "maxDelay", "jitter"])

const bad = (option: string, problem: string) => Result.fail(new InvalidOption({ option: `retry.${option}`, problem }))

/**
 * Checks the options and fills in the defaults. Fails with the option that makes no sense, and the fix.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (options: Options = {}): Result.Result<RetryPolicy, InvalidOption> => {
  const misspelt = spelling(known, options)
  if (misspelt !== undefined) return bad(misspelt.option, misspelt.problem)
  const { factor = 2, jitter = 0.2, maxRetries = 5 } = options
  if (maxRetries !== "unlimited" && !(Number.isSafeInteger(maxRetries) && maxRetries >= 0)) {
    return bad("maxRetries", `${String(maxRetries)} is no count: give a whole number from 0, or "unlimited"`)
  }
  if (!(Number.isFinite(factor) && factor >= 1)) {
    return bad("factor", `${String(factor)} would shorten the delays: give a number from 1`)
  }
  if (!(jitter >= 0 && jitter <= 1)) return bad("jitter", `${String(jitter)} is no share: give a number from 0 to 1`)
  const base = durations.finite(options.base ?? "1 second")
  if (Option.isNone(base))
    return bad("base", `${Inspectable.toStringUnknown(options.base)} is no finite duration from 0`)
  const maxDelay = durations.finite(options.maxDelay ?? "15 minutes")
  if (Option.isNone(maxDelay))
    return bad("maxDelay", `${Inspectable.toStringUnknown(options.maxDelay)} is no finite duration from 0`)
  return Result.succeed({
    maxRetries: maxRetries === "unlimited" ? Number.POSITIVE_INFINITY : maxRetries,
    base: base.value,
    factor,
    maxDelay: maxDelay.value,
    jitter
  })
}

/**
 * The delay after failed attempt `attempt` (1 is the first): `base × factor^(attempt − 1)`, jitter added upward, capped
 * last. `random` is a number from 0 to 1. Attempts of any size give a finite delay.
 *
 * @category getters
 * @since 0.1.0
 */
export const delay = (self: RetryPolicy, attempt: number, random: number): Duration.Duration => {
  const base = Duration.toMillis(self.base)
  // attempts beyond count change nothing: the power is infinite long before, or 1 for ever
  const power = self.factor ** Math.min(Math.max(0, attempt - 1), Number.MAX_SAFE_INTEGER)
  // a base of 0 stays 0, also where the power is infinite
  const grown = base === 0 ? 0 : base * power
  return Duration.millis(Math.min(grown * (1 + self.jitter * random), Duration.toMillis(self.maxDelay)))
}
