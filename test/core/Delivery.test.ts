import { Delivery } from "@clutch/core/Delivery"
import type { SettleError } from "@clutch/core/Errors"
import * as DeadLetters from "@clutch/core/DeadLetters"
import type { Message } from "@clutch/core/Message"
import * as Metrics from "@clutch/core/Metrics"
import * as Subscription from "@clutch/core/Subscription"
import * as Topic from "@clutch/core/Topic"
import { Transport } from "@clutch/core/Transport"
import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import * as Metric from "effect/Metric"
import * as Stream from "effect/Stream"
import { type Call, given, groupOf, Lines, open, pass, passing, probe, settled, Texts } from "./support.ts"

const tags = {
  "messaging.system": "memory",
  "messaging.destination.name": "texts",
  "messaging.consumer.group.name": "s"
}
const twice = Effect.map(Metric.value(Metric.withAttributes(Metrics.settledTwice, tags)), ({ count }) => count)

const manual = <E, R>(
  handler: (message: Message<string>) => Effect.Effect<void, E, R | Delivery>,
  retry: { readonly maxRetries?: number; readonly base?: Duration.Input; readonly jitter?: number } = {}
) => Subscription.make("s", Texts, handler, { ack: "manual", retry: { jitter: 0, ...retry } })

const letters = Effect.map(Stream.runCollect(DeadLetters.list(Subscription.address("s", Texts))), (all) => [...all])

