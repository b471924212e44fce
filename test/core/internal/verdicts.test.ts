/** What becomes of a delivery that has no attempt left. */
import * as DeadLetters from "@clutch/core/DeadLetters"
import * as Subscription from "@clutch/core/Subscription"
import * as Topic from "@clutch/core/Topic"
import { Transport } from "@clutch/core/Transport"
import { assert, describe, it } from "@effect/vitest"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import { alone, billing, join, publish, take } from "../MemoryTransport.support.ts"
import { given, open, pass, passing, probe } from "../support.ts"

const Orders = Topic.make("orders", { schema: Schema.String })

describe("verdicts", () => {
  // the count of deliveries grew with each worker that was killed between taking such a message and dead-lettering it
  it.effect.each([3, 6])(
    "4. a message whose workers died %d times is dead-lettered as exhausted after n + 1 attempts, not more",
    (deaths) =>
      given(function* () {
        const transport = yield* Transport
        for (let i = 0; i < deaths; i++) {
          const dead = yield* join({ consumer: `dead${i}`, from: "beginning" })
          if (i === 0) yield* publish(`"x"`)
          const entries = yield* take(dead, i < 2 ? {} : alone)
          assert.deepStrictEqual(
            entries.map(({ attempt }) => attempt),
            [i + 1]
          )
          yield* pass("31 seconds")
          yield* transport.tend(billing)
        }
        const seen = yield* probe()
        const subscription = Subscription.make("billing", Orders, seen.handler(), { retry: { maxRetries: 2 } })
        yield* open(subscription)
        yield* passing("1 second")(Subscription.awaitIdle(subscription))
        const letters = yield* Stream.runCollect(DeadLetters.list(subscription))
        assert.deepStrictEqual(
          letters.map(({ attempts, reason }) => [reason, attempts]),
          [["exhausted", 3]]
        )
        assert.lengthOf(seen.calls, 0)
      })()
  )
})
