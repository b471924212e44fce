/** The options of a subscription, checked, with their defaults. One table names every option that there is. */
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import * as Result from "effect/Result"
import { type InvalidName, InvalidOption } from "../Errors.ts"
import * as Names from "../Names.ts"
import * as RetryPolicy from "../RetryPolicy.ts"
import type { StartPosition } from "../Transport.ts"
import * as durations from "./durations.ts"
import { isEntryId } from "./ids.ts"
import { shown } from "./shown.ts"
import { spelling } from "./spelling.ts"

/** What handlers are given: one delivery at a time, a batch, or none, where whoever takes from a stream is the handler. */
export type Kind = "each" | "batch" | "stream"

export type Ack = "onSuccess" | "manual" | "onExit" | "onReceive"

/** What `Subscription.make`, `batch` and `stream` were given, as untyped as a caller from JavaScript could make it. */
export interface RawOptions {
  readonly concurrency?: number | undefined
  readonly prefetch?: number | undefined
  readonly maxWaiting?: number | undefined
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
  /** Messages of a partition that wait behind others of their keys, at most. */
  readonly maxWaiting: number
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

const options: ReadonlySet<string> = new Set<keyof RawOptions>([
  "concurrency",
  "prefetch",
  "maxWaiting",
  "visibilityTimeout",
  "timeout",
  "drainTimeout",
  "maxLease",
  "from",
  "consumer",
  "ownConnection",
  "ack",
  "retry",
  "deadLetters",
  "onDeadLetter",
  "size",
  "within"
])

const acks: ReadonlySet<string> = new Set<Ack>(["onSuccess", "manual", "onExit", "onReceive"])

type Problem = InvalidOption | InvalidName

const refuse = (option: string, problem: string) => Result.fail(new InvalidOption({ option, problem }))

const count = (option: string, value: number): Result.Result<number, Problem> =>
  Number.isSafeInteger(value) && value >= 1
    ? Result.succeed(value)
    : refuse(option, `${shown(value)} is refused: give a whole number from 1`)

const duration = (option: string, input: Duration.Input, least = 0): Result.Result<Duration.Duration, Problem> => {
  const floor = Duration.millis(least)
  const value = Option.filter(durations.finite(input), Duration.isGreaterThanOrEqualTo(floor))
  return Option.isSome(value)
    ? Result.succeed(value.value)
    : refuse(option, `${shown(input)} is refused: give a finite duration from ${Duration.format(floor)}`)
}

const kind = <A>(option: string, type: "boolean" | "function", value: A): Result.Result<A, Problem> =>
  value === undefined || typeof value === type
    ? Result.succeed(value)
    : refuse(option, `${shown(value)} is refused: give ${type === "boolean" ? "true or false" : "a function"}`)

const startPosition = (from: StartPosition): Result.Result<StartPosition, Problem> => {
  if (from === "new" || from === "beginning") return Result.succeed(from)
  if (Predicate.hasProperty(from, "id")) {
    return isEntryId(from.id)
      ? Result.succeed(from)
      : refuse("from", `${shown(from.id)} is no entry id: give one like "1700000000000-0"`)
  }
  return Predicate.hasProperty(from, "time") && DateTime.isDateTime(from.time)
    ? Result.succeed(from)
    : refuse("from", `${shown(from)} is refused: give "new", "beginning", { id } or { time } with a DateTime`)
}

/** Options that are there, and go together. */
const contradiction = (raw: RawOptions, kind: Kind, ack: Ack): Result.Result<void, Problem> => {
  const misspelt = spelling(options, raw)
  if (misspelt !== undefined) return Result.fail(misspelt)
  // of a batch, a handler of single messages would see the first, and ack all of them
  for (const option of ["size", "within"] as const) {
    if (kind === "batch" || raw[option] === undefined) continue
    return refuse(option, "it is for batches: use Subscription.batch, or leave it out")
  }
  if (!acks.has(ack)) {
    return refuse("ack", `${shown(ack)} is refused: give "onSuccess", "manual", "onExit" or "onReceive"`)
  }
  const emptying = ack === "onExit" || ack === "onReceive"
  if (emptying && raw.retry !== undefined) {
    return refuse(
      "retry",
      `ack "${ack}" acks failures too, so nothing is left to retry: remove retry, or use ack "onSuccess"`
    )
  }
  if (emptying && raw.onDeadLetter !== undefined) {
    return refuse(
      "onDeadLetter",
      `ack "${ack}" never dead-letters a failure: remove onDeadLetter, or use ack "onSuccess"`
    )
  }
  return raw.deadLetters === false && raw.onDeadLetter !== undefined
    ? refuse("onDeadLetter", "deadLetters: false leaves nothing to call onDeadLetter for: remove one of the two")
    : Result.void
}

/** Whether the options mean something for such a topic: `raw` are those that were given. */
export const fits = (
  policy: Policy,
  raw: RawOptions,
  partitions: number,
  ordered: boolean
): Result.Result<void, Problem> => {
  if (raw.maxWaiting !== undefined && !ordered) {
    return refuse("maxWaiting", "only messages of a topic with a key wait for each other: leave the option out")
  }
  if (policy.ownConnection && (ordered || partitions > 1)) {
    const why = ordered ? "a topic with a key" : "a topic with several partitions"
    return refuse("ownConnection", `${why} is read over shared connections: leave the option out`)
  }
  return policy.prefetch !== undefined && policy.prefetch < partitions
    ? refuse("prefetch", `${policy.prefetch} is shared by ${partitions} partitions: give at least ${partitions}`)
    : Result.void
}

/** Checks every option. The failure names the option and the fix. */
export const make = (raw: RawOptions, kind: Kind): Result.Result<Policy, Problem> => Result.gen(() => made(raw, kind))

function* made(raw: RawOptions, of: Kind): Generator<Result.Result<unknown, Problem>, Policy, never> {
  const ack = raw.ack ?? "onSuccess"
  yield* contradiction(raw, of, ack)
  const problem = raw.consumer === undefined ? undefined : Names.invalid("consumer", raw.consumer)
  if (problem !== undefined) return yield* Result.fail(problem)
  if (raw.retry !== undefined && !Predicate.isObject(raw.retry)) {
    return yield* refuse("retry", `${shown(raw.retry)} is refused: give an object such as { maxRetries: 3 }`)
  }
  const { while: retryWhile, ...backoff } = raw.retry ?? {}
  return {
    concurrency: yield* count("concurrency", raw.concurrency ?? 1),
    prefetch: raw.prefetch === undefined ? undefined : yield* count("prefetch", raw.prefetch),
    maxWaiting: yield* count("maxWaiting", raw.maxWaiting ?? 10_000),
    visibilityTimeout: yield* duration("visibilityTimeout", raw.visibilityTimeout ?? "30 seconds", 10),
    timeout: raw.timeout === undefined ? undefined : yield* duration("timeout", raw.timeout, 1),
    drainTimeout: yield* duration("drainTimeout", raw.drainTimeout ?? "20 seconds"),
    maxLease: yield* duration("maxLease", raw.maxLease ?? "1 hour", 10),
    from: yield* startPosition(raw.from ?? "new"),
    consumer: raw.consumer,
    ownConnection: yield* kind("ownConnection", "boolean", raw.ownConnection ?? false),
    ack,
    retry: yield* RetryPolicy.make(backoff),
    // typed by the handler's errors where it was given
    retryWhile: (yield* kind("retry.while", "function", retryWhile)) as Policy["retryWhile"],
    deadLetters: yield* kind("deadLetters", "boolean", raw.deadLetters ?? true),
    // typed by the source where it was given
    onDeadLetter: (yield* kind("onDeadLetter", "function", raw.onDeadLetter)) as Policy["onDeadLetter"],
    size: yield* count("size", raw.size ?? 1),
    within: yield* duration("within", raw.within ?? 0)
  }
}
