import type { Delivered } from "@clutch/core/Delivery"
import * as DeadLetters from "@clutch/core/DeadLetters"
import * as Subscription from "@clutch/core/Subscription"
import * as Topic from "@clutch/core/Topic"
import { assert, describe, it } from "@effect/vitest"
import type { NonEmptyReadonlyArray } from "effect/Array"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import { TestClock } from "effect/testing"
import { given, open, pass, passing, settled, Texts } from "./support.ts"

interface Got {
  readonly at: number
  readonly data: ReadonlyArray<string>
  readonly attempts: ReadonlyArray<number>
}

/** Records its batches, then does as told. */
const recorder = () => {
  const got: Array<Got> = []
  const handler =
    <E = never, R = never>(
      then: (batch: NonEmptyReadonlyArray<Delivered<string>>) => Effect.Effect<void, E, R> = () => Effect.void
    ) =>
    (batch: NonEmptyReadonlyArray<Delivered<string>>) =>
      Effect.flatMap(Clock.currentTimeMillis, (at) => {
        got.push({ at, data: batch.map(({ message }) => message.data), attempts: batch.map(({ attempt }) => attempt) })
        return then(batch)
      })
  return { got, handler, data: () => got.map(({ data }) => data) }
}

const find = (batch: ReadonlyArray<Delivered<string>>, data: string) =>
  batch.find(({ message }) => message.data === data) ?? assert.fail(`no ${data} in the batch`)

