/** The simulator itself: that it can fail, that it repeats itself, and what it prints. */
import { Simulator } from "@clutch/core/testing"
import { globSync, readFileSync } from "node:fs"
import { assert, describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { logs } from "./broken.ts"

const { mixed: scenario } = Simulator

describe("the simulator", () => {
  describe("finds a log that", () => {
    for (const [name, { log, promise }] of Object.entries(logs)) {
      it.effect(name, () =>
        Effect.gen(function* () {
          const error = yield* Effect.flip(Simulator.check({ scenario, log, histories: 300 }))
          assert.match(error.history.violation?.promise ?? "", promise, error.message)
        })
      )
    }
  })

  it.effect("makes the same history of the same seed, and of the plan that it prints", () =>
    Effect.gen(function* () {
      for (let i = 0; i < 20; i++) {
        const plan = { seed: `again/${i}`, workers: 3 }
        const first = yield* Simulator.run({ scenario, plan })
        assert.isAbove(first.events.length, 50)
        assert.deepStrictEqual(yield* Simulator.run({ scenario, plan }), first)
        const noted = yield* Simulator.run({ scenario, plan: first.plan })
        assert.deepStrictEqual(noted.events, first.events)
      }
    })
  )

  for (const kind of ["crashesBefore", "closes"] as const) {
    it.effect(`starts a worker again whose first call ${kind === "closes" ? "closes it" : "is its last"}`, () =>
      Effect.gen(function* () {
        const fault = { worker: 1, call: "join", nth: 1, kind, millis: 400 } as const
        const history = yield* Simulator.run({ scenario, plan: { seed: "first", workers: 1, faults: [fault] } })
        assert.isUndefined(history.violation, Simulator.print(history))
        assert.isAtLeast(history.events.filter(({ what }) => what === "starts").length, 2)
      })
    )
  }

  it.effect("comes down to what a failure needs: one worker, one message, no fault", () =>
    Effect.gen(function* () {
      const { log } = logs["forgets retries"]!
      const { history, message } = yield* Effect.flip(Simulator.check({ scenario, log }))
      const { faults, messages, subscriptions, workers } = history.plan
      assert.deepStrictEqual([workers, messages?.length, subscriptions?.length, faults], [1, 1, 1, []])
      assert.include(message, Simulator.print(history))
      assert.deepStrictEqual(yield* Simulator.run({ scenario, log, plan: history.plan }), history)
    })
  )

  it("sees all that core does: nothing there takes turns, time or chance from anywhere else", () => {
    const core = new URL("../../packages/core/src/", import.meta.url)
    const own = /\b(queueMicrotask|setImmediate|setTimeout|setInterval|performance\.now|Date\.now|Math\.random)\b/
    const files = globSync("**/*.ts", { cwd: core, exclude: ["conformance/**"] })
    assert.isAbove(files.length, 50)
    const found = files.filter((file) => own.test(readFileSync(new URL(file, core), "utf8")))
    assert.deepStrictEqual(found, ["internal/turns.ts"])
  })

  it("prints a history as a table, and the plan that makes it again", () => {
    const history: Simulator.History = {
      plan: {
        seed: "shop/7",
        workers: 2,
        messages: [3],
        faults: [{ worker: 1, call: "settle", nth: 2, kind: "losesReply", millis: 0 }]
      },
      violation: { promise: "contract 1", problem: 'message 3 of "billing" never settled' },
      events: [
        { at: 0, who: "worker 1", what: "starts" },
        { at: 1200, who: "log", what: 'stores message 3 of "orders" as 1-0' }
      ],
      subscriptions: 1,
      messages: 1,
      deliveries: 1,
      millis: 1200
    }
    expect(Simulator.print(history)).toBe(`contract 1 is broken: message 3 of "billing" never settled

     at  who       what
   0 ms  worker 1  starts
1200 ms  log       stores message 3 of "orders" as 1-0

The same history again, with this plan for Simulator.run:
{
  seed: "shop/7",
  workers: 2,
  messages: [3],
  faults: [
    { worker: 1, call: "settle", nth: 2, kind: "losesReply", millis: 0 }
  ]
}`)
  })
})
