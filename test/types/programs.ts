/**
 * Programs as users write them: each must compile, or be refused, as it says. `test/packages` compiles this file again
 * in a project outside the workspace, against the packed packages.
 */
// @effect-diagnostics missingLayerContext:off
import {
  Agent,
  Delivery,
  DeadLetters,
  DoNotRetry,
  MemoryTransport,
  Reclaimer,
  RetryAfter,
  Subscription,
  Topic,
  Transport
} from "@clutch/core"
import type { PublishError, Source, SubscribeError, TransportError } from "@clutch/core"
import { RedisTransport } from "@clutch/redis"
import { Config, Context, Effect, Layer, Schema, Stream } from "effect"

class OrderPlaced extends Schema.TaggedClass<OrderPlaced>()("OrderPlaced", {
  orderId: Schema.String,
  total: Schema.Number
}) {}
class OrderCancelled extends Schema.TaggedClass<OrderCancelled>()("OrderCancelled", { orderId: Schema.String }) {}
class CardDeclined extends Schema.TaggedError<CardDeclined>()("CardDeclined", { code: Schema.Number }) {}
class Payments extends Context.Service<
  Payments,
  { readonly charge: (order: OrderPlaced) => Effect.Effect<void, CardDeclined> }
>()("shop/Payments") {}
class Pager extends Context.Service<Pager, { readonly page: (text: string) => Effect.Effect<void> }>()("shop/Pager") {}

const Orders = Topic.make("orders", {
  schema: Schema.Union([OrderPlaced, OrderCancelled]),
  key: (order) => order.orderId
})
const Receipts = Topic.make("receipts", { schema: Schema.Struct({ orderId: Schema.String }) })

// typed errors steer retries; a service in onDeadLetter reaches R
const billing = Subscription.make(
  "billing",
  Topic.only(Orders, "OrderPlaced"),
  Effect.fn(function* ({ data }) {
    const payments = yield* Payments
    const { attempt } = yield* Delivery
    if (attempt > 3) return yield* Effect.fail(new DoNotRetry({ reason: "too late" }))
    if (data.total > 100) return yield* Effect.fail(new RetryAfter({ delay: "1 minute" }))
    yield* payments.charge(data)
  }),
  {
    concurrency: 16,
    retry: { maxRetries: 3, base: "200 millis", while: (error) => error.code >= 500 },
    onDeadLetter: (letter) => Effect.flatMap(Pager, (pager) => pager.page(`${letter.id} ${letter.reason}`))
  }
)
// a handler that publishes, with a scoped resource of its own
const receipts = Subscription.make(
  "receipts",
  Orders,
  Effect.fn(function* ({ data }) {
    yield* Effect.acquireRelease(Effect.void, () => Effect.void)
    yield* Topic.publish(Receipts, { orderId: data.orderId })
  })
)
// manual
const manual = Subscription.make(
  "manual",
  Orders,
  Effect.fn(function* () {
    const delivery = yield* Delivery
    yield* delivery.attempt > 2 ? delivery.deadLetter("enough") : delivery.retry({ after: "5 seconds" })
  }),
  { ack: "manual" }
)
// batch, each settled by itself
const batched = Subscription.batch(
  "index",
  Orders,
  Effect.fn(function* (batch) {
    for (const one of batch) yield* one.message.data._tag === "OrderPlaced" ? one.ack : one.deadLetter("cancelled")
  }),
  { size: 100, within: "50 millis" }
)
// a stream of deliveries
const pipeline = Subscription.stream("audit", Orders).pipe(
  Stream.mapEffect((one) => Effect.andThen(Effect.log(one.message.data.orderId), one.ack), { concurrency: 4 }),
  Stream.runDrain
)

const Shop = Agent.layer("shop", [billing, receipts, manual, batched])
export const shop: Layer.Layer<never, SubscribeError, Transport | Reclaimer | Payments | Pager> = Shop
// written inline, requirements stay
export const inline: Layer.Layer<never, SubscribeError, Transport | Reclaimer | Payments> = Agent.layer("inline", [
  Subscription.make("a", Topic.only(Orders, "OrderPlaced"), ({ data }) =>
    Effect.flatMap(Payments, (payments) => payments.charge(data))
  )
])
// @ts-expect-error Payments is missing
export const lost: Layer.Layer<never, SubscribeError, Transport | Reclaimer> = Agent.layer("inline", [
  Subscription.make("a", Topic.only(Orders, "OrderPlaced"), ({ data }) =>
    Effect.flatMap(Payments, (payments) => payments.charge(data))
  )
])

const Live = Layer.mergeAll(
  Layer.succeed(Payments, { charge: () => Effect.fail(new CardDeclined({ code: 503 })) }),
  Layer.succeed(Pager, { page: () => Effect.void })
)
export const main: Effect.Effect<void, PublishError | SubscribeError | TransportError> = Effect.gen(function* () {
  yield* Topic.publish(Orders, new OrderPlaced({ orderId: "o-1", total: 42 }))
  yield* Subscription.awaitIdle(billing)
  yield* DeadLetters.redrive(billing, { where: (letter) => letter.reason === "exhausted" })
}).pipe(Effect.provide(Shop.pipe(Layer.provide(Live), Layer.provideMerge(MemoryTransport.layer))))
export const worker = Agent.run("shop", [billing]).pipe(
  Effect.provide(
    Layer.merge(
      Live,
      RedisTransport.layerConfig({
        url: Config.String("REDIS_URL"),
        namespace: Config.String("NAMESPACE").pipe(Config.withDefault("shop"))
      })
    )
  )
)
export const tool = DeadLetters.count(Subscription.address("billing", Orders))
// a helper over any narrower source
const audit = (source: Source<OrderPlaced | OrderCancelled>) =>
  Subscription.make("audit", source, ({ data }) => Effect.log(data.orderId))
export const audited = audit(Topic.filter(Orders, (order) => order._tag === "OrderCancelled"))
export const generic = <A, E, R>(source: Source<A>, f: (data: A) => Effect.Effect<void, E, R>) =>
  Subscription.make("generic", source, (message) => f(message.data), { retry: { while: () => true } })
export { pipeline }
