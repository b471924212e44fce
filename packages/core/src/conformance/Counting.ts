/**
 * Nothing happens silently: what is not simply handled is counted, and a failure is one structured line in the log.
 */
import { assert } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Logger from "effect/Logger"
import * as Metric from "effect/Metric"
import * as References from "effect/References"
import * as Schema from "effect/Schema"
import { Delivery, Subscription, Topic } from "../index.ts"
import { Failure } from "./Collect.ts"
import { type Category, probe } from "./Kit.ts"

/**
 * The sum of a counter over all its series that mention the topic.
 */
export const counted = (name: string, topic: string): Effect.Effect<number> =>
  Effect.map(Metric.snapshot, (all) =>
    all
      .filter((one) => one.id === name && JSON.stringify(one.attributes ?? {}).includes(topic))
      .reduce((sum, one) => sum + (one.type === "Counter" ? Number(one.state.count) : 0), 0)
  )

interface Line {
  readonly text: string
  readonly level: string
  readonly cause: Cause.Cause<unknown>
  readonly annotations: Readonly<Record<string, unknown>>
}

export const counting: Category = (kit) => {
  const retry = { maxRetries: 1, base: kit.ticks(1), jitter: 0 }

  kit.test(
    "12. sent, consumed, retried, dead-lettered, poisonous, filtered, released and twice settled are each counted",
    () =>
      Effect.gen(function* () {
        const topic = kit.topic()
        const wide = Topic.make(topic.topic, { schema: Schema.Unknown })
        let released = false
        const handler = Effect.fnUntraced(function* ({ data }: { readonly data: string }) {
          const delivery = yield* Delivery
          if (data === "fails") return yield* Effect.fail("no")
          if (data === "released" && !released) {
            released = true
            return yield* delivery.release
          }
          yield* delivery.ack
          if (data === "twice") yield* Effect.ignore(delivery.ack)
        })
        const wanted = Topic.filter(topic, (data) => data !== "unwanted")
        const subscription = Subscription.make("s", wanted, handler, { ack: "manual", retry })
        yield* kit.open(subscription)
        yield* Topic.publishAll(topic, ["fine", "fails", "unwanted", "unwanted", "released", "twice"])
        yield* Topic.publish(wide, { no: "text" })
        yield* kit.idle(subscription)
        const expected = {
          "messaging.client.sent.messages": 7,
          // seven, the retry, and what was released
          "messaging.client.consumed.messages": 9,
          "clutch.deliveries.retried": 1,
          "clutch.deliveries.dead_lettered": 2,
          "clutch.deliveries.poison": 1,
          "clutch.deliveries.filtered": 2,
          "clutch.deliveries.released": 1,
          "clutch.deliveries.settled_twice": 1
        }
        for (const [name, count] of Object.entries(expected)) {
          assert.strictEqual(yield* counted(name, topic.topic), count, name)
        }
      })
  )

  kit.test("12. what is exhausted or poisonous where dead letters are off is counted as dropped", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const wide = Topic.make(topic.topic, { schema: Schema.Unknown })
      const subscription = Subscription.make("s", topic, () => Effect.fail("no"), {
        deadLetters: false,
        retry: { maxRetries: 0 }
      })
      yield* kit.open(subscription)
      yield* Topic.publish(topic, "exhausted")
      yield* Topic.publish(wide, ["poison"])
      yield* kit.idle(subscription)
      assert.strictEqual(yield* counted("clutch.deliveries.dropped", topic.topic), 2)
      assert.strictEqual(yield* counted("clutch.deliveries.dead_lettered", topic.topic), 0)
    })
  )

  kit.test("12. a failure is one line, with its cause, and topic, subscription, message id and attempt beside it", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const lines: Array<Line> = []
      const capture = Logger.make(({ cause, fiber, logLevel, message }) => {
        const annotations = fiber.getRef(References.CurrentLogAnnotations)
        lines.push({ text: String(message), level: logLevel, cause, annotations })
      })
      const seen = yield* probe()
      const handler = seen.handler(() => Effect.fail(new Failure({ message: "the reason" })))
      const subscription = Subscription.make("s", topic, handler, { retry })
      yield* kit.open(subscription).pipe(Effect.provide(Logger.layer([capture])))
      yield* Topic.publish(topic, "x")
      const calls = yield* kit.take(seen, 2)
      yield* kit.idle(subscription)
      const failures = lines.filter(({ cause, text }) => (Cause.pretty(cause) + text).includes("the reason"))
      assert.strictEqual(failures.length, 2, "one line a failure")
      assert.deepStrictEqual(
        failures.map(({ level }) => level),
        ["Warn", "Error"]
      )
      for (const [i, { annotations }] of failures.entries()) {
        assert.strictEqual(annotations["topic"], topic.topic)
        assert.strictEqual(annotations["subscription"], "s")
        assert.strictEqual(annotations["messageId"], calls[i]?.messageId)
        assert.strictEqual(annotations["attempt"], i + 1)
      }
    })
  )
}
