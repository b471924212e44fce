/** The options of a subscription, checked, with their defaults. One table names every option that there is. */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import { InvalidName, InvalidOption } from "../Errors.ts"
import * as Names from "../Names.ts"
import * as RetryPolicy from "../RetryPolicy.ts"
import type { StartPosition } from "../Transport.ts"

export type Ack = "onSuccess" | "manual" | "onExit" | "onReceive"

/** What `Subscription.make`, `batch` and `stream` were given, as untyped as a caller from JavaScript could make it. */
export interface RawOptions {
  readonly concurrency?: number | undefined
  readonly prefetch?: number | undefined
  readonly visibilityTimeout?: Duration.Input | undefined
  readonly timeout?: Duration.Input | undefined
  readonly drainTimeout?: Duration.Input | undefined
  readonly maxLease?: Duration.Input | undefined
  readonly from?: StartPosition | undefined
  readonly consumer?: string | undefined
  readonly ownConnection?: boolean | undefined
  readonly ack?: Ack | undefined
  readonly retry?: (RetryPolicy.Options & { readonly while?: ((error: never) => boolean) | undefined }) | undefined
  readonly deadLetters?: boolean | undefined
  readonly onDeadLetter?: ((letter: never) => Effect.Effect<unknown, unknown, unknown>) | undefined
  readonly size?: number | undefined
  readonly within?: Duration.Input | undefined
}

export interface Policy {
  /** Handlers at once; for batches, batches at once. */
  readonly concurrency: number
  /** Unsettled deliveries at most; `undefined` adapts. */
  readonly prefetch: number | undefined
  readonly visibilityTimeout: Duration.Duration
  readonly timeout: Duration.Duration | undefined
  readonly drainTimeout: Duration.Duration
  readonly maxLease: Duration.Duration
  readonly from: StartPosition
  readonly consumer: string | undefined
  readonly ownConnection: boolean
  readonly ack: Ack
  readonly retry: RetryPolicy.RetryPolicy
  readonly retryWhile: ((error: unknown) => boolean) | undefined
  readonly deadLetters: boolean
  readonly onDeadLetter: ((letter: unknown) => Effect.Effect<unknown, unknown, unknown>) | undefined
  /** Deliveries a handler is given at once. */
  readonly size: number
  readonly within: Duration.Duration
}

const options: Record<keyof RawOptions, true> = {
  concurrency: true,
  prefetch: true,
  visibilityTimeout: true,
  timeout: true,
  drainTimeout: true,
  maxLease: true,
  from: true,
  consumer: true,
  ownConnection: true,
  ack: true,
  retry: true,
  deadLetters: true,
  onDeadLetter: true,
  size: true,
  within: true
}

const acks: ReadonlySet<string> = new Set<Ack>(["onSuccess", "manual", "onExit", "onReceive"])

class Problem extends Error {
  readonly reason: InvalidOption | InvalidName
  constructor(reason: InvalidOption | InvalidName) {
    super(reason.message)
    this.reason = reason
  }
}

const refuse = (option: string, problem: string): never => {
  throw new Problem(new InvalidOption({ option, problem }))
}

const count = (option: string, value: number, least: number): number =>
  Number.isSafeInteger(value) && value >= least
    ? value
    : refuse(option, `${String(value)} is refused: give a whole number from ${least}`)

const duration = (option: string, input: Duration.Input, least: Duration.Input): Duration.Duration => {
  const value = Option.getOrUndefined(Duration.fromInput(input))
  const floor = Duration.fromInputUnsafe(least)
  return value !== undefined && Duration.isFinite(value) && Duration.isGreaterThanOrEqualTo(value, floor)
    ? value
    : refuse(option, `${String(input)} is refused: give a finite duration from ${Duration.format(floor)}`)
}

const startPosition = (from: StartPosition): StartPosition => {
  if (from === "new" || from === "beginning") return from
  if (typeof from === "object" && from !== null && "id" in from) {
    return /^\d{1,20}-\d{1,20}$/.test(from.id) ? from : refuse("from", `${JSON.stringify(from.id)} is no entry id: give one like "1700000000000-0"`)
  }
  if (typeof from === "object" && from !== null && "time" in from) return from
  return refuse("from", `give "new", "beginning", { id } or { time }`)
}

const build = (raw: RawOptions): Policy => {
  for (const option of Object.keys(raw)) {
    if (!(option in options)) refuse(option, "there is no such option: remove it, or check its spelling")
  }
  const ack = raw.ack ?? "onSuccess"
  if (!acks.has(ack)) refuse("ack", `${String(ack)} is refused: give "onSuccess", "manual", "onExit" or "onReceive"`)
  const emptying = ack === "onExit" || ack === "onReceive"
  if (emptying && raw.retry !== undefined) {
    refuse("retry", `ack "${ack}" acks failures too, so nothing is left to retry: remove retry, or use ack "onSuccess"`)
  }
  if (emptying && raw.onDeadLetter !== undefined) {
    refuse("onDeadLetter", `ack "${ack}" never dead-letters a failure: remove onDeadLetter, or use ack "onSuccess"`)
  }
  const deadLetters = raw.deadLetters ?? true
  if (!deadLetters && raw.onDeadLetter !== undefined) {
    refuse("onDeadLetter", "deadLetters: false leaves nothing to call onDeadLetter for: remove one of the two")
  }
  if (raw.consumer !== undefined) {
    const problem = Names.invalid("consumer", raw.consumer)
    if (problem !== undefined) throw new Problem(problem)
  }
  const { while: retryWhile, ...backoff } = raw.retry ?? {}
  const retry = RetryPolicy.make(backoff)
  if (Result.isFailure(retry)) throw new Problem(retry.failure)
  const size = count("size", raw.size ?? 1, 1)
  return {
    concurrency: count("concurrency", raw.concurrency ?? 1, 1),
    prefetch: raw.prefetch === undefined ? undefined : count("prefetch", raw.prefetch, 1),
    visibilityTimeout: duration("visibilityTimeout", raw.visibilityTimeout ?? "30 seconds", "10 millis"),
    timeout: raw.timeout === undefined ? undefined : duration("timeout", raw.timeout, "1 millis"),
    drainTimeout: duration("drainTimeout", raw.drainTimeout ?? "20 seconds", "0 millis"),
    maxLease: duration("maxLease", raw.maxLease ?? "1 hour", "10 millis"),
    from: startPosition(raw.from ?? "new"),
    consumer: raw.consumer,
    ownConnection: raw.ownConnection ?? false,
    ack,
    retry: retry.success,
    retryWhile: retryWhile as Policy["retryWhile"], // typed by the handler's errors where it was given
    deadLetters,
    onDeadLetter: raw.onDeadLetter as Policy["onDeadLetter"], // typed by the source where it was given
    size,
    within: duration("within", raw.within ?? 0, "0 millis")
  }
}

/** Checks every option. The failure names the option and the fix. */
export const make = (raw: RawOptions): Result.Result<Policy, InvalidOption | InvalidName> =>
  Result.try({
    try: () => build(raw),
    catch: (error) => {
      if (error instanceof Problem) return error.reason
      throw error
    }
  })
