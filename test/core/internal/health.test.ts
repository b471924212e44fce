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
      const health = Health.makeAll().of(0)
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
      const health = Health.makeAll().of(0)
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
    "what ended while it failed is no problem any more, and that it works again is said when something has worked",
    given(function* () {
      const lines = yield* Lines
      const health = Health.makeAll()
      const [one, other] = [health.of(1), health.of(2)]
      yield* one.failed("fetching", down)
      one.over("fetching")
      one.over("settling")
      assert.isUndefined(health.problem())
      assert.lengthOf(lines, 1)
      yield* other.failed("fetching", down)
      yield* one.worked("fetching")
      assert.lengthOf(lines, 2)
      yield* other.worked("fetching")
      yield* other.worked("fetching")
      assert.deepStrictEqual(
        lines.map(({ text }) => text),
        [
          "fetching is failing and goes on trying: fetch: connection refused",
          "fetching is failing and goes on trying: fetch: connection refused",
          "fetching works again"
        ]
      )
    })
  )

  it.effect(
    "another reason is a change of state; a loop that works does not hide one that fails",
    given(function* () {
      const lines = yield* Lines
      const health = Health.makeAll().of(0)
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
