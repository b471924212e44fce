import * as RetryPolicy from "@clutch/core/RetryPolicy"
import { assert, describe, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Result from "effect/Result"
import * as Arbitrary from "effect/Arbitrary"
import * as Schema from "effect/Schema"

const policy = (options?: RetryPolicy.Options) => Result.getOrThrow(RetryPolicy.make(options))
const millis = (self: RetryPolicy.RetryPolicy, attempt: number, random = 0) =>
  Duration.toMillis(RetryPolicy.delay(self, attempt, random))

describe("RetryPolicy", () => {
  it("defaults to 5 retries from 1 second, doubling, up to 15 minutes, jitter a fifth upward", () => {
    const { base, factor, jitter, maxDelay, maxRetries } = policy()
    assert.deepStrictEqual(
      { maxRetries, base: Duration.toMillis(base), factor, maxDelay: Duration.toMillis(maxDelay), jitter },
      { maxRetries: 5, base: 1000, factor: 2, maxDelay: 900_000, jitter: 0.2 }
    )
  })

  it("an option given as undefined is as if it were left out", () => {
    const given = policy({
      maxRetries: undefined,
      base: undefined,
      factor: undefined,
      maxDelay: undefined,
      jitter: undefined
    })
    assert.deepStrictEqual(given, policy())
  })

  it.each([
    [1, 1000],
    [2, 2000],
    [3, 4000],
    [4, 8000],
    [5, 16_000],
    [6, 32_000],
    [10, 512_000],
    [11, 900_000],
    [12, 900_000]
  ])("5. the delay after attempt %i is base × factor^(attempt − 1), capped: %i ms", (attempt, expected) => {
    assert.strictEqual(millis(policy(), attempt), expected)
  })

  it.each([
    { options: { base: "200 millis", factor: 3 }, delays: [200, 600, 1800, 5400] },
    { options: { base: "200 millis", factor: 1 }, delays: [200, 200, 200, 200] },
    { options: { base: 100, factor: 1.5 }, delays: [100, 150, 225, 337.5] },
    { options: { base: "1 second", factor: 10, maxDelay: "30 seconds" }, delays: [1000, 10_000, 30_000, 30_000] },
    { options: { base: "1 minute", maxDelay: "1 second" }, delays: [1000, 1000, 1000, 1000] },
    { options: { base: 0, factor: 100 }, delays: [0, 0, 0, 0] }
  ] as const)("5. the backoff table of $options", ({ delays, options }) => {
    assert.deepStrictEqual(
      [1, 2, 3, 4].map((attempt) => millis(policy(options), attempt)),
      [...delays]
    )
  })

  it.each([
    { jitter: 0.2, random: 0, expected: 4000 },
    { jitter: 0.2, random: 0.5, expected: 4400 },
    { jitter: 0.2, random: 1, expected: 4800 },
    { jitter: 0, random: 1, expected: 4000 },
    { jitter: 1, random: 1, expected: 8000 }
  ])("5. jitter $jitter at random $random is added upward: $expected ms", ({ expected, jitter, random }) => {
    assert.strictEqual(millis(policy({ jitter }), 3, random), expected)
  })

  it("5. the cap comes last: jitter does not lift a delay above maxDelay", () => {
    const capped = policy({ base: "10 seconds", maxDelay: "10500 millis", jitter: 0.2 })
    assert.strictEqual(millis(capped, 1, 0.25), 10_500)
    assert.strictEqual(millis(capped, 1, 1), 10_500)
    assert.strictEqual(millis(capped, 1, 0.1), 10_200)
  })

  it.prop(
    "5. every delay lies between the plain one and a fifth more, and never above maxDelay",
    {
      attempt: Arbitrary.schema(Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 40 }))),
      random: Arbitrary.schema(Schema.Number.check(Schema.isBetween({ minimum: 0, maximum: 1 })))
    },
    ({ attempt, random }) => {
      const plain = Math.min(1000 * 2 ** (attempt - 1), 900_000)
      const delay = millis(policy(), attempt, random)
      assert.isAtLeast(delay, plain)
      assert.isAtMost(delay, Math.min(plain * 1.2, 900_000))
    },
    { arbitrary: { runs: 300 } }
  )

  it.each([1e9, 1024, Number.MAX_SAFE_INTEGER, Number.MAX_VALUE, Number.POSITIVE_INFINITY])(
    "absurd attempts do not overflow: after attempt %d the delay is maxDelay",
    (attempt) => {
      assert.strictEqual(millis(policy({ maxRetries: "unlimited" }), attempt, 1), 900_000)
      assert.strictEqual(millis(policy({ base: 0 }), attempt, 1), 0)
      assert.strictEqual(millis(policy({ factor: 1, jitter: 0 }), attempt, 1), 1000)
    }
  )

  it.each([0, -1, -1e9])("an attempt of %d counts as the first", (attempt) => {
    assert.strictEqual(millis(policy(), attempt), 1000)
  })

  it("unlimited retries are infinitely many; none are none", () => {
    assert.strictEqual(policy({ maxRetries: "unlimited" }).maxRetries, Number.POSITIVE_INFINITY)
    assert.strictEqual(policy({ maxRetries: 0 }).maxRetries, 0)
  })

  const refused: ReadonlyArray<readonly [RetryPolicy.Options, string, RegExp]> = [
    [{ maxRetries: -1 }, "retry.maxRetries", /-1.*whole number from 0, or "unlimited"/],
    [{ maxRetries: 1.5 }, "retry.maxRetries", /1\.5.*whole number/],
    [{ maxRetries: Number.NaN }, "retry.maxRetries", /NaN.*whole number/],
    [{ maxRetries: Number.POSITIVE_INFINITY }, "retry.maxRetries", /Infinity.*"unlimited"/],
    [{ maxRetries: 2 ** 60 }, "retry.maxRetries", /whole number/],
    [{ factor: 0.5 }, "retry.factor", /0\.5.*number from 1/],
    [{ factor: Number.NaN }, "retry.factor", /NaN.*number from 1/],
    [{ factor: Number.POSITIVE_INFINITY }, "retry.factor", /Infinity.*number from 1/],
    [{ jitter: -0.1 }, "retry.jitter", /-0\.1.*from 0 to 1/],
    [{ jitter: 1.01 }, "retry.jitter", /1\.01.*from 0 to 1/],
    [{ jitter: Number.NaN }, "retry.jitter", /NaN.*from 0 to 1/],
    [{ base: -5 }, "retry.base", /-5.*finite duration from 0/],
    [{ base: Number.NaN }, "retry.base", /finite duration from 0/],
    [{ base: "Infinity" }, "retry.base", /Infinity.*finite duration/],
    [{ maxDelay: "-1 second" }, "retry.maxDelay", /-1 second.*finite duration/],
    [{ maxDelay: Number.POSITIVE_INFINITY }, "retry.maxDelay", /Infinity.*finite duration/]
  ]
  it.each(refused)("refuses %o, and names %s and the fix", (options, option, fix) => {
    const result = RetryPolicy.make(options)
    if (Result.isSuccess(result)) return assert.fail("accepted")
    assert.strictEqual(result.failure._tag, "InvalidOption")
    assert.strictEqual(result.failure.option, option)
    assert.include(result.failure.message, `option "${option}"`)
    assert.match(result.failure.message, fix)
  })

  it.each(["once", null, "5", {}])("refuses maxRetries %o from an untyped caller", (maxRetries) => {
    // what a caller from JavaScript could pass
    const result = RetryPolicy.make({ maxRetries: maxRetries as unknown as number })
    assert.isTrue(Result.isFailure(result))
  })

  it.each(["a while", "", null])("refuses the base %o from an untyped caller, without throwing", (base) => {
    // what a caller from JavaScript could pass; null stands for "not given" nowhere in Effect
    const result = RetryPolicy.make({ base: base as unknown as number })
    assert.strictEqual(Result.isFailure(result), base !== null)
  })
})
