/**
 * What is published is what is handled: ids, data and metadata, whatever their size and alphabet.
 */
import { assert } from "@effect/vitest"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import { Subscription, Topic, Transport } from "../index.ts"
import { type Category, probe } from "./Kit.ts"

class Placed extends Schema.TaggedClass<Placed>()("Placed", { orderId: Schema.String, total: Schema.Number }) {}
class Cancelled extends Schema.TaggedClass<Cancelled>()("Cancelled", { orderId: Schema.String }) {}

const texts: ReadonlyArray<readonly [what: string, text: string]> = [
  ["nothing", ""],
  ["a space", " "],
  ["ascii", "the quick brown fox"],
  ["accents", "Grüße aus Köln, à bientôt"],
  ["other scripts", "日本語 עברית العربية हिन्दी"],
  ["emoji beyond the first plane", "🥚🐣🐔 👩‍👩‍👧‍👦"],
  ["combining marks", "e\u0301 n\u0303"],
  ["control characters", "a\u0000b\u0001c\u001f\u007f"],
  ["line ends", "a\r\nb\nc\rd\u2028e\u2029"],
  ["quotes and slashes", `"'\\/\\u0041 \`\${x}\``],
  ["markup and commands", "*3\r\n$4\r\nXADD\r\n<b>&amp;</b>"],
  ["what looks like JSON", `{"_tag":"Placed","n":1}`],
  ["a byte-order mark", "\ufeffstart"]
]

