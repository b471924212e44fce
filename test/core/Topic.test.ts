import * as Subscription from "@clutch/core/Subscription"
import * as Topic from "@clutch/core/Topic"
import * as MemoryTransport from "@clutch/core/MemoryTransport"
import * as Metrics from "@clutch/core/Metrics"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import { given, Lines, pass, probe, Texts } from "./support.ts"

const Placed = Schema.TaggedStruct("Placed", { total: Schema.Number })
const Cancelled = Schema.TaggedStruct("Cancelled", { why: Schema.String })
const Shipped = Schema.TaggedStruct("Shipped", { at: Schema.DateTimeUtcFromString })
const Orders = Topic.make("orders", { schema: Schema.Union([Placed, Cancelled, Shipped]) })
type Order = typeof Placed.Type | typeof Cancelled.Type | typeof Shipped.Type

describe("Topic", () => {
  describe("publishing", () => {
    it.effect(
      "returns the message as subscribers will see it",
      given(function* () {
        const seen = yield* probe<typeof Placed.Type>()
        const Keyed = Topic.make("keyed", { schema: Placed, key: ({ total }) => `k${total}` })
        yield* Subscription.subscribe(Subscription.make("s", Keyed, seen.handler()))
        const options = { subject: "s", headers: { tenant: "ü" }, source: "urn:me", id: "mine" }
        const plain = yield* Topic.publish(Keyed, { _tag: "Placed", total: 1 })
        const given = yield* Topic.publish(Keyed, { _tag: "Placed", total: 2 }, options)
        assert.deepStrictEqual((yield* seen.next).message, plain)
        assert.deepStrictEqual((yield* seen.next).message, given)
        assert.include(given, options)
        assert.deepStrictEqual([plain.type, plain.source, plain.partitionkey], ["Placed", "/clutch/keyed", "k1"])
      })
    )

    const unencodable: ReadonlyArray<readonly [string, () => unknown]> = [
      ["undefined", () => undefined],
      ["a bigint", () => 1n],
      ["a symbol", () => Symbol("s")],
      ["a function", () => () => 1],
      [
        "a circle",
        () => {
          const circle: Record<string, unknown> = {}
          circle["self"] = circle
          return circle
        }
      ],
      ["a bigint inside", () => ({ total: 1n })],
      [
        "what throws in toJSON",
        () => ({
          toJSON: () => {
            throw new Error("no")
          }
        })
      ]
    ]
    it.effect.each(unencodable)("data that JSON cannot hold is Encode, never a defect: %s", ([, make]) =>
      given(function* () {
        const Anything = Topic.make("anything", { schema: Schema.Unknown })
        const error = yield* Effect.flip(Topic.publish(Anything, make()))
        assert.strictEqual(error._tag, "PublishError")
        assert.strictEqual(error.reason._tag, "Encode")
        assert.strictEqual(error.stored, 0)
        assert.deepStrictEqual((yield* MemoryTransport.snapshot).keys, [])
      })()
    )

    it.effect(
      "data that does not fit the schema is Encode, and says where; a plain object where the schema is a class too",
      given(function* () {
        class Bill extends Schema.TaggedClass<Bill>()("Bill", { total: Schema.Number }) {}
        const Bills = Topic.make("bills", { schema: Bill })
        const plain = yield* Effect.flip(Topic.publish(Bills, { _tag: "Bill", total: 1 }))
        assert.strictEqual(plain.reason._tag, "Encode")
        // what a caller from JavaScript could pass
        const wrong = yield* Effect.flip(Topic.publish(Orders, { _tag: "Placed", total: "1" } as unknown as Order))
        assert.strictEqual(wrong.reason._tag, "Encode")
        assert.include(wrong.message, "total")
        assert.include(wrong.message, "the data cannot be encoded: it does not fit the topic's schema: ")
        assert.include(wrong.message, 'publish to "orders"')
      })
    )

    it.effect(
      "a key that throws, or is no text, is Encode",
      given(function* () {
        const Throwing = Topic.make("t1", {
          schema: Schema.String,
          key: () => {
            throw new Error("no key")
          }
        })
        const error = yield* Effect.flip(Topic.publish(Throwing, "x"))
        assert.strictEqual(error.reason._tag, "Encode")
        assert.include(error.message, "the data cannot be encoded: the topic's `key` threw Error: no key")
        for (const [raw, told] of [
          [7, "number"],
          [{}, "object"],
          [null, "null"]
        ] as const) {
          const key = (() => raw) as unknown as () => string // as from JavaScript
          const { reason } = yield* Effect.flip(Topic.publish(Topic.make("t2", { schema: Schema.String, key }), "x"))
          assert.strictEqual(reason._tag, "Encode")
          assert.include(reason.message, `the topic's \`key\` returned ${told}: return a text`)
          assert.notInclude(reason.message, "schema")
        }
        assert.deepStrictEqual((yield* MemoryTransport.snapshot).keys, [])
      })
    )

    it.effect(
      "one that cannot be encoded keeps all of publishAll from being stored",
      given(function* () {
        const Numbers = Topic.make("numbers", { schema: Schema.Unknown })
        const error = yield* Effect.flip(Topic.publishAll(Numbers, [1, 2, 3n]))
        assert.strictEqual(error.reason._tag, "Encode")
        assert.deepStrictEqual((yield* MemoryTransport.snapshot).keys, [])
      })
    )

    it.effect.each(["a b", "orders.retry", "", "{x}", "a/b"])("a topic named %j is InvalidName", (name) =>
      given(function* () {
        const error = yield* Effect.flip(Topic.publish(Topic.make(name, { schema: Schema.String }), "x"))
        assert.strictEqual(error.reason._tag, "InvalidName")
        const subscription = Subscription.make("s", Topic.make(name, { schema: Schema.String }), () => Effect.void)
        const refused = yield* Effect.flip(Subscription.subscribe(subscription))
        assert.isTrue(refused.reason._tag === "InvalidName" && refused.reason.kind === "topic")
      })()
    )

    it.effect.each([0, -1, 1.5, 1025, Number.NaN])(
      "partitions %d are refused by publish and by subscribe",
      (partitions) =>
        given(function* () {
          const Split = Topic.make("split", { schema: Schema.String, partitions })
          const publish = yield* Effect.flip(Topic.publish(Split, "x"))
          const subscribe = yield* Effect.flip(Subscription.subscribe(Subscription.make("s", Split, () => Effect.void)))
          const idle = yield* Effect.flip(Subscription.awaitIdle(Subscription.address("s", Split)))
          for (const { reason } of [publish, subscribe, idle]) {
            if (reason._tag !== "InvalidOption") return assert.fail(reason._tag)
            assert.strictEqual(reason.option, "partitions")
            assert.match(reason.problem, /no count.*from 1 to 1024/)
          }
          assert.deepStrictEqual((yield* MemoryTransport.snapshot).keys, [])
        })()
    )

    it.effect.each([
      [{ partitions: null }, 'option "partitions": null is no count'],
      [{ partitions: "3" }, 'option "partitions": "3" is no count'],
      [{ maxLength: "5" }, 'option "maxLength": "5" is no length'],
      [{ key: "orderId" }, 'option "key": "orderId" is refused: give a function'],
      [{ key: null }, 'option "key": null is refused']
    ] as const)("what only an untyped caller can give is shown as what it is: %o", ([options, told]) =>
      given(function* () {
        const untyped: object = options
        const error = yield* Effect.flip(Topic.publish(Topic.make("t", { schema: Schema.String, ...untyped }), "x"))
        assert.include(error.message, told)
      })()
    )

    it.effect(
      "a key that holds half of a character is refused: it would be stored as another",
      given(function* () {
        const Keyed = Topic.make("keyed", { schema: Schema.String, key: () => "a\ud800" })
        const { reason } = yield* Effect.flip(Topic.publish(Keyed, "x"))
        assert.strictEqual(reason._tag, "Encode")
        assert.match(reason.message, /the topic's `key` .*half of a character/)
      })
    )

    it.effect(
      "partitions 1 is the default, said aloud",
      given(function* () {
        yield* Topic.publish(Topic.make("one", { schema: Schema.String, partitions: 1 }), "x")
      })
    )

    it.effect.each([
      [{ maxLength: 0 }, "maxLength"],
      [{ maxLength: 1.5 }, "maxLength"],
      [{ maxLength: Number.NaN }, "maxLength"],
      [{ maxAge: 0 }, "maxAge"],
      [{ maxAge: "Infinity" }, "maxAge"],
      [{ maxAge: "-1 day" }, "maxAge"]
    ] as const)("retention %o is refused, naming %s", ([retention, option]) =>
      given(function* () {
        const error = yield* Effect.flip(Topic.publish(Topic.make("t", { schema: Schema.String, ...retention }), "x"))
        assert.isTrue(error.reason._tag === "InvalidOption" && error.reason.option === option)
        assert.match(error.message, /or leave it out to keep all/)
      })()
    )

    it.effect.each([
      ["options", null],
      ["options", 5],
      ["options", "id"],
      ["headers", { headers: "text" }],
      ["headers", { headers: ["a"] }],
      ["headers", { headers: null }],
      ["id", { id: "" }],
      ["source", { source: "" }],
      ["timeout", { timeout: -1 }],
      ["timeout", { timeout: "-1 second" }],
      ["timeout", { timeout: Number.NaN }],
      ["timeout", { timeout: "Infinity" }]
    ] as const)("a %s of %o is refused", ([option, options]) =>
      given(function* () {
        const untyped = options as Topic.PublishOptions // as from JavaScript
        const error = yield* Effect.flip(Topic.publish(Texts, "x", untyped))
        assert.isTrue(error.reason._tag === "InvalidOption" && error.reason.option === option)
      })()
    )

    it.effect(
      "one id cannot name several messages",
      given(function* () {
        const error = yield* Effect.flip(Topic.publishAll(Texts, ["x", "y"], { id: "1" }))
        assert.isTrue(error.reason._tag === "InvalidOption" && error.reason.option === "id")
        assert.strictEqual((yield* Topic.publishAll(Texts, ["x"], { id: "1" }))[0]?.id, "1")
      })
    )

    it.effect(
      "12. what maxLength and maxAge drop is counted and logged",
      given(function* () {
        const Short = Topic.make("short", { schema: Schema.String, maxLength: 2 })
        yield* Topic.publishAll(Short, ["a", "b", "c", "d", "e"])
        const tags = { "messaging.destination.name": "short", "messaging.system": "memory" }
        assert.strictEqual((yield* Metric.value(Metric.withAttributes(Metrics.trimmed, tags))).count, 3)
        const Young = Topic.make("young", { schema: Schema.String, maxAge: "1 hour" })
        yield* Topic.publish(Young, "old")
        yield* pass("61 minutes")
        yield* Topic.publish(Young, "new")
        const lengths = (yield* MemoryTransport.snapshot).logs.map(({ length, topic }) => [topic, length])
        assert.deepStrictEqual(lengths, [
          ["short", 2],
          ["young", 1]
        ])
        const lines = (yield* Lines).map(({ annotations, text }) => [
          text,
          annotations["topic"],
          annotations["trimmed"]
        ])
        assert.deepStrictEqual(lines, [
          ["retention dropped 3 messages", "short", 3],
          ["retention dropped 1 messages", "young", 1]
        ])
      })
    )

    it.effect(
      "publishAll of nothing is nothing; sink counts what a stream brought, in order",
      given(function* () {
        assert.deepStrictEqual(yield* Topic.publishAll(Texts, []), [])
        const data = Array.from({ length: 600 }, (_, i) => `m${i}`)
        assert.strictEqual(yield* Stream.run(Stream.fromIterable(data), Topic.sink(Texts)), 600)
        const seen = yield* probe()
        const subscription = Subscription.make("s", Texts, seen.handler(), { from: "beginning" })
        yield* Subscription.subscribe(subscription)
        yield* Subscription.awaitIdle(subscription)
        assert.deepStrictEqual(seen.data(), data)
        assert.strictEqual(yield* Stream.run(Stream.empty, Topic.sink(Texts)), 0)
      })
    )
  })

  it.effect(
    "making a topic touches nothing, and compiles its schema at first use only",
    given(function* () {
      let compiled = 0
      const schema = Schema.suspend(() => {
        compiled++
        return Schema.String
      })
      const Lazy = Topic.make("lazy", { schema })
      assert.strictEqual(compiled, 0)
      yield* Topic.publish(Lazy, "x")
      assert.isAbove(compiled, 0)
    })
  )
})
