import { DoNotRetry, RetryAfter, Unsettled } from "@clutch/core/Errors"
import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Result from "effect/Result"
import * as failure from "../../../packages/core/src/internal/failure.ts"
import * as policies from "../../../packages/core/src/internal/policy.ts"

const policy = (retry: policies.RawOptions["retry"] = {}) =>
  Result.getOrThrow(policies.make({ retry: { jitter: 0, ...retry } }, "each"))

class Declined extends Error {
  readonly code: number
  constructor(code: number) {
    super(`declined with ${code}`)
    this.code = code
  }
}

/** "retry in 1000 ms" or "dead: exhausted after 6". */
const verdict = (cause: Cause.Cause<unknown>, attempt = 1, self = policy(), random = 0) => {
  const outcome = failure.decide(self, cause, attempt, random)
  if (outcome._tag === "Retry") return `retry in ${Duration.toMillis(outcome.delay)} ms`
  return outcome._tag === "DeadLetter" ? `dead: ${outcome.reason} after ${outcome.attempts}` : outcome._tag
}

const no = Cause.fail(new Declined(503))

describe("failure", () => {
  it.each([
    [1, "retry in 1000 ms"],
    [2, "retry in 2000 ms"],
    [5, "retry in 16000 ms"],
    [6, "dead: exhausted after 6"],
    [7, "dead: exhausted after 7"]
  ])("4. with 5 retries, failed attempt %i is: %s", (attempt, expected) => {
    assert.strictEqual(verdict(no, attempt), expected)
  })

  it("4. maxRetries 0 dead-letters the first failure; unlimited never gives up", () => {
    assert.strictEqual(verdict(no, 1, policy({ maxRetries: 0 })), "dead: exhausted after 1")
    for (const attempt of [1e9, Number.MAX_SAFE_INTEGER]) {
      assert.strictEqual(verdict(no, attempt, policy({ maxRetries: "unlimited" })), "retry in 900000 ms")
    }
  })

  it("5. jitter comes from the given random number", () => {
    assert.strictEqual(verdict(no, 1, policy({ jitter: 0.2 }), 0.5), "retry in 1100 ms")
  })

  it.each([
    ["a defect", Cause.die(new Error("bug"))],
    ["an interrupt", Cause.interrupt(1)],
    ["an error with a finalizer's defect", Cause.combine(no, Cause.die("finalizer"))],
    ["nothing at all", Cause.empty]
  ])("4. %s counts as a failure", (_, cause) => {
    assert.strictEqual(verdict(cause), "retry in 1000 ms")
    assert.strictEqual(verdict(cause, 6), "dead: exhausted after 6")
  })

  it.each([
    ["5 seconds", "retry in 5000 ms"],
    [0, "retry in 0 ms"],
    ["2 hours", "retry in 7200000 ms"],
    ["Infinity", "retry in 1000 ms"],
    ["-1 second", "retry in 1000 ms"],
    [Number.NaN, "retry in 1000 ms"]
  ] as const)("5. RetryAfter(%s) carries its own delay where it is one: %s", (delay, expected) => {
    assert.strictEqual(verdict(Cause.fail(new RetryAfter({ delay }))), expected)
  })

  it("5. RetryAfter counts as an attempt", () => {
    assert.strictEqual(verdict(Cause.fail(new RetryAfter({ delay: 0 })), 6), "dead: exhausted after 6")
  })

  it("5. DoNotRetry is dead-lettered at once, with its reason first", () => {
    const cause = Cause.fail(new DoNotRetry({ reason: "the card is stolen", cause: new Error("code 43") }))
    const outcome = failure.decide(policy(), cause, 1, 0)
    if (outcome._tag !== "DeadLetter") return assert.fail(outcome._tag)
    assert.strictEqual(outcome.reason, "notRetryable")
    assert.strictEqual(outcome.attempts, 1)
    assert.isTrue(outcome.cause.startsWith("the card is stolen\n"))
  })

  it("while decides about the handler's own errors", () => {
    const choosy = policy({ while: (error: Declined) => error.code >= 500 })
    assert.strictEqual(verdict(Cause.fail(new Declined(503)), 1, choosy), "retry in 1000 ms")
    assert.strictEqual(verdict(Cause.fail(new Declined(402)), 1, choosy), "dead: notRetryable after 1")
    assert.strictEqual(verdict(Cause.fail(new Declined(503)), 6, choosy), "dead: exhausted after 6")
  })

  it.each([
    ["a defect", Cause.die(new Declined(402))],
    ["an interrupt", Cause.interrupt(1)],
    ["a timeout of the subscription", Cause.fail(new failure.HandlerTimeout(Duration.seconds(5)))],
    ["RetryAfter", Cause.fail(new RetryAfter({ delay: "1 second" }))],
    ["a delivery that was left unsettled", Cause.fail(new Unsettled({}))]
  ])("while is not asked about %s", (_, cause) => {
    const asked: Array<unknown> = []
    const never = policy({ while: (error) => asked.push(error) < 0 })
    assert.strictEqual(verdict(cause, 1, never), "retry in 1000 ms")
    assert.deepStrictEqual(asked, [])
  })

  it("a timeout says how long the handler had", () => {
    assert.include(new failure.HandlerTimeout(Duration.seconds(5)).message, "5s")
  })

  it("the cause is kept in words, and bounded", () => {
    assert.include(failure.describe(Cause.fail(new Declined(503))), "declined with 503")
    const long = failure.describe(Cause.fail("x".repeat(100_000)))
    assert.isAtMost(long.length, 8193)
    assert.isTrue(long.endsWith("…"))
  })
})
