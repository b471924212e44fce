/** The simulator, as a user would use it: on a handler that charges twice, and on one that does not. */
import { Simulator } from "@clutch/core/testing"
import { careful, careless, shop } from "@clutch/examples/simulated"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"

describe("a simulated shop", () => {
  it.effect("charges an order twice, where the handler asks first and charges then", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(Simulator.check({ scenario: shop(careless), histories: 2000 }))
      const { plan, violation } = error.history
      assert.strictEqual(violation?.promise, "scenario")
      assert.match(violation?.problem ?? "", /^order o-\d was charged twice$/)
      assert.strictEqual(plan.messages?.length, 1)
      assert.strictEqual(plan.faults.length, 1)
      assert.include(error.message, `kind: "${plan.faults[0]?.kind}"`)
    })
  )

  it.effect("charges each order once, where the bank knows the message's id", () =>
    Effect.gen(function* () {
      const report = yield* Simulator.check({ scenario: shop(careful), histories: 300 })
      assert.strictEqual(report.histories, 300)
      assert.isAtLeast(report.faults.median, 3)
    })
  )
})