export const publishSubscribe: Category = (kit) => {
  kit.test("1. a published message is handled, with the id, data, type, source and time that publish returned", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const seen = yield* probe()
      yield* kit.open(Subscription.make("s", topic, seen.handler()))
      const published = yield* Topic.publish(topic, "x")
      const { message } = yield* kit.next(seen)
      assert.strictEqual(message.data, "x")
      assert.strictEqual(message.id, published.id)
      assert.strictEqual(message.type, published.type)
      assert.strictEqual(message.source, published.source)
      assert.deepStrictEqual(DateTime.formatIso(message.time), DateTime.formatIso(published.time))
      assert.deepStrictEqual(message.headers, {})
    })
  )

  kit.test("1. text arrives as it was published, whatever its alphabet", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const seen = yield* probe()
      yield* kit.open(Subscription.make("s", topic, seen.handler(), { concurrency: 1 }))
      for (const [, text] of texts) yield* Topic.publish(topic, text)
      const calls = yield* kit.take(seen, texts.length)
      for (const [index, [what, text]] of texts.entries()) assert.strictEqual(calls[index]?.data, text, what)
    })
  )

  kit.test("1. headers, subject, source and id arrive as they were given", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const seen = yield* probe()
      yield* kit.open(Subscription.make("s", topic, seen.handler()))
      const headers = Object.fromEntries(texts.map(([what, text]) => [what, text]))
      const given = { id: "order 7/ü", source: "https://shop.example/orders", subject: "o-7 🥚", headers }
      const published = yield* Topic.publish(topic, "x", given)
      const { message } = yield* kit.next(seen)
      for (const one of [published, message]) {
        assert.strictEqual(one.id, given.id)
        assert.strictEqual(one.source, given.source)
        assert.strictEqual(one.subject, given.subject)
        assert.deepStrictEqual(one.headers, headers)
      }
    })
  )

  kit.test("1. binary data arrives byte for byte", () =>
    Effect.gen(function* () {
      const topic = Topic.make(kit.fresh("bytes"), { schema: Schema.Uint8ArrayFromBase64 })
      const seen = yield* probe<Uint8Array>()
      yield* kit.open(Subscription.make("s", topic, seen.handler()))
      const bytes = Uint8Array.from({ length: 1024 }, (_, i) => (i * 7 + (i >> 8)) & 255)
      yield* Topic.publish(topic, bytes)
      const call = yield* kit.next(seen)
      assert.deepStrictEqual([...call.data], [...bytes])
    })
  )

  kit.test("1. a message of 1 MB arrives whole", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const seen = yield* probe()
      yield* kit.open(Subscription.make("s", topic, seen.handler()))
      const text = "0123456789abcdé".repeat(65_536)
      yield* Topic.publish(topic, text)
      const call = yield* kit.next(seen)
      assert.isTrue(call.data === text, "1 MB came back changed")
    })
  )

  kit.test("1. data of a rich schema arrives decoded", () =>
    Effect.gen(function* () {
      const schema = Schema.Struct({
        when: Schema.DateTimeUtcFromString,
        wait: Schema.DurationFromMillis,
        note: Schema.OptionFromNullOr(Schema.String),
        tags: Schema.Array(Schema.String),
        nested: Schema.Record(Schema.String, Schema.Number)
      })
      const topic = Topic.make(kit.fresh("rich"), { schema })
      const seen = yield* probe<typeof schema.Type>()
      yield* kit.open(Subscription.make("s", topic, seen.handler()))
      const when = DateTime.makeUnsafe("2026-03-01T12:30:00.123Z")
      const data = {
        when,
        wait: Duration.millis(1500),
        note: Option.none<string>(),
        tags: ["a", "ü"],
        nested: { "": 0, x: -1.5e-7 }
      }
      yield* Topic.publish(topic, data)
      const call = yield* kit.next(seen)
      assert.strictEqual(DateTime.formatIso(call.data.when), DateTime.formatIso(when))
      assert.strictEqual(Duration.toMillis(call.data.wait), 1500)
      assert.isTrue(Option.isNone(call.data.note))
      assert.deepStrictEqual(call.data.tags, data.tags)
      assert.deepStrictEqual(call.data.nested, data.nested)
    })
  )

  kit.test("1. data of any schema arrives decoded, also where its encoding is no JSON", () =>
    Effect.gen(function* () {
      const schema = Schema.Struct({
        wait: Schema.Duration,
        bytes: Schema.Uint8Array,
        note: Schema.Option(Schema.String),
        big: Schema.BigInt
      })
      const topic = Topic.make(kit.fresh("any"), { schema })
      const seen = yield* probe<typeof schema.Type>()
      yield* kit.open(Subscription.make("s", topic, seen.handler()))
      const data = {
        wait: Duration.millis(1500),
        bytes: Uint8Array.of(0, 255, 128),
        note: Option.some("ü"),
        big: 12_345_678_901_234_567_890n
      }
      yield* Topic.publish(topic, data)
      const call = yield* kit.next(seen)
      assert.isTrue(Schema.toEquivalence(schema)(call.data, data), JSON.stringify(call.data.note))
    })
  )

  kit.test("1. a class of the schema arrives as an instance, and its tag is the message's type", () =>
    Effect.gen(function* () {
      const topic = Topic.make(kit.fresh("orders"), { schema: Schema.Union([Placed, Cancelled]) })
      const seen = yield* probe<Placed | Cancelled>()
      yield* kit.open(Subscription.make("s", topic, seen.handler(), { concurrency: 1 }))
      yield* Topic.publish(topic, new Placed({ orderId: "o-1", total: 4.2 }))
      yield* Topic.publish(topic, new Cancelled({ orderId: "o-1" }))
      const [placed, cancelled] = yield* kit.take(seen, 2)
      assert.isTrue(placed?.data instanceof Placed)
      assert.isTrue(cancelled?.data instanceof Cancelled)
      assert.strictEqual(placed?.message.type, "Placed")
      assert.strictEqual(cancelled?.message.type, "Cancelled")
    })
  )

  kit.test("1. without a tag in the data the message's type is the topic's name", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const published = yield* Topic.publish(topic, "x")
      assert.strictEqual(published.type, topic.topic)
      assert.include(published.source, topic.topic)
    })
  )

  kit.test("1. every message has an id of its own, growing in the log's order", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const seen = yield* probe()
      yield* kit.open(Subscription.make("s", topic, seen.handler(), { concurrency: 1 }))
      const published = yield* Topic.publishAll(
        topic,
        Array.from({ length: 200 }, (_, i) => `${i}`)
      )
      const calls = yield* kit.take(seen, 200)
      assert.strictEqual(new Set(published.map((message) => message.id)).size, 200)
      assert.deepStrictEqual(
        calls.map((call) => call.message.id),
        published.map((message) => message.id)
      )
      assert.deepStrictEqual(
        calls.map((call) => call.messageId),
        calls.map((call) => call.originalId)
      )
    })
  )

  kit.test("1. the delivery says topic, group, stream, consumer, attempt and when it was first delivered", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const transport = yield* Transport
      const seen = yield* probe()
      yield* kit.open(Subscription.make("billing", topic, seen.handler(), { consumer: "w-1" }))
      const published = yield* Topic.publish(topic, "x")
      const call = yield* kit.next(seen)
      assert.strictEqual(call.group, "billing")
      assert.strictEqual(call.stream, transport.stream({ topic: topic.topic, partition: 0 }))
      assert.strictEqual(call.consumer, "w-1")
      assert.strictEqual(call.attempt, 1)
      assert.isAtLeast(call.firstDelivered, published.time.epochMilliseconds)
    })
  )

  kit.test("1. publishAll stores in order and returns each message", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const seen = yield* probe()
      yield* kit.open(Subscription.make("s", topic, seen.handler(), { concurrency: 1 }))
      const data = Array.from({ length: kit.many(1000) }, (_, i) => `m${i}`)
      const published = yield* Topic.publishAll(topic, data)
      assert.deepStrictEqual(
        published.map((message) => message.data),
        data
      )
      yield* kit.take(seen, data.length)
      assert.deepStrictEqual(seen.data(), data)
    })
  )

  kit.test("1. publishing nothing is nothing", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      assert.deepStrictEqual(yield* Topic.publishAll(topic, []), [])
      const transport = yield* Transport
      assert.strictEqual(yield* transport.lastId({ topic: topic.topic, partition: 0 }), "0-0")
    })
  )

  kit.test("1. a sink publishes what a stream carries, and counts it", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const seen = yield* probe()
      yield* kit.open(Subscription.make("s", topic, seen.handler(), { concurrency: 1 }))
      const data = Array.from({ length: 300 }, (_, i) => `m${i}`)
      const count = yield* Stream.fromIterable(data).pipe(Stream.run(Topic.sink(topic)))
      assert.strictEqual(count, 300)
      yield* kit.take(seen, 300)
      assert.deepStrictEqual(seen.data(), data)
    })
  )

  kit.test("13. confirmed means stored: what publish returned is in the log, and no more", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const transport = yield* Transport
      const log = { topic: topic.topic, partition: 0 }
      assert.strictEqual(yield* transport.lastId(log), "0-0")
      const first = yield* Topic.publish(topic, "x")
      assert.strictEqual(yield* transport.lastId(log), first.id)
      const second = yield* Topic.publish(topic, "y")
      assert.strictEqual(yield* transport.lastId(log), second.id)
    })
  )

  kit.test("13. what cannot be encoded is a PublishError with reason Encode, and nothing of the call is stored", () =>
    Effect.gen(function* () {
      const topic = Topic.make(kit.fresh("checked"), {
        schema: Schema.Struct({ n: Schema.Number.check(Schema.isGreaterThan(0)) })
      })
      const error = yield* Effect.flip(Topic.publish(topic, { n: -1 }))
      assert.strictEqual(error._tag, "PublishError")
      assert.strictEqual(error.reason._tag, "Encode")
      const batch = yield* Effect.flip(Topic.publishAll(topic, [{ n: 1 }, { n: -1 }]))
      assert.strictEqual(batch.reason._tag, "Encode")
      const transport = yield* Transport
      assert.strictEqual(yield* transport.lastId({ topic: topic.topic, partition: 0 }), "0-0")
    })
  )

  kit.test("1. two values of one topic are one log", () =>
    Effect.gen(function* () {
      const name = kit.fresh("shared")
      const seen = yield* probe()
      yield* kit.open(Subscription.make("s", Topic.make(name, { schema: Schema.String }), seen.handler()))
      yield* Topic.publish(Topic.make(name, { schema: Schema.String }), "x")
      assert.strictEqual((yield* kit.next(seen)).data, "x")
    })
  )

  kit.test("1. a handler that publishes feeds the next topic", () =>
    Effect.gen(function* () {
      const first = kit.topic()
      const second = kit.topic()
      const seen = yield* probe()
      yield* kit.open(Subscription.make("end", second, seen.handler()))
      yield* kit.open(
        Subscription.make("forward", first, ({ data }) => Effect.asVoid(Topic.publish(second, `${data}!`)))
      )
      yield* Topic.publishAll(first, ["a", "b", "c"])
      yield* kit.take(seen, 3)
      assert.deepStrictEqual(seen.data().toSorted(), ["a!", "b!", "c!"])
    })
  )

  kit.test("10. the ordering key travels as CloudEvents' partitionkey", () =>
    Effect.gen(function* () {
      const topic = Topic.make(kit.fresh("keyed"), {
        schema: Schema.Struct({ k: Schema.String }),
        key: (data) => data.k
      })
      const seen = yield* probe<{ readonly k: string }>()
      yield* kit.open(Subscription.make("s", topic, seen.handler()))
      yield* Topic.publish(topic, { k: "o-1 ü" })
      assert.strictEqual((yield* kit.next(seen)).message.partitionkey, "o-1 ü")
    })
  )

  kit.test("2. a name that would make another's key is refused, for topics and subscriptions", () =>
    Effect.gen(function* () {
      const good = kit.topic()
      for (const name of ["", "a b", "a{b", "a}b", "a/b", "a\nb", "a\u0000b"]) {
        const topic = Effect.suspend(() => Topic.publish(Topic.make(name, { schema: Schema.String }), "x"))
        assert.isTrue(Exit.isFailure(yield* Effect.exit(topic)), `topic ${JSON.stringify(name)}`)
        const subscription = Effect.suspend(() =>
          Subscription.subscribe(Subscription.make(name, good, () => Effect.void))
        )
        assert.isTrue(Exit.isFailure(yield* Effect.exit(subscription)), `subscription ${JSON.stringify(name)}`)
      }
      const reserved = Effect.suspend(() =>
        Subscription.subscribe(Subscription.make("a.retry", good, () => Effect.void))
      )
      assert.isTrue(Exit.isFailure(yield* Effect.exit(reserved)), "a subscription whose key is another's retry log")
    })
  )
}
