/**
 * What cannot be decoded never loops, loses no byte, and holds up nothing behind it.
 */
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import { DeadLetters, Subscription, Topic, Transport } from "../index.ts"
import { deadLetters, onlyDeadLetter, range } from "./Collect.ts"
import { type Category, probe } from "./Kit.ts"
import { group } from "./Workers.ts"

const Order = Schema.Struct({ n: Schema.Number })
type Order = typeof Order.Type

export const poison: Category = (kit) => {
  const { appendRaw } = kit.options
  const raw = appendRaw !== undefined
  /** One log seen through two schemas: what the wide one publishes may be poison to the narrow one. */
  const twoViews = () => {
    const name = kit.fresh("orders")
    return {
      narrow: Topic.make(name, { schema: Order }),
      wide: Topic.make(name, { schema: Schema.Unknown })
    }
  }
  const bytes = Uint8Array.from([123, 34, 255, 0, 254, 10, 13, 128])

  kit.test("6. data that the schema refuses is a dead letter with its bytes; the handler never sees it", () =>
    Effect.gen(function* () {
      const { narrow, wide } = twoViews()
      const seen = yield* probe<Order>()
      const subscription = Subscription.make("s", narrow, seen.handler())
      yield* kit.open(subscription)
      const published = yield* Topic.publish(wide, { n: "ü" })
      yield* kit.idle(subscription)
      assert.strictEqual(seen.calls.length, 0)
      const letter = yield* onlyDeadLetter(subscription)
      assert.strictEqual(letter.reason, "poison")
      assert.strictEqual(letter.originalId, published.id)
      assert.strictEqual(new TextDecoder().decode(letter.raw), `{"n":"ü"}`)
      assert.isTrue(Result.isFailure(letter.message))
      assert.strictEqual(Result.isFailure(letter.message) ? letter.message.failure._tag : "", "Poison")
      assert.isAbove(letter.cause.length, 0)
    })
  )

  kit.test("6. valid messages behind poison are not held up", () =>
    Effect.gen(function* () {
      const { narrow, wide } = twoViews()
      const seen = yield* probe<Order>()
      const subscription = Subscription.make("s", narrow, seen.handler(), { concurrency: 1 })
      yield* kit.open(subscription)
      for (const n of range(20)) {
        yield* Topic.publish(wide, n % 2 === 0 ? { n } : "poison")
      }
      yield* kit.idle(subscription)
      assert.deepStrictEqual(
        seen.data().map((one) => one.n),
        range(10).map((i) => i * 2)
      )
      assert.strictEqual(yield* DeadLetters.count(subscription), 10)
    })
  )

  kit.test("6. a hundred poisonous messages in a row loop no more than one does", () =>
    Effect.gen(function* () {
      const { narrow, wide } = twoViews()
      const seen = yield* probe<Order>()
      const subscription = Subscription.make("s", narrow, seen.handler())
      const { handle } = yield* kit.open(subscription)
      yield* Topic.publishAll(
        wide,
        range(100).map((i) => ({ bad: i }))
      )
      yield* Topic.publish(wide, { n: 1 })
      yield* kit.idle(subscription)
      assert.strictEqual(seen.calls.length, 1)
      const stats = yield* handle.stats
      assert.deepStrictEqual([stats.deadLetters, stats.pending, stats.due], [100, 0, 0])
    })
  )

  kit.test("6. where dead letters are switched off, poison is acked", () =>
    Effect.gen(function* () {
      const { narrow, wide } = twoViews()
      const seen = yield* probe<Order>()
      const subscription = Subscription.make("s", narrow, seen.handler(), { deadLetters: false })
      yield* kit.open(subscription)
      yield* Topic.publish(wide, "poison")
      yield* Topic.publish(wide, { n: 1 })
      yield* kit.idle(subscription)
      const transport = yield* Transport
      const { pending, due, deadLetters } = yield* transport.inspect(group(narrow, "s"))
      assert.deepStrictEqual([pending, due, deadLetters], [0, 0, 0])
      assert.deepStrictEqual(seen.data(), [{ n: 1 }])
    })
  )

  kit.test("6. poison is dead-lettered under every ack policy", () =>
    Effect.gen(function* () {
      for (const ack of ["onSuccess", "manual", "onExit", "onReceive"] as const) {
        const { narrow, wide } = twoViews()
        const seen = yield* probe<Order>()
        const subscription = Subscription.make("s", narrow, seen.handler(), { ack })
        const { handle, close } = yield* kit.open(subscription)
        yield* Topic.publish(wide, "poison")
        yield* kit.eventually(
          `${ack}: a dead letter`,
          Effect.map(DeadLetters.count(subscription), (n) => n === 1)
        )
        yield* kit.eventually(
          `${ack}: nothing pending`,
          Effect.map(handle.stats, (stats) => stats.pending === 0)
        )
        assert.strictEqual((yield* onlyDeadLetter(subscription)).reason, "poison", ack)
        assert.strictEqual(seen.calls.length, 0)
        yield* close
      }
    })
  )

  kit.test("6. poison is told to onDeadLetter, with its bytes", () =>
    Effect.gen(function* () {
      const { narrow, wide } = twoViews()
      const told: Array<DeadLetters.DeadLetter<Order>> = []
      const subscription = Subscription.make("s", narrow, () => Effect.void, {
        onDeadLetter: (letter) => Effect.sync(() => void told.push(letter))
      })
      yield* kit.open(subscription)
      yield* Topic.publish(wide, "poison")
      yield* kit.idle(subscription)
      yield* kit.eventually(
        "onDeadLetter is called",
        Effect.sync(() => told.length > 0)
      )
      assert.strictEqual(told.length, 1)
      assert.strictEqual(told[0]?.reason, "poison")
      assert.strictEqual(new TextDecoder().decode(told[0]?.raw), `"poison"`)
    })
  )

  kit.test("6. poison is one subscription's view: another schema handles the same message", () =>
    Effect.gen(function* () {
      const { narrow, wide } = twoViews()
      const seen = yield* probe<unknown>()
      const strict = Subscription.make("strict", narrow, () => Effect.void)
      const lax = Subscription.make("lax", wide, seen.handler())
      yield* kit.open(strict)
      yield* kit.open(lax)
      yield* Topic.publish(wide, ["anything"])
      yield* kit.idle(strict)
      yield* kit.idle(lax)
      assert.deepStrictEqual(seen.data(), [["anything"]])
      assert.strictEqual(yield* DeadLetters.count(strict), 1)
      assert.strictEqual(yield* DeadLetters.count(lax), 0)
    })
  )

  kit.test("6. poison that is redriven once its schema is mended is handled", () =>
    Effect.gen(function* () {
      const { narrow, wide } = twoViews()
      const before = yield* kit.open(Subscription.make("s", narrow, () => Effect.void))
      yield* Topic.publish(wide, { n: "7" }, { headers: { kept: "yes" } })
      yield* kit.idle(Subscription.address("s", narrow))
      yield* before.close
      const seen = yield* probe<unknown>()
      const mended = Subscription.make("s", wide, seen.handler())
      yield* kit.open(mended)
      assert.strictEqual(yield* DeadLetters.redrive(mended), 1)
      const call = yield* kit.next(seen)
      assert.deepStrictEqual(call.data, { n: "7" })
      assert.deepStrictEqual(call.message.headers, { kept: "yes" })
      assert.strictEqual(call.attempt, 1)
      yield* kit.idle(mended)
      assert.strictEqual(yield* DeadLetters.count(mended), 0)
    })
  )

  kit.test("6. poison that is redriven unmended is a dead letter again, not a loop", () =>
    Effect.gen(function* () {
      const { narrow, wide } = twoViews()
      const subscription = Subscription.make("s", narrow, () => Effect.void)
      yield* kit.open(subscription)
      const published = yield* Topic.publish(wide, "poison")
      yield* kit.idle(subscription)
      assert.strictEqual(yield* DeadLetters.redrive(subscription), 1)
      yield* kit.idle(subscription)
      const letter = yield* onlyDeadLetter(subscription)
      assert.strictEqual(letter.reason, "poison")
      assert.strictEqual(letter.originalId, published.id)
      assert.strictEqual(new TextDecoder().decode(letter.raw), `"poison"`)
    })
  )

  kit.testIf(raw, "6. bytes on the main log that are no text at all are a dead letter with those bytes", () =>
    Effect.gen(function* () {
      if (appendRaw === undefined) return
      const topic = kit.topic()
      const seen = yield* probe()
      const subscription = Subscription.make("s", topic, seen.handler())
      yield* kit.open(subscription)
      yield* appendRaw({ topic: topic.topic, subscription: "s", log: "main" }, bytes)
      yield* Topic.publish(topic, "behind")
      yield* kit.idle(subscription)
      assert.deepStrictEqual(seen.data(), ["behind"])
      const letter = yield* onlyDeadLetter(subscription)
      assert.strictEqual(letter.reason, "poison")
      assert.deepStrictEqual([...letter.raw], [...bytes])
    })
  )

  kit.testIf(raw, "6. poison on the retry log is a dead letter with its bytes; retries behind it flow", () =>
    Effect.gen(function* () {
      if (appendRaw === undefined) return
      const topic = kit.topic()
      const seen = yield* probe()
      const handler = seen.handler((call) => (call.attempt === 1 ? Effect.fail("no") : Effect.void))
      const subscription = Subscription.make("s", topic, handler, { retry: { base: kit.ticks(2), jitter: 0 } })
      yield* kit.open(subscription)
      yield* Topic.publish(topic, "x")
      yield* kit.next(seen)
      yield* appendRaw({ topic: topic.topic, subscription: "s", log: "retry" }, bytes)
      assert.strictEqual((yield* kit.next(seen)).attempt, 2)
      yield* kit.eventually(
        "a dead letter",
        Effect.map(DeadLetters.count(subscription), (count) => count === 1)
      )
      yield* kit.idle(subscription)
      const [letter, ...more] = yield* deadLetters(subscription)
      assert.strictEqual(more.length, 0)
      assert.strictEqual(letter?.reason, "poison")
      assert.deepStrictEqual([...(letter?.raw ?? [])], [...bytes])
    })
  )

  kit.testIf(raw, "6. poison is kept from batches and streams: they see what can be decoded", () =>
    Effect.gen(function* () {
      if (appendRaw === undefined) return
      const topic = kit.topic()
      const batches: Array<ReadonlyArray<string>> = []
      const subscription = Subscription.batch(
        "s",
        topic,
        (batch) => Effect.sync(() => void batches.push(batch.map((one) => one.message.data))),
        { size: 3, within: kit.ticks(1) }
      )
      yield* kit.open(subscription)
      yield* Topic.publish(topic, "a")
      yield* appendRaw({ topic: topic.topic, subscription: "s", log: "main" }, bytes)
      yield* Topic.publishAll(topic, ["b", "c"])
      yield* kit.idle(subscription)
      assert.deepStrictEqual(batches.flat(), ["a", "b", "c"])
      assert.strictEqual(yield* DeadLetters.count(subscription), 1)
    })
  )
}