describe("Subscription: batches", () => {
  it.effect(
    "a full batch goes at once, without waiting",
    given(function* () {
      const { data, got, handler } = recorder()
      const subscription = Subscription.batch("s", Texts, handler(), { size: 3, within: "1 hour" })
      yield* open(subscription)
      yield* Topic.publishAll(Texts, ["a", "b", "c", "d", "e", "f"])
      yield* Subscription.awaitIdle(subscription)
      assert.deepStrictEqual(data(), [
        ["a", "b", "c"],
        ["d", "e", "f"]
      ])
      assert.deepStrictEqual(
        got.map(({ at }) => at),
        [0, 0]
      )
    })
  )

  it.effect(
    "one that is not full waits for within, counted from its oldest",
    given(function* () {
      const { data, got, handler } = recorder()
      const subscription = Subscription.batch("s", Texts, handler(), { size: 10, within: "5 seconds" })
      yield* open(subscription)
      yield* Topic.publish(Texts, "a")
      yield* pass("3 seconds")
      yield* Topic.publish(Texts, "b")
      yield* pass("1999 millis")
      assert.deepStrictEqual(data(), [])
      yield* pass(1)
      assert.deepStrictEqual(got, [{ at: 5000, data: ["a", "b"], attempts: [1, 1] }])
      yield* Topic.publish(Texts, "c")
      yield* pass("5 seconds")
      assert.deepStrictEqual(data(), [["a", "b"], ["c"]])
    })
  )

  it.effect(
    "within 0 takes what is there",
    given(function* () {
      const { data, handler } = recorder()
      const subscription = Subscription.batch("s", Texts, handler(), { size: 10, within: 0 })
      yield* open(subscription)
      yield* Topic.publishAll(Texts, ["a", "b"])
      yield* Subscription.awaitIdle(subscription)
      yield* Topic.publish(Texts, "c")
      yield* Subscription.awaitIdle(subscription)
      assert.deepStrictEqual(data(), [["a", "b"], ["c"]])
      assert.strictEqual(yield* Clock.currentTimeMillis, 0)
    })
  )

  it.effect(
    "11. never more than concurrency batches at once",
    given(function* () {
      const gate = yield* Latch.make()
      const { data, handler } = recorder()
      const subscription = Subscription.batch(
        "s",
        Texts,
        handler(() => gate.await),
        { size: 2, within: 0, concurrency: 2 }
      )
      yield* open(subscription)
      yield* Topic.publishAll(Texts, ["a", "b", "c", "d", "e", "f"])
      yield* settled
      assert.deepStrictEqual(data(), [
        ["a", "b"],
        ["c", "d"]
      ])
      yield* gate.open
      yield* Subscription.awaitIdle(subscription)
      assert.deepStrictEqual(data(), [
        ["a", "b"],
        ["c", "d"],
        ["e", "f"]
      ])
    })
  )

  it.effect(
    "a failure retries all that is unsettled, each with its own attempt",
    given(function* () {
      const { got, handler } = recorder()
      const failing = handler((batch) =>
        batch.some(({ message }) => message.data === "bad") ? Effect.fail("no") : Effect.void
      )
      const subscription = Subscription.batch("s", Texts, failing, {
        size: 3,
        within: "1 second",
        retry: { maxRetries: 2, base: "10 seconds", factor: 1, jitter: 0 }
      })
      yield* open(subscription)
      yield* Topic.publishAll(Texts, ["bad", "a", "b"])
      yield* pass("5 seconds")
      yield* passing("1 second")(Subscription.awaitIdle(subscription))
      for (const { attempts } of got) assert.strictEqual(new Set(attempts).size, 1)
      assert.deepStrictEqual(
        got.map(({ attempts }) => attempts[0]),
        [1, 2, 3]
      )
      const letters = yield* Stream.runCollect(DeadLetters.list(subscription))
      assert.deepStrictEqual(
        [...letters].map(({ attempts, reason }) => [reason, attempts]),
        [
          ["exhausted", 3],
          ["exhausted", 3],
          ["exhausted", 3]
        ]
      )
    })
  )

  it.effect(
    "what the handler settled itself stands, whether the batch then succeeds or fails",
    given(function* () {
      const { data, handler } = recorder()
      const subscription = Subscription.batch(
        "s",
        Texts,
        handler((batch) =>
          Effect.gen(function* () {
            if (batch.length === 1) return
            yield* find(batch, "acked").ack
            yield* find(batch, "dead").deadLetter("not ours")
            yield* find(batch, "later").retry({ after: "1 hour" })
            return yield* Effect.fail("no")
          })
        ),
        { size: 4, within: 0, retry: { base: "1 minute" } }
      )
      yield* open(subscription)
      yield* Topic.publishAll(Texts, ["acked", "dead", "later", "rest"])
      yield* Subscription.awaitIdle(subscription, { due: "ignore" })
      const { deadLetters, due, pending } = yield* Subscription.stats(subscription)
      assert.deepStrictEqual([pending, due, deadLetters], [0, 2, 1])
      yield* pass("3 minutes")
      assert.deepStrictEqual(data().slice(1), [["rest"]])
      yield* pass("1 hour")
      assert.deepStrictEqual(data().slice(1), [["rest"], ["later"]])
    })
  )

  it.effect(
    "under ack manual a batch that leaves one unsettled fails for that one alone",
    given(function* () {
      const { got, handler } = recorder()
      const subscription = Subscription.batch(
        "s",
        Texts,
        handler((batch) =>
          Effect.forEach(
            batch,
            ({ ack, attempt, message }) => (message.data === "forgotten" && attempt === 1 ? Effect.void : ack),
            {
              discard: true
            }
          )
        ),
        { size: 3, within: 0, ack: "manual", retry: { base: "1 second" } }
      )
      yield* open(subscription)
      yield* Topic.publishAll(Texts, ["a", "forgotten", "b"])
      yield* passing("1 second")(Subscription.awaitIdle(subscription))
      assert.deepStrictEqual(
        got.map(({ attempts, data }) => [data, attempts]),
        [
          [
            ["a", "forgotten", "b"],
            [1, 1, 1]
          ],
          [["forgotten"], [2]]
        ]
      )
    })
  )

  it.effect.each(["onExit", "onReceive"] as const)("ack %s acks the whole of a batch that failed", (ack) =>
    given(function* () {
      const { got, handler } = recorder()
      const subscription = Subscription.batch(
        "s",
        Texts,
        handler(() => Effect.fail("no")),
        { size: 3, within: 0, ack }
      )
      yield* open(subscription)
      yield* Topic.publishAll(Texts, ["a", "b", "c"])
      yield* Subscription.awaitIdle(subscription)
      yield* pass("1 hour")
      assert.strictEqual(got.length, 1)
      const { deadLetters, due, pending } = yield* Subscription.stats(subscription)
      assert.deepStrictEqual([pending, due, deadLetters], [0, 0, 0])
    })()
  )

  it.effect(
    "6. poison and what is filtered out are no part of a batch",
    given(function* () {
      const Long = Topic.make("texts", { schema: Schema.String.check(Schema.isMinLength(2)) })
      const { data, handler } = recorder()
      const subscription = Subscription.batch(
        "s",
        Topic.filter(Long, (text) => text !== "skip"),
        handler(),
        {
          size: 2,
          within: "1 second"
        }
      )
      yield* open(subscription)
      yield* Topic.publishAll(Texts, ["aa", "x", "skip", "bb"])
      yield* passing("1 second")(Subscription.awaitIdle(subscription))
      assert.deepStrictEqual(data(), [["aa", "bb"]])
      assert.strictEqual((yield* Subscription.stats(subscription)).deadLetters, 1)
    })
  )

  it.effect(
    "retries go in batches as others do, each with its own attempt, and none waits for longer than within",
    given(function* () {
      const { got, handler } = recorder()
      let fails = true
      const subscription = Subscription.batch(
        "s",
        Texts,
        handler(() => Effect.suspend(() => (fails ? Effect.fail("no") : Effect.void))),
        {
          size: 10,
          within: "10 seconds",
          retry: { base: "1 minute", jitter: 0 }
        }
      )
      yield* open(subscription)
      yield* Topic.publish(Texts, "old")
      yield* pass("11 seconds")
      fails = false
      yield* TestClock.adjust("55 seconds")
      yield* Topic.publish(Texts, "new")
      yield* passing("1 second")(Subscription.awaitIdle(subscription))
      // each waits for others at most as long as within, counted from when it was taken: 66 s and 70 s
      const started = got
        .slice(1)
        .flatMap(({ at, attempts, data }) => data.map((one, i) => [one, attempts[i], at] as const))
      assert.sameDeepMembers(
        started.map(([data, attempt]) => [data, attempt]),
        [
          ["new", 1],
          ["old", 2]
        ]
      )
      for (const [data, , at] of started) assert.isAtMost(at, data === "new" ? 76_000 : 80_000)
    })
  )
})
