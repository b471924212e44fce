/** Narrowing a topic: what is left out is acked and counted, and need not be decodable. */
import * as Subscription from "@clutch/core/Subscription"
import * as Topic from "@clutch/core/Topic"
import { Transport } from "@clutch/core/Transport"
import * as Metrics from "@clutch/core/Metrics"
import { assert, describe, it } from "@effect/vitest"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import * as Schema from "effect/Schema"
import { given, Lines, pass, probe, Texts } from "./support.ts"

const Placed = Schema.TaggedStruct("Placed", { total: Schema.Number })
const Cancelled = Schema.TaggedStruct("Cancelled", { why: Schema.String })
const Shipped = Schema.TaggedStruct("Shipped", { at: Schema.DateTimeUtcFromString })
const Orders = Topic.make("orders", { schema: Schema.Union([Placed, Cancelled, Shipped]) })
type Order = typeof Placed.Type | typeof Cancelled.Type | typeof Shipped.Type

const placed = (total: number) => ({ _tag: "Placed", total }) as const
const cancelled = { _tag: "Cancelled", why: "too late" } as const
const shipped = { _tag: "Shipped", at: DateTime.makeUnsafe("2024-01-01T00:00:00Z") } as const

const filteredIn = (topic: string, subscription: string) =>
  Effect.map(
    Metric.value(
      Metric.withAttributes(Metrics.filtered, {
        "messaging.system": "memory",
        "messaging.destination.name": topic,
        "messaging.consumer.group.name": subscription
      })
    ),
    ({ count }) => count
  )

/** A JSON text, stored as some other publisher would. */
const store = (topic: { readonly topic: string }, ...texts: readonly [string, ...ReadonlyArray<string>]) =>
  Transport.use((transport) => {
    const [first, ...others] = texts.map((data) => ({ data, attributes: undefined }))
    assert.isDefined(first)
    const all = [first ?? assert.fail(), ...others] as const
    return transport.publish({ topic: topic.topic, partition: 0 }, all, { maxLength: undefined, maxAge: undefined })
  })

