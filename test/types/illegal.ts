/**
 * None of these compiles, and the compiler says why: `illegal.test.ts` holds its words.
 */
// @effect-diagnostics floatingEffect:off
import { Agent, Subscription, Topic } from "@clutch/core"
import { Effect, Schema } from "effect"
class OrderPlaced extends Schema.TaggedClass<OrderPlaced>()("OrderPlaced", { n: Schema.Number }) {}
class OrderCancelled extends Schema.TaggedClass<OrderCancelled>()("OrderCancelled", { n: Schema.Number }) {}
const Orders = Topic.make("orders", { schema: Schema.Union([OrderPlaced, OrderCancelled]) })
const handler = () => Effect.fail({ code: 1 })
// @ts-expect-error ack "onExit" acks failures too, so nothing is left to retry
Subscription.make("a", Orders, handler, { ack: "onExit", retry: { maxRetries: 1 } })
// @ts-expect-error the same for "onReceive"
Subscription.make("b", Orders, handler, { ack: "onReceive", retry: { maxRetries: 1 } })
// @ts-expect-error no dead letter there either
Subscription.make("c", Orders, handler, { ack: "onReceive", onDeadLetter: () => Effect.void })
// @ts-expect-error nothing is dead-lettered where dead letters are off
Subscription.make("d", Orders, handler, { deadLetters: false, onDeadLetter: () => Effect.void })
const widened = Math.random() > 0.5 ? ("onExit" as const) : ("onSuccess" as const)
// @ts-expect-error nor through a widened literal
Subscription.make("e", Orders, handler, { ack: widened, retry: { maxRetries: 1 } })
// @ts-expect-error the error has no `kode`
Subscription.make("f", Orders, handler, { retry: { while: (error) => error.kode > 1 } })
// @ts-expect-error a misspelt option
Subscription.make("g", Orders, handler, { concurency: 4 })
// @ts-expect-error a misspelt member
Topic.only(Orders, "OrderPlacd")
// @ts-expect-error data of another shape
Topic.publish(Orders, { n: "1" })
// @ts-expect-error the key is made of the data
Topic.make("x", { schema: Schema.Struct({ n: Schema.Number }), key: (d) => d.m })
// @ts-expect-error what is narrowed can be read, not published to
Topic.publish(Topic.only(Orders, "OrderPlaced"), new OrderPlaced({ n: 1 }))
// a config-chosen ack without retry is fine
export const fine = Agent.layer("fine", [Subscription.make("h", Orders, handler, { ack: widened, concurrency: 2 })])
