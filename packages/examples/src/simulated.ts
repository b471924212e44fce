/**
 * A handler that looks right, and a simulation that shows that it is not: it asks whether an order was charged, and
 * charges it if not. Between the two, its worker may stand still for longer than its lease.
 *
 * `test/examples/simulated.test.ts` runs both handlers below through histories of lost replies, crashes and pauses.
 */
import { Subscription, Topic } from "@clutch/core"
import { Simulator } from "@clutch/core/testing"
import { Context, Effect, Layer, Schema } from "effect"

export class Order extends Schema.Class<Order>("Order")({ id: Schema.String, cents: Schema.Int }) {}

export const Orders = Topic.make("orders", { schema: Order })

export class Bank extends Context.Service<
  Bank,
  {
    readonly isCharged: (order: string) => Effect.Effect<boolean>
    readonly charge: (order: string, cents: number) => Effect.Effect<void>
    /** As `charge`; a second call with the same key does nothing. */
    readonly chargeOnce: (key: string, order: string, cents: number) => Effect.Effect<void>
  }
>()("examples/Bank") {}

/** Wrong: whoever loses its lease between the two calls charges an order that another worker has charged. */
export const careless = Subscription.make(
  "billing",
  Orders,
  Effect.fn(function* ({ data }) {
    const bank = yield* Bank
    if (!(yield* bank.isCharged(data.id))) yield* bank.charge(data.id, data.cents)
  }),
  { concurrency: 4 }
)

/** Right: the bank decides, in one step, by a key that is the same in every attempt. */
export const careful = Subscription.make(
  "billing",
  Orders,
  Effect.fn(function* ({ data, id }) {
    const bank = yield* Bank
    yield* bank.chargeOnce(id, data.id, data.cents)
  }),
  { concurrency: 4 }
)

const shipping = Subscription.make("shipping", Orders, () => Effect.sleep("50 millis"))

/** Ten orders, a bank that outlives every worker, and what must hold when all is done. */
export const shop = (billing: typeof careless) =>
  Effect.sync(() => {
    const charges: Array<string> = []
    const keys = new Set<string>()
    const charge = (order: string) => Effect.sync(() => void charges.push(order))
    // each is a call over the network, where a worker may be late, stand still or die, before it and after it
    const bank = Layer.succeed(Bank, {
      isCharged: (order) => Simulator.remote(Effect.sync(() => charges.includes(order))),
      charge: (order) => Simulator.remote(charge(order)),
      chargeOnce: (key, order) =>
        Simulator.remote(
          Effect.suspend(() => {
            if (keys.has(key)) return Effect.void
            keys.add(key)
            return charge(order)
          })
        )
    })
    const orders = Array.from({ length: 10 }, (_, n) => new Order({ id: `o-${n}`, cents: 100 * n }))
    return Simulator.scenario({
      subscriptions: [billing, shipping],
      services: bank,
      messages: orders.map((order) => Simulator.message(Orders, order)),
      atRest: Effect.suspend(() => {
        const twice = orders.find(({ id }) => charges.filter((order) => order === id).length > 1)
        return twice === undefined ? Effect.void : Effect.fail(`order ${twice.id} was charged twice`)
      })
    })
  })