describe("Topic: narrowing", () => {
  it.effect(
    "only: keeps the members with these tags; the rest is acked and counted",
    given(function* () {
      const seen = yield* probe<typeof Placed.Type | typeof Shipped.Type>()
      const subscription = Subscription.make("s", Topic.only(Orders, "Placed", "Shipped"), seen.handler())
      yield* Subscription.subscribe(subscription)
      yield* Topic.publishAll(Orders, [placed(1), cancelled, shipped, cancelled])
      yield* Subscription.awaitIdle(subscription)
      assert.deepStrictEqual(seen.data(), [placed(1), shipped])
      assert.strictEqual(yield* filteredIn("orders", "s"), 2)
      const { deadLetters, pending, waiting } = yield* Subscription.stats(subscription)
      assert.deepStrictEqual([deadLetters, pending, waiting._tag === "Some" && waiting.value], [0, 0, 0])
    })
  )

  it.effect(
    "only: what is left out need not be decodable; data without a tag is no member and is found undecodable",
    given(function* () {
      const seen = yield* probe<typeof Placed.Type>()
      const subscription = Subscription.make("s", Topic.only(Orders, "Placed"), seen.handler())
      yield* Subscription.subscribe(subscription)
      yield* store(Orders, '{"_tag":"Refunded"}', '{"_tag":7}', "null", '"Placed"', '{"_tag":"Placed","total":"x"}')
      yield* Topic.publish(Orders, placed(1))
      yield* Subscription.awaitIdle(subscription)
      assert.deepStrictEqual(seen.data(), [placed(1)])
      assert.strictEqual(yield* filteredIn("orders", "s"), 1)
      assert.strictEqual((yield* Subscription.stats(subscription)).deadLetters, 4)
    })
  )

  it.effect(
    "filter: sees decoded data, and its refinement narrows further",
    given(function* () {
      const seen = yield* probe<typeof Placed.Type>()
      const big = Topic.filter(Topic.only(Orders, "Placed"), ({ total }) => total > 10)
      const even = Topic.filter(big, (data): data is typeof Placed.Type => data.total % 2 === 0)
      const subscription = Subscription.make("s", even, seen.handler())
      yield* Subscription.subscribe(subscription)
      yield* Topic.publishAll(Orders, [placed(2), placed(11), cancelled, placed(12), placed(14)])
      yield* Subscription.awaitIdle(subscription)
      assert.deepStrictEqual(seen.data(), [placed(12), placed(14)])
      assert.strictEqual(yield* filteredIn("orders", "s"), 3)
    })
  )

  it.effect(
    "6. filter: a message of the right type whose data does not decode is poison, not filtered out",
    given(function* () {
      const asked: Array<unknown> = []
      const source = Topic.filter(Orders, (data) => asked.push(data) > 0)
      const subscription = Subscription.make("s", source, () => Effect.void)
      yield* Subscription.subscribe(subscription)
      yield* store(Orders, '{"_tag":"Placed"}')
      yield* Subscription.awaitIdle(subscription)
      assert.deepStrictEqual(asked, [])
      assert.strictEqual((yield* Subscription.stats(subscription)).deadLetters, 1)
    })
  )

  it.effect(
    "filterMessage: sees metadata and JSON before decoding, so what it leaves out need not be decodable",
    given(function* () {
      const seen = yield* probe<Order>()
      const source = Topic.filterMessage(Orders, ({ headers }) => headers["tenant"] === "a")
      const subscription = Subscription.make("s", source, seen.handler())
      yield* Subscription.subscribe(subscription)
      yield* store(Orders, "{}")
      yield* Topic.publish(Orders, placed(1), { headers: { tenant: "b" } })
      yield* Topic.publish(Orders, placed(2), { headers: { tenant: "a" } })
      yield* Subscription.awaitIdle(subscription)
      assert.deepStrictEqual(seen.data(), [placed(2)])
      assert.strictEqual((yield* Subscription.stats(subscription)).deadLetters, 0)
      assert.strictEqual(yield* filteredIn("orders", "s"), 2)
    })
  )

  it.effect(
    "narrowings add up, in any order",
    given(function* () {
      const mine = ({ headers }: { readonly headers: Readonly<Record<string, string>> }) => headers["tenant"] === "a"
      const seen = { a: yield* probe<unknown>(), b: yield* probe<unknown>() }
      const a = Subscription.make("a", Topic.filterMessage(Topic.only(Orders, "Placed"), mine), seen.a.handler())
      const b = Subscription.make("b", Topic.only(Topic.filterMessage(Orders, mine), "Placed"), seen.b.handler())
      yield* Subscription.subscribe(a)
      yield* Subscription.subscribe(b)
      yield* Topic.publish(Orders, placed(1), { headers: { tenant: "b" } })
      yield* Topic.publish(Orders, cancelled, { headers: { tenant: "a" } })
      yield* Topic.publish(Orders, placed(2), { headers: { tenant: "a" } })
      for (const one of [a, b]) yield* Subscription.awaitIdle(one)
      assert.deepStrictEqual(seen.a.data(), [placed(2)])
      assert.deepStrictEqual(seen.b.data(), [placed(2)])
    })
  )

  it.effect(
    "4. a predicate that throws is a failure of the delivery: retried, and the worker goes on",
    given(function* () {
      const seen = yield* probe()
      let throws = 1
      const source = Topic.filter(Texts, (data) => {
        if (data === "odd" && throws-- > 0) throw new Error("predicate")
        return true
      })
      yield* Subscription.subscribe(Subscription.make("s", source, seen.handler(), { retry: { base: "1 second" } }))
      yield* Topic.publishAll(Texts, ["odd", "even"])
      assert.strictEqual((yield* seen.next).data, "even")
      yield* pass("2 seconds")
      const { attempt, data } = yield* seen.next
      assert.deepStrictEqual([data, attempt], ["odd", 2])
      const [line] = (yield* Lines).filter(({ level }) => level === "Warn")
      assert.include(
        String(line?.cause.reasons.map((reason) => (reason._tag === "Die" ? reason.defect : ""))),
        "predicate"
      )
    })
  )

  it.effect(
    "narrowing leaves the topic as it was, and each source to itself",
    given(function* () {
      const one = yield* probe<Order>()
      const all = yield* probe<Order>()
      const a = Subscription.make("a", Topic.only(Orders, "Cancelled"), one.handler())
      const b = Subscription.make("b", Orders, all.handler())
      yield* Subscription.subscribe(a)
      yield* Subscription.subscribe(b)
      yield* Topic.publishAll(Orders, [placed(1), cancelled])
      yield* Subscription.awaitIdle(a)
      yield* Subscription.awaitIdle(b)
      assert.deepStrictEqual(one.data(), [cancelled])
      assert.deepStrictEqual(all.data(), [placed(1), cancelled])
    })
  )
})
