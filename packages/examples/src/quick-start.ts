/**
 * The shortest whole program: a topic, a subscription, one message.
 *
 * `node --conditions=@clutch/source packages/examples/src/quick-start.ts`
 */
import { Agent, MemoryTransport, Subscription, Topic } from "@clutch/core"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import { Console, Effect, Layer, Schema } from "effect"

class OrderPlaced extends Schema.TaggedClass<OrderPlaced>()("OrderPlaced", {
  orderId: Schema.String,
  total: Schema.Number
}) {}

const Orders = Topic.make("orders", { schema: OrderPlaced })

const billing = Subscription.make("billing", Orders, ({ data }) =>
  Console.log(`order ${data.orderId}: charge ${data.total}`)
)

/** Lives as long as the program: joins its groups before anything is published, drains when it ends. */
const Shop = Agent.layer("shop", [billing])

const program = Effect.gen(function* () {
  yield* Topic.publish(Orders, new OrderPlaced({ orderId: "o-1", total: 42 }))
  yield* Subscription.awaitIdle(billing)
})

program.pipe(Effect.provide(Shop.pipe(Layer.provideMerge(MemoryTransport.layer))), NodeRuntime.runMain)
