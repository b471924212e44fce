import type { SettleError } from "@clutch/core/Errors"
import * as Metrics from "@clutch/core/Metrics"
import * as Subscription from "@clutch/core/Subscription"
import * as Topic from "@clutch/core/Topic"
import { Transport } from "@clutch/core/Transport"
import { assert, describe, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Latch from "effect/Latch"
import * as Metric from "effect/Metric"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import { TestClock } from "effect/testing"
import {
  given,
  groupOf,
  layerWith,
  open,
  pass,
  passing,
  probe,
  run,
  settled,
  Texts,
  unknown,
  withConsumers
} from "./support.ts"

const producing = { "messaging.system": "memory", "messaging.destination.name": "texts" }
const consuming = { ...producing, "messaging.consumer.group.name": "s" }

const counted = (metric: Metric.Counter<number>, tags: Record<string, string> = consuming) =>
  Effect.map(Metric.value(Metric.withAttributes(metric, tags)), ({ count }) => count)
const inFlight = Effect.map(Metric.value(Metric.withAttributes(Metrics.inFlight, consuming)), ({ value }) => value)

describe("Metrics", () => {
  it.effect(
    "sent and consumed count messages, with OpenTelemetry's names",
    given(function* () {
      assert.strictEqual(Metrics.sent.id, "messaging.client.sent.messages")
      assert.strictEqual(Metrics.consumed.id, "messaging.client.consumed.messages")
      assert.strictEqual(Metrics.processDuration.id, "messaging.process.duration")
      const seen = yield* probe()
      const subscription = Subscription.make(
        "s",
        Texts,
        seen.handler(({ attempt }) => (attempt === 1 ? Effect.fail("no") : Effect.void)),
        {
          retry: { base: "1 second" }
        }
      )
      yield* open(subscription)
      yield* Topic.publish(Texts, "a")
      yield* Topic.publishAll(Texts, ["b", "c"])
      yield* passing("1 second")(Subscription.awaitIdle(subscription))
      assert.strictEqual(yield* counted(Metrics.sent, producing), 3)
      // each of its two attempts
      assert.strictEqual(yield* counted(Metrics.consumed), 6)
      assert.strictEqual(yield* counted(Metrics.retries), 3)
      // of this topic and this subscription only
      assert.strictEqual(yield* counted(Metrics.sent, { ...producing, "messaging.destination.name": "others" }), 0)
      assert.strictEqual(
        yield* counted(Metrics.consumed, { ...consuming, "messaging.consumer.group.name": "other" }),
        0
      )
    })
  )

  it.effect(
    "process duration is the handler's time in seconds, sojourn the time from publish to ack, retries included",
    given(function* () {
      const seen = yield* probe()
      const handler = seen.handler(({ attempt }) =>
        Effect.andThen(Effect.sleep("3 seconds"), attempt === 1 ? Effect.fail("no") : Effect.void)
      )
      const subscription = Subscription.make("s", Texts, handler, { retry: { base: "10 seconds", jitter: 0 } })
      yield* open(subscription)
      yield* Topic.publish(Texts, "x")
      yield* TestClock.adjust("3 seconds")
      yield* pass("10 seconds")
      yield* pass("3 seconds")
      yield* Subscription.awaitIdle(subscription)
      yield* settled
      const took = yield* Metric.value(Metric.withAttributes(Metrics.processDuration, consuming))
      assert.deepStrictEqual([took.count, took.min, took.max, took.sum], [2, 3, 3, 6])
      const sojourn = yield* Metric.value(Metric.withAttributes(Metrics.sojourn, consuming))
      assert.deepStrictEqual([sojourn.count, sojourn.sum], [1, 16])
      assert.include(
        took.buckets.map(([boundary]) => boundary),
        0.005
      )
    })
  )

  it.effect(
    "in flight rises with each handler and returns to 0, however handlers end",
    given(function* () {
      const gate = yield* Latch.make()
      const seen = yield* probe()
      const ends: Record<string, Effect.Effect<void, string>> = {
        ok: Effect.void,
        fails: Effect.fail("no"),
        dies: Effect.die("bug"),
        interrupts: Effect.interrupt
      }
      const subscription = Subscription.make(
        "s",
        Texts,
        seen.handler(({ data }) => Effect.andThen(gate.await, ends[data] ?? Effect.void)),
        {
          concurrency: 8,
          retry: { maxRetries: 0 }
        }
      )
      yield* open(subscription)
      assert.strictEqual(yield* inFlight, 0)
      yield* Topic.publishAll(Texts, ["ok", "fails", "dies", "interrupts"])
      for (let i = 0; i < 4; i++) yield* seen.next
      assert.strictEqual(yield* inFlight, 4)
      yield* gate.open
      yield* Subscription.awaitIdle(subscription)
      yield* settled
      assert.strictEqual(yield* inFlight, 0)
    })
  )

  it.effect(
    "in flight counts the messages of a batch, and returns to 0 when closing interrupts it",
    given(function* () {
      const worker = yield* open(Subscription.batch("s", Texts, () => Effect.never, { size: 3, within: 0 }))
      yield* Topic.publishAll(Texts, ["a", "b", "c"])
      yield* settled
      assert.strictEqual(yield* inFlight, 3)
      yield* worker.close
      assert.strictEqual(yield* inFlight, 0)
      assert.strictEqual(yield* counted(Metrics.released), 3)
    })
  )

  it.effect(
    "dead letters are counted by reason",
    given(function* () {
      const Words = Topic.make("texts", { schema: Schema.String.check(Schema.isMaxLength(10)) })
      const seen = yield* probe()
      const subscription = Subscription.make(
        "s",
        Words,
        seen.handler<SettleError | string, never>(({ data, delivery }) =>
          data === "rejected" ? delivery.deadLetter("no") : Effect.fail(data)
        ),
        { retry: { maxRetries: 0, while: (why) => why !== "never" } }
      )
      yield* open(subscription)
      yield* Topic.publishAll(Texts, ["rejected", "never", "exhausted", "exhausted", "far too long to be decoded"])
      yield* Subscription.awaitIdle(subscription)
      yield* settled
      const reasons = { exhausted: 2, notRetryable: 1, poison: 1, rejected: 1 }
      for (const [reason, count] of Object.entries(reasons)) {
        assert.strictEqual(yield* counted(Metrics.deadLetters, { ...consuming, reason }), count, reason)
      }
      assert.strictEqual(yield* counted(Metrics.poison), 1)
    })
  )

  it.effect(
    "12. poison without dead letters is counted twice: as poison and as dropped",
    given(function* () {
      const Numbers = Topic.make("texts", { schema: Schema.Number })
      const subscription = Subscription.make("s", Numbers, () => Effect.void, { deadLetters: false })
      yield* open(subscription)
      yield* Topic.publish(Texts, "x")
      yield* Subscription.awaitIdle(subscription)
      yield* settled
      assert.strictEqual(yield* counted(Metrics.poison), 1)
      assert.strictEqual(yield* counted(Metrics.dropped), 1)
      assert.strictEqual(yield* counted(Metrics.deadLetters, { ...consuming, reason: "poison" }), 0)
    })
  )

  it.effect(
    "what is filtered out is counted, and is neither handled nor retried",
    given(function* () {
      const subscription = Subscription.make(
        "s",
        Topic.filter(Texts, (text) => text === "x"),
        () => Effect.void
      )
      yield* open(subscription)
      yield* Topic.publishAll(Texts, ["x", "y", "z"])
      yield* Subscription.awaitIdle(subscription)
      assert.strictEqual(yield* counted(Metrics.filtered), 2)
      assert.strictEqual((yield* Metric.value(Metric.withAttributes(Metrics.processDuration, consuming))).count, 1)
    })
  )

  it.effect(
    "deliveries taken from a dead consumer are counted as reclaimed",
    given(function* () {
      const transport = yield* Transport
      yield* Topic.publish(Texts, "x")
      const seen = yield* probe()
      const subscription = Subscription.make("s", Texts, seen.handler(), { from: "beginning" })
      const dying = yield* Scope.make()
      // a consumer that takes, and is not heard of again
      const joining = transport.join({
        group: groupOf("s"),
        consumer: "dying",
        visibilityTimeout: Duration.seconds(10),
        from: "beginning",
        ownConnection: false
      })
      const consumer = yield* Scope.provide(joining, dying)
      consumer.keep()
      yield* consumer.fetch({ count: 1, bytes: 1000, alone: false, maxAttempts: 6 })
      yield* open(subscription)
      yield* pass("11 seconds")
      yield* seen.next
      assert.strictEqual(
        yield* counted(Metrics.reclaimed, {
          "messaging.system": "memory",
          "messaging.destination.name": "texts",
          "messaging.consumer.group.name": "s"
        }),
        1
      )
      yield* Scope.close(dying, Exit.void)
    })
  )

  it.effect("a settlement repeated after a lost reply that finds nothing is counted as unknown, and succeeds", () => {
    let cut = 1
    const layer = layerWith(
      withConsumers(({ settle }) => ({
        settle: (settlements) =>
          Effect.flatMap(settle(settlements), (answers) =>
            cut-- > 0 ? Effect.fail(unknown("settle")) : Effect.succeed(answers)
          )
      }))
    )
    return run(layer, function* () {
      const seen = yield* probe()
      yield* open(
        Subscription.make(
          "s",
          Texts,
          seen.handler(({ delivery }) => delivery.ack),
          { ack: "manual" }
        )
      )
      yield* Topic.publish(Texts, "x")
      yield* seen.next
      yield* pass("1 second")
      assert.strictEqual(yield* counted(Metrics.settledUnknown), 1)
      assert.strictEqual(yield* counted(Metrics.leasesLost), 0)
      assert.strictEqual(seen.calls.length, 1)
    })
  })

  it.effect(
    "two subscriptions on one topic count for themselves",
    given(function* () {
      yield* open(Subscription.make("s", Texts, () => Effect.fail("no"), { retry: { base: "1 hour" } }))
      yield* open(Subscription.make("t", Texts, () => Effect.void))
      yield* Topic.publish(Texts, "x")
      yield* Subscription.awaitIdle(Subscription.address("t", Texts))
      yield* Subscription.awaitIdle(Subscription.address("s", Texts), { due: "ignore" })
      assert.strictEqual(yield* counted(Metrics.retries), 1)
      assert.strictEqual(yield* counted(Metrics.retries, { ...consuming, "messaging.consumer.group.name": "t" }), 0)
    })
  )
})
