import { Agent, type Reclaimer, Subscription, Topic, type Transport } from "@clutch/core"
import { Context, Effect, type Layer, Schema } from "effect"
import { describe, expectTypeOf, it } from "vitest"

class Payments extends Context.Service<Payments, { readonly charge: (id: string) => Effect.Effect<void> }>()(
  "test/Payments"
) {}
const Orders = Topic.make("orders", { schema: Schema.Struct({ id: Schema.String }) })

describe("requirements", () => {
  it("of a subscription written inline reach its agent, and are neither any nor unknown", () => {
    const layer = Agent.layer("inline", [
      Subscription.make("a", Orders, ({ data }) => Effect.flatMap(Payments, (payments) => payments.charge(data.id)))
    ])
    expectTypeOf<Layer.Services<typeof layer>>().not.toBeAny()
    expectTypeOf<Layer.Services<typeof layer>>().not.toBeUnknown()
    expectTypeOf<Layer.Services<typeof layer>>().toEqualTypeOf<Transport | Reclaimer | Payments>()
  })

  it("of a handler without any are none", () => {
    const plain = Subscription.make("plain", Orders, () => Effect.void)
    expectTypeOf<Subscription.Services<typeof plain>>().toBeNever()
  })
})

describe("a topic", () => {
  it("has the type of its schema", () => {
    expectTypeOf(Orders).toEqualTypeOf<Topic.Topic<{ readonly id: string }>>()
  })
})