describe("Delivery", () => {
  it.effect(
    "tells the facts of each attempt",
    given(function* () {
      const seen = yield* probe()
      const subscription = Subscription.make(
        "s",
        Texts,
        seen.handler(({ attempt }) => (attempt < 3 ? Effect.fail("no") : Effect.void)),
        {
          consumer: "w-1",
          retry: { base: "1 minute", factor: 1 }
        }
      )
      yield* pass("1 second")
      yield* open(subscription)
      const { id } = yield* Topic.publish(Texts, "x")
      yield* passing("1 minute")(Subscription.awaitIdle(subscription))
      const [first, second, third] = seen.calls.map(({ delivery }) => delivery)
      assert(first !== undefined && second !== undefined && third !== undefined)
      for (const [index, delivery] of [first, second, third].entries()) {
        assert.strictEqual(delivery.topic, "texts")
        assert.strictEqual(delivery.consumer, "w-1")
        assert.strictEqual(delivery.originalId, id)
        assert.strictEqual(delivery.attempt, index + 1)
        assert.strictEqual(DateTime.toEpochMillis(delivery.firstDelivered), 1000)
      }
      const transport = yield* Transport
      assert.deepStrictEqual([first.stream, first.group, first.messageId], [transport.stream(groupOf("s")), "s", id])
      // 2. retries are the subscription's own log, 3. read by the group {subscription}-retry
      assert.notStrictEqual(second.stream, first.stream)
      assert.strictEqual(second.group, "s-retry")
      assert.strictEqual(third.stream, second.stream)
      assert.strictEqual(third.group, "s-retry")
    })
  )

  describe("manual", () => {
    it.effect(
      "ack: succeeds once the log has it",
      given(function* () {
        const transport = yield* Transport
        const pending: Array<number> = []
        const subscription = manual(() =>
          Effect.gen(function* () {
            yield* (yield* Delivery).ack
            pending.push((yield* transport.inspect(groupOf("s"))).pending)
          })
        )
        yield* open(subscription)
        yield* Topic.publish(Texts, "x")
        yield* Subscription.awaitIdle(subscription)
        yield* settled
        assert.deepStrictEqual(pending, [0])
      })
    )

    it.effect.each([
      ["after", { after: "7 minutes" }, 420_000],
      ["by the backoff", undefined, 60_000],
      ["by the backoff where after is no duration", { after: "soon" as Duration.Input }, 60_000],
      ["by the backoff where after never comes", { after: "Infinity" as Duration.Input }, 60_000],
      ["by the backoff where after is negative", { after: -5 }, 60_000]
    ] as const)("retry: the next attempt is due %s", ([, options, due]) =>
      given(function* () {
        const seen = yield* probe()
        const subscription = manual(
          seen.handler(({ attempt, delivery }) => (attempt === 1 ? delivery.retry(options) : delivery.ack)),
          { base: "1 minute" }
        )
        yield* open(subscription)
        yield* Topic.publish(Texts, "x")
        yield* passing("30 seconds", 100)(Subscription.awaitIdle(subscription))
        assert.deepStrictEqual(
          seen.calls.map(({ at, attempt }) => [at, attempt]),
          [
            [0, 1],
            [due, 2]
          ]
        )
      })()
    )

    it.effect(
      "retry: where no attempt is left the message is exhausted, with the cause that was given",
      given(function* () {
        const cause = Cause.fail(new Error("the printer is on fire"))
        const subscription = manual(() => Effect.flatMap(Delivery, ({ retry }) => retry({ after: "1 hour", cause })), {
          maxRetries: 0
        })
        yield* open(subscription)
        yield* Topic.publish(Texts, "x")
        yield* Subscription.awaitIdle(subscription)
        const [letter] = yield* letters
        assert.deepStrictEqual([letter?.reason, letter?.attempts], ["exhausted", 1])
        assert.include(letter?.cause, "the printer is on fire")
      })
    )

    it.effect(
      "4. release: given back at no cost of an attempt, at once",
      given(function* () {
        const seen = yield* probe()
        const subscription = manual(
          seen.handler(({ delivery }) => (seen.calls.length < 4 ? delivery.release : delivery.ack))
        )
        yield* open(subscription)
        yield* Topic.publish(Texts, "x")
        yield* Subscription.awaitIdle(subscription)
        assert.deepStrictEqual(
          seen.calls.map(({ at, attempt }) => [at, attempt]),
          [
            [0, 1],
            [0, 1],
            [0, 1],
            [0, 1]
          ]
        )
      })
    )

    it.effect(
      "deadLetter: reason rejected, the text as its cause, however many retries are left",
      given(function* () {
        const subscription = manual(() => Effect.flatMap(Delivery, ({ deadLetter }) => deadLetter("not ours")))
        yield* open(subscription)
        yield* Topic.publish(Texts, "x")
        yield* Subscription.awaitIdle(subscription)
        const [letter] = yield* letters
        assert.deepStrictEqual([letter?.reason, letter?.cause, letter?.attempts], ["rejected", "not ours", 1])
      })
    )

    it.effect(
      "ending without settling is the failure Unsettled: retried, then dead-lettered",
      given(function* () {
        const seen = yield* probe()
        const subscription = manual(seen.handler(), { maxRetries: 1, base: "1 second" })
        yield* open(subscription)
        yield* Topic.publish(Texts, "x")
        yield* passing("1 second")(Subscription.awaitIdle(subscription))
        assert.strictEqual(seen.calls.length, 2)
        const [letter] = yield* letters
        assert.strictEqual(letter?.reason, "exhausted")
        assert.include(letter?.cause, 'under ack "manual" call ack, retry, release or deadLetter')
      })
    )
  })

  const ways: ReadonlyArray<readonly [string, (delivery: Delivery["Service"]) => Effect.Effect<void, SettleError>]> = [
    ["ack", ({ ack }) => ack],
    ["retry", ({ retry }) => retry()],
    ["release", ({ release }) => release],
    ["deadLetter", ({ deadLetter }) => deadLetter("second")]
  ]
  it.effect.each(ways)(
    "a second settle, by %s, is refused with AlreadySettled and counted; the first stands",
    ([, again]) =>
      given(function* () {
        const errors: Array<SettleError> = []
        const subscription = manual(() =>
          Effect.gen(function* () {
            const delivery = yield* Delivery
            yield* delivery.ack
            errors.push(yield* Effect.flip(again(delivery)))
          })
        )
        yield* open(subscription)
        const { id } = yield* Topic.publish(Texts, "x")
        yield* Subscription.awaitIdle(subscription)
        yield* pass("1 hour")
        assert.deepStrictEqual(
          errors.map(({ messageId, reason, subscription, topic }) => [reason._tag, topic, subscription, messageId]),
          [["AlreadySettled", "texts", "s", id]]
        )
        assert.strictEqual(yield* twice, 1)
        assert.strictEqual((yield* letters).length, 0)
        assert.strictEqual((yield* Subscription.stats(subscription)).due, 0)
        const lines = (yield* Lines).filter(({ text }) => text.includes("settled twice"))
        assert.deepStrictEqual(
          lines.map(({ annotations }) => annotations["messageId"]),
          [id]
        )
      })()
  )

  it.effect(
    "two settles at the same time: one is applied, one refused",
    given(function* () {
      const results: Array<string> = []
      const told = (settle: Effect.Effect<void, SettleError>) =>
        Effect.match(settle, {
          onSuccess: () => void results.push("done"),
          onFailure: ({ reason }) => void results.push(reason._tag)
        })
      const subscription = manual(() =>
        Effect.flatMap(Delivery, ({ ack, deadLetter }) =>
          Effect.asVoid(Effect.all([told(ack), told(deadLetter("no"))], { concurrency: "unbounded" }))
        )
      )
      yield* open(subscription)
      yield* Topic.publish(Texts, "x")
      yield* Subscription.awaitIdle(subscription)
      yield* settled
      assert.sameMembers(results, ["done", "AlreadySettled"])
      assert.strictEqual((yield* letters).length, 0)
    })
  )

  it.effect(
    "a failure after a settle is logged and changes nothing",
    given(function* () {
      const seen = yield* probe()
      const subscription = manual(seen.handler(({ delivery }) => Effect.andThen(delivery.ack, Effect.fail("too late"))))
      yield* open(subscription)
      yield* Topic.publish(Texts, "x")
      yield* Subscription.awaitIdle(subscription)
      yield* pass("1 hour")
      assert.strictEqual(seen.calls.length, 1)
      const { deadLetters, due, pending } = yield* Subscription.stats(subscription)
      assert.deepStrictEqual([pending, due, deadLetters], [0, 0, 0])
      const [line] = (yield* Lines).filter(({ level }) => level === "Warn")
      assert.include(line?.text, "after it had settled")
      assert.include(Cause.pretty(line?.cause ?? Cause.empty), "too late")
    })
  )

  it.effect.each(["onSuccess", "onExit"] as const)(
    "under ack %s a handler may settle, and what it chose stands",
    (ack) =>
      given(function* () {
        const seen = yield* probe()
        const choose = ({ data, delivery }: Call) => (data === "bad" ? delivery.deadLetter("bad") : Effect.void)
        const subscription = Subscription.make("s", Texts, seen.handler(choose), { ack })
        yield* open(subscription)
        yield* Topic.publishAll(Texts, ["good", "bad"])
        yield* Subscription.awaitIdle(subscription)
        yield* settled
        assert.deepStrictEqual(
          (yield* letters).map(({ reason }) => reason),
          ["rejected"]
        )
        assert.strictEqual(yield* twice, 0)
      })()
  )

  it.effect(
    "8. a worker that lost its lease learns it when it settles: LeaseLost, counted, nothing applied",
    given(function* () {
      const gate = yield* Latch.make()
      const errors: Array<string> = []
      const seen = yield* probe()
      const handler = Effect.fnUntraced(function* () {
        const { deadLetter } = yield* Delivery
        yield* gate.await
        errors.push((yield* Effect.flip(deadLetter("mine"))).reason._tag)
      })
      // heartbeats end with maxLease, so that the delivery of a living worker is reclaimed
      const slow = { ack: "manual", visibilityTimeout: "10 seconds", maxLease: "10 seconds" } as const
      yield* open(Subscription.make("s", Texts, handler, slow))
      yield* Topic.publish(Texts, "x")
      yield* settled
      const other = Subscription.make("s", Texts, seen.handler(), { consumer: "other" })
      yield* open(other)
      yield* pass("1 minute")
      assert.deepStrictEqual(
        seen.calls.map(({ attempt }) => attempt),
        [2]
      )
      yield* gate.open
      yield* settled
      assert.deepStrictEqual(errors, ["LeaseLost"])
      assert.strictEqual((yield* letters).length, 0)
      assert.strictEqual((yield* Metric.value(Metric.withAttributes(Metrics.leasesLost, tags))).count, 1)
    })
  )
})
