/** What becomes of a delivery whose handler failed: a pure function of the policy, the failure and the attempt. */
import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Option from "effect/Option"
import { DoNotRetry, RetryAfter, Unsettled } from "../Errors.ts"
import * as RetryPolicy from "../RetryPolicy.ts"
import type { Outcome } from "../Transport.ts"
import * as durations from "./durations.ts"
import type { Policy } from "./policy.ts"

/** A handler ran longer than the subscription's `timeout`. Not seen by `while`, which sees the handler's own errors. */
export class HandlerTimeout extends Error {
  readonly _tag = "HandlerTimeout"
  constructor(timeout: Duration.Duration) {
    super(`the handler did not end within its timeout of ${Duration.format(timeout)}`)
  }
}

/** Of an error that cannot even be looked at. */
export const unprintable = "the failure cannot be printed"

const maxCause = 8192

const printed = (cause: Cause.Cause<unknown>): string => {
  const limit = Error.stackTraceLimit
  // printing makes errors whose own stacks nobody sees, and a stack costs many times what the rest does
  Reflect.set(Error, "stackTraceLimit", 0)
  try {
    return Cause.pretty(cause)
  } catch {
    // an error may have getters that throw: it is a failure like any other
    return unprintable
  } finally {
    Reflect.set(Error, "stackTraceLimit", limit)
  }
}

/** A cause in words, as it is kept with a message. Bounded: a stack is for people, and is stored with every retry. */
export const describe = (cause: Cause.Cause<unknown>): string => {
  const text = printed(cause)
  return text.length > maxCause ? `${text.slice(0, maxCause)}…` : text
}

export const maxAttempts = (policy: Policy): number => policy.retry.maxRetries + 1

/** Another attempt after `delay`, where one is left. */
export const retryOrExhausted = (policy: Policy, attempt: number, delay: Duration.Duration, cause: string): Outcome =>
  attempt < maxAttempts(policy)
    ? { _tag: "Retry", delay, cause }
    : { _tag: "DeadLetter", reason: "exhausted", cause, attempts: attempt }

const worthRetry = (policy: Policy, error: unknown): boolean => {
  // these two are the runtime's, and no errors of the handler's
  if (policy.retryWhile === undefined || error instanceof HandlerTimeout || error instanceof Unsettled) return true
  return policy.retryWhile(error)
}

/** `random` is from 0 to 1. Throws what the policy's `while` throws. */
export const decide = (policy: Policy, cause: Cause.Cause<unknown>, attempt: number, random: number): Outcome => {
  const text = describe(cause)
  const error = Cause.findErrorOption(cause)
  const backoff = RetryPolicy.delay(policy.retry, attempt, random)
  if (Option.isNone(error)) return retryOrExhausted(policy, attempt, backoff, text)
  if (error.value instanceof DoNotRetry) {
    // people look for the reason: before the stack
    return { _tag: "DeadLetter", reason: "notRetryable", cause: `${error.value.reason}\n${text}`, attempts: attempt }
  }
  if (error.value instanceof RetryAfter) {
    const asked = durations.finite(error.value.delay)
    return retryOrExhausted(
      policy,
      attempt,
      Option.getOrElse(asked, () => backoff),
      text
    )
  }
  return worthRetry(policy, error.value)
    ? retryOrExhausted(policy, attempt, backoff, text)
    : { _tag: "DeadLetter", reason: "notRetryable", cause: text, attempts: attempt }
}
