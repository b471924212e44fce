/**
 * Sources narrowed: what does not pass is acked, and is nobody's failure.
 */
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { DeadLetters, Subscription, Topic, Transport } from "../index.ts"
import { range, texts } from "./Collect.ts"
import { type Category, probe } from "./Kit.ts"
import { group } from "./Workers.ts"

class Placed extends Schema.TaggedClass<Placed>()("Placed", { n: Schema.Number }) {}
class Cancelled extends Schema.TaggedClass<Cancelled>()("Cancelled", { n: Schema.Number }) {}
class Shipped extends Schema.TaggedClass<Shipped>()("Shipped", { n: Schema.Number }) {}
const Order = Schema.Union([Placed, Cancelled, Shipped])

export const filters: Category = (kit) => {
  const orders = () => Topic.make(kit.fresh("orders"), { schema: Order })

  kit.test("12. only: a subscription handles the members it names; the others are acked", () =>
    Effect.gen(function* () {
      const topic = orders()
      const transport = yield* Transport
      const seen = yield* probe<Placed | Shipped>()
      const subscription = Subscription.make("s", Topic.only(topic, "Placed", "Shipped"), seen.handler())
      yield* kit.open(subscription)
      for (const n of range(9)) {
        const Member = [Placed, Cancelled, Shipped][n % 3] ?? Placed
        yield* Topic.publish(topic, new Member({ n }))
      }
      yield* kit.idle(subscription)
      assert.deepStrictEqual(
        seen
          .data()
          .map((one) => one.n)
          .toSorted((a, b) => a - b),
        [0, 2, 3, 5, 6, 8]
      )
      const { pending, due, deadLetters } = yield* transport.inspect(group(topic, "s"))
      assert.deepStrictEqual([pending, due, deadLetters], [0, 0, 0])
    })
  )

  kit.test("12. filter: what the predicate refuses is acked and not delivered again", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const seen = yield* probe()
      const even = Topic.filter(topic, (data) => Number(data.slice(1)) % 2 === 0)
      const subscription = Subscription.make("s", even, seen.handler())
      const first = yield* kit.open(subscription)
      yield* Topic.publishAll(topic, texts(20))
      yield* kit.idle(subscription)
      yield* first.close
      const { handle } = yield* kit.open(subscription)
      yield* kit.idle(subscription)
      assert.deepStrictEqual(
        seen.data().toSorted(),
        texts(20)
          .filter((_, i) => i % 2 === 0)
          .toSorted()
      )
      const stats = yield* handle.stats
      assert.deepStrictEqual([stats.pending, stats.due, stats.deadLetters], [0, 0, 0])
    })
  )

  kit.test("12. filterMessage: a subscription may choose by metadata", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const seen = yield* probe()
      const european = Topic.filterMessage(topic, (message) => message.headers["region"] === "eu")
      const subscription = Subscription.make("s", european, seen.handler())
      yield* kit.open(subscription)
      yield* Topic.publish(topic, "a", { headers: { region: "eu" } })
      yield* Topic.publish(topic, "b", { headers: { region: "us" } })
      yield* Topic.publish(topic, "c")
      yield* kit.idle(subscription)
      assert.deepStrictEqual(seen.data(), ["a"])
    })
  )

  kit.test("12. filters compose, each narrowing the one before", () =>
    Effect.gen(function* () {
      const topic = orders()
      const seen = yield* probe<Placed>()
      const large = Topic.filter(Topic.only(topic, "Placed"), (order) => order.n >= 10)
      const chosen = Topic.filterMessage(large, (message) => message.subject !== "test")
      const subscription = Subscription.make("s", chosen, seen.handler())
      yield* kit.open(subscription)
      yield* Topic.publish(topic, new Placed({ n: 5 }))
      yield* Topic.publish(topic, new Placed({ n: 15 }))
      yield* Topic.publish(topic, new Placed({ n: 25 }), { subject: "test" })
      yield* Topic.publish(topic, new Cancelled({ n: 35 }))
      yield* kit.idle(subscription)
      assert.deepStrictEqual(
        seen.data().map((one) => one.n),
        [15]
      )
    })
  )

  kit.test("12. subscriptions with complementary filters handle each message between them, once", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const even = yield* probe()
      const odd = yield* probe()
      const isEven = (data: string) => Number(data.slice(1)) % 2 === 0
      const a = Subscription.make("even", Topic.filter(topic, isEven), even.handler())
      const b = Subscription.make(
        "odd",
        Topic.filter(topic, (data) => !isEven(data)),
        odd.handler()
      )
      yield* kit.open(a)
      yield* kit.open(b)
      yield* Topic.publishAll(topic, texts(100))
      yield* kit.idle(a)
      yield* kit.idle(b)
      assert.deepStrictEqual([...even.data(), ...odd.data()].toSorted(), [...texts(100)].toSorted())
      assert.strictEqual(even.calls.length, 50)
    })
  )

  kit.test("12. a filtered subscription's failures are retried and dead-lettered like any other's", () =>
    Effect.gen(function* () {
      const topic = orders()
      const seen = yield* probe<Placed>()
      const subscription = Subscription.make(
        "s",
        Topic.only(topic, "Placed"),
        seen.handler(() => Effect.fail("no")),
        {
          retry: { maxRetries: 1, base: kit.ticks(1), jitter: 0 }
        }
      )
      yield* kit.open(subscription)
      yield* Topic.publish(topic, new Cancelled({ n: 1 }))
      yield* Topic.publish(topic, new Placed({ n: 2 }))
      yield* kit.idle(subscription)
      assert.strictEqual(seen.calls.length, 2)
      assert.strictEqual(yield* DeadLetters.count(subscription), 1)
    })
  )

  kit.test("6. of a narrowed source, only a message of the right type can be poison", () =>
    Effect.gen(function* () {
      const topic = orders()
      const wide = Topic.make(topic.topic, {
        schema: Schema.Struct({ _tag: Schema.String, n: Schema.Unknown })
      })
      const seen = yield* probe<Placed>()
      const subscription = Subscription.make("s", Topic.only(topic, "Placed"), seen.handler())
      yield* kit.open(subscription)
      yield* Topic.publish(wide, { _tag: "Cancelled", n: "bad, but not ours" })
      yield* Topic.publish(wide, { _tag: "Unheard-of", n: 1 })
      yield* Topic.publish(wide, { _tag: "Placed", n: "bad" })
      yield* Topic.publish(wide, { _tag: "Placed", n: 4 })
      yield* kit.idle(subscription)
      assert.deepStrictEqual(
        seen.data().map((one) => one.n),
        [4]
      )
      assert.strictEqual(yield* DeadLetters.count(subscription), 1)
    })
  )
}
