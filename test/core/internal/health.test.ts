import { type Refused as RefusedReason, Refused, TransportError, Unavailable, Unknown } from "@clutch/core/Errors"
import { assert, describe, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Health from "../../../packages/core/src/internal/health.ts"
import { given, Lines } from "../support.ts"

const error = (reason: Unavailable | Unknown | RefusedReason) => new TransportError({ operation: "fetch", reason })
const down = error(new Unavailable({ detail: "connection refused" }))
const denied = error(new Refused({ detail: "NOPERM" }))

describe("health", () => {
  it.each([
    [1, 50, 1000],
    [2, 100, 2000],
    [3, 200, 4000],
    [5, 800, 16_000],
    [6, 1000, 30_000],
    [100, 1000, 30_000],
    [1e9, 1000, 30_000]
  ])("after failure %i it waits %i ms, and %i ms where somebody must change something", (failures, short, long) => {
    assert.strictEqual(Duration.toMillis(Health.backoff(failures, down)), short)
    assert.strictEqual(Duration.toMillis(Health.backoff(failures, denied)), long)
  })

  it.effect(
    "an outage that begins with a lost reply is one change of state; a refusal in it is another",
    given(function* () {
      const lines = yield* Lines
      const health = Health.make()
      yield* health.failed("reclaiming", error(new Unknown({ detail: "no reply" })))
      yield* health.failed("reclaiming", down)
      assert.lengthOf(lines, 1)
      yield* health.failed("reclaiming", denied)
      assert.lengthOf(lines, 2)
    })
  )

  it.effect(
    "a change of state is one log line, however often a loop fails",
    given(function* () {
      const lines = yield* Lines
      const health = Health.make()
      assert.isUndefined(health.problem())
      yield* health.worked("fetching")
      for (let i = 0; i < 100; i++) yield* health.failed("fetching", down)
      assert.strictEqual(health.problem(), down)
      yield* health.worked("fetching")
      yield* health.worked("fetching")
      assert.isUndefined(health.problem())
      yield* health.failed("fetching", down)
      assert.deepStrictEqual(
        lines.map(({ level, text }) => `${level} ${text}`),
        [
          "Warn fetching is failing and goes on trying: fetch: connection refused",
          "Info fetching works again",
          "Warn fetching is failing and goes on trying: fetch: connection refused"
        ]
      )
    })
  )

  it.effect(
    "another reason is a change of state; a loop that works does not hide one that fails",
    given(function* () {
      const lines = yield* Lines
      const health = Health.make()
      yield* health.failed("fetching", down)
      yield* health.failed("fetching", denied)
      yield* health.failed("settling", down)
      assert.strictEqual(lines.length, 3)
      yield* health.worked("fetching")
      assert.strictEqual(health.problem(), down)
      yield* health.worked("settling")
      assert.isUndefined(health.problem())
    })
  )
})
