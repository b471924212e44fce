import type { StartPosition } from "@clutch/core/Transport"
import { assert, describe, it } from "@effect/vitest"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import * as policies from "../../../packages/core/src/internal/policy.ts"

/** As untyped as a caller from JavaScript could make them. */
const make = (raw: Readonly<Record<string, unknown>>) => policies.make(raw, "batch")

const refused = (raw: Readonly<Record<string, unknown>>) => {
  const result = make(raw)
  return Result.isSuccess(result) ? assert.fail("accepted") : result.failure
}

describe("policy", () => {
  it("the defaults are those that the docs name", () => {
    const { retry, ...policy } = Result.getOrThrow(make({}))
    assert.deepStrictEqual(
      {
        ...policy,
        visibilityTimeout: Duration.toSeconds(policy.visibilityTimeout),
        drainTimeout: Duration.toSeconds(policy.drainTimeout),
        maxLease: Duration.toHours(policy.maxLease),
        within: Duration.toMillis(policy.within)
      },
      {
        concurrency: 1,
        prefetch: undefined,
        maxWaiting: 10_000,
        visibilityTimeout: 30,
        timeout: undefined,
        drainTimeout: 20,
        maxLease: 1,
        from: "new",
        consumer: undefined,
        ownConnection: false,
        ack: "onSuccess",
        retryWhile: undefined,
        deadLetters: true,
        onDeadLetter: undefined,
        size: 1,
        within: 0
      }
    )
    assert.strictEqual(retry.maxRetries, 5)
  })

  it("what is given is taken as it is", () => {
    const retryWhile = () => true
    const onDeadLetter = () => Effect.void
    const from = { time: DateTime.makeUnsafe(0) }
    const policy = Result.getOrThrow(
      make({
        concurrency: 16,
        prefetch: 32,
        visibilityTimeout: "1 minute",
        timeout: "5 seconds",
        drainTimeout: 0,
        maxLease: "2 hours",
        from,
        consumer: "w-1",
        ownConnection: true,
        ack: "manual",
        retry: { maxRetries: "unlimited", base: 10, while: retryWhile },
        onDeadLetter,
        size: 100,
        within: "2 seconds"
      })
    )
    assert.strictEqual(policy.concurrency, 16)
    assert.strictEqual(policy.prefetch, 32)
    assert.strictEqual(Duration.toMillis(policy.visibilityTimeout), 60_000)
    assert.strictEqual(policy.timeout && Duration.toMillis(policy.timeout), 5000)
    assert.strictEqual(Duration.toMillis(policy.drainTimeout), 0)
    assert.strictEqual(Duration.toHours(policy.maxLease), 2)
    assert.strictEqual(policy.from, from)
    assert.strictEqual(policy.consumer, "w-1")
    assert.isTrue(policy.ownConnection)
    assert.strictEqual(policy.ack, "manual")
    assert.strictEqual(policy.retry.maxRetries, Number.POSITIVE_INFINITY)
    assert.strictEqual(policy.retryWhile, retryWhile)
    assert.strictEqual(policy.onDeadLetter, onDeadLetter)
    assert.strictEqual(policy.size, 100)
    assert.strictEqual(Duration.toMillis(policy.within), 2000)
  })

  const positions: ReadonlyArray<StartPosition> = [
    "new",
    "beginning",
    { id: "0-0" },
    { id: "1700000000000-12" },
    { time: DateTime.makeUnsafe(5) }
  ]
  it.each(positions)("starts from %o", (from) => {
    assert.deepStrictEqual(Result.getOrThrow(make({ from })).from, from)
  })

  const whole = /give a whole number from 1/
  const duration = (floor: string) => new RegExp(`give a finite duration from ${floor}`)
  const cases: ReadonlyArray<readonly [Readonly<Record<string, unknown>>, string, RegExp]> = [
    [{ concurrency: 0 }, "concurrency", whole],
    [{ concurrency: -1 }, "concurrency", whole],
    [{ concurrency: 1.5 }, "concurrency", whole],
    [{ concurrency: Number.NaN }, "concurrency", whole],
    [{ concurrency: Number.POSITIVE_INFINITY }, "concurrency", whole],
    [{ concurrency: "4" }, "concurrency", whole],
    [{ prefetch: 0 }, "prefetch", whole],
    [{ prefetch: 2.5 }, "prefetch", whole],
    [{ size: 0 }, "size", whole],
    [{ size: Number.NaN }, "size", whole],
    [{ visibilityTimeout: 9 }, "visibilityTimeout", duration("10ms")],
    [{ visibilityTimeout: 0 }, "visibilityTimeout", duration("10ms")],
    [{ visibilityTimeout: "Infinity" }, "visibilityTimeout", duration("10ms")],
    [{ visibilityTimeout: "-1 second" }, "visibilityTimeout", duration("10ms")],
    [{ visibilityTimeout: "soon" }, "visibilityTimeout", duration("10ms")],
    [{ visibilityTimeout: Number.NaN }, "visibilityTimeout", duration("10ms")],
    [{ timeout: 0 }, "timeout", duration("1ms")],
    [{ timeout: "Infinity" }, "timeout", duration("1ms")],
    [{ timeout: Number.NaN }, "timeout", duration("1ms")],
    [{ drainTimeout: -1 }, "drainTimeout", /finite duration from/],
    [{ drainTimeout: "Infinity" }, "drainTimeout", /finite duration from/],
    [{ drainTimeout: Number.NaN }, "drainTimeout", /finite duration from/],
    [{ maxLease: 0 }, "maxLease", duration("10ms")],
    [{ maxLease: "Infinity" }, "maxLease", duration("10ms")],
    [{ within: -1 }, "within", /finite duration from/],
    [{ within: "later" }, "within", /finite duration from/],
    [{ within: Number.NaN }, "within", /finite duration from/],
    [{ from: "end" }, "from", /"new", "beginning", \{ id \} or \{ time \}/],
    [{ from: 0 }, "from", /"new", "beginning"/],
    [{ from: {} }, "from", /"new", "beginning"/],
    [{ from: { id: "$" } }, "from", /"\$" is no entry id: give one like/],
    [{ from: { id: "17" } }, "from", /no entry id/],
    [{ from: { id: "1-2-3" } }, "from", /no entry id/],
    [{ from: { id: 7 } }, "from", /no entry id/],
    [{ from: { time: "yesterday" } }, "from", /time/],
    [{ from: { time: undefined } }, "from", /time/],
    [{ ack: "onFailure" }, "ack", /onFailure.*"onSuccess", "manual", "onExit" or "onReceive"/],
    [{ ack: true }, "ack", /"onSuccess", "manual"/],
    [{ ownConnection: "yes" }, "ownConnection", /true or false/],
    [{ deadLetters: "no" }, "deadLetters", /true or false/],
    [{ onDeadLetter: "log" }, "onDeadLetter", /function/],
    [{ retry: 3 }, "retry", /./],
    [{ retry: { while: "always" } }, "retry.while", /function/],
    [{ retry: { maxRetries: -1 } }, "retry.maxRetries", /whole number from 0/],
    [{ retry: { factor: 0 } }, "retry.factor", /number from 1/],
    [{ retry: { jitter: 2 } }, "retry.jitter", /from 0 to 1/],
    [{ retry: { base: "-1 second" } }, "retry.base", /finite duration/],
    [{ retry: { maxDelay: "Infinity" } }, "retry.maxDelay", /finite duration/],
    [{ retry: { max: 3 } }, "retry.max", /no such option/],
    [{ retires: {} }, "retires", /no such option: remove it, or check its spelling/],
    [{ maxRetries: 3 }, "maxRetries", /no such option/],
    [{ toString: 1 }, "toString", /no such option/],
    [{ ack: "onExit", retry: {} }, "retry", /"onExit".*remove retry, or use ack "onSuccess"/],
    [{ ack: "onReceive", retry: { maxRetries: 0 } }, "retry", /"onReceive".*remove retry, or use ack "onSuccess"/],
    [{ ack: "onExit", onDeadLetter: () => Effect.void }, "onDeadLetter", /"onExit".*remove onDeadLetter/],
    [{ ack: "onReceive", onDeadLetter: () => Effect.void }, "onDeadLetter", /"onReceive".*remove onDeadLetter/],
    [
      { deadLetters: false, onDeadLetter: () => Effect.void },
      "onDeadLetter",
      /deadLetters: false.*remove one of the two/
    ]
  ]
  it.each(cases)("refuses %o, and names %s and the fix", (raw, option, fix) => {
    const problem = refused(raw)
    if (problem._tag !== "InvalidOption") return assert.fail(problem.message)
    assert.strictEqual(problem.option, option)
    assert.match(problem.problem, fix)
  })

  for (const kind of ["each", "stream"] as const) {
    it.each([{ size: 3 }, { within: "1 second" }])(
      `refuses what is for batches where the handler is of ${kind}: %o`,
      (raw) => {
        const result = policies.make(raw as policies.RawOptions, kind) // from JavaScript, any text may be a duration
        const problem = Result.isSuccess(result) ? assert.fail("accepted") : result.failure
        if (problem._tag !== "InvalidOption") return assert.fail(problem.message)
        assert.include(Object.keys(raw), problem.option)
        assert.match(problem.problem, /use Subscription.batch, or leave it out/)
      }
    )
  }

  it.each(["a b", "{x}", "x.retry", "", "-memory"])("refuses the consumer name %j", (consumer) => {
    const problem = refused({ consumer })
    assert.isTrue(problem._tag === "InvalidName" && problem.kind === "consumer")
  })

  it.each(["onSuccess", "manual"])("retries and onDeadLetter go with ack %s", (ack) => {
    assert.isTrue(Result.isSuccess(make({ ack, retry: { maxRetries: 1 }, onDeadLetter: () => Effect.void })))
  })

  it.each(["onExit", "onReceive"])("ack %s goes without retries, also where they are given as undefined", (ack) => {
    assert.isTrue(Result.isSuccess(make({ ack, retry: undefined, onDeadLetter: undefined, deadLetters: false })))
  })
})
