/** When a delivery is acked: the policies, and what a handler's end means under each. */
import { Delivery } from "@clutch/core/Delivery"
import type { Message } from "@clutch/core/Message"
import * as Metrics from "@clutch/core/Metrics"
import * as Subscription from "@clutch/core/Subscription"
import * as Topic from "@clutch/core/Topic"
import { Transport } from "@clutch/core/Transport"
import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import * as Logger from "effect/Logger"
import * as Metric from "effect/Metric"
import * as Queue from "effect/Queue"
import * as Schema from "effect/Schema"
import {
  given,
  groupOf,
  layerWith,
  Lines,
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

const numbers = (subscription: Subscription.Address) =>
  Effect.map(Subscription.stats(subscription), ({ deadLetters, due, pending }) => ({ pending, due, deadLetters }))
const nothing = { pending: 0, due: 0, deadLetters: 0 }

const tags = {
  "messaging.system": "memory",
  "messaging.destination.name": "texts",
  "messaging.consumer.group.name": "s"
}

/** How a handler may end badly. */
const ends: ReadonlyArray<readonly [string, () => Effect.Effect<void, string>]> = [
  ["fails", () => Effect.fail("no")],
  ["dies", () => Effect.die(new Error("bug"))],
  [
    "throws before it is an Effect",
    () => {
      throw new Error("thrown")
    }
  ],
  ["interrupts itself", () => Effect.interrupt],
  [
    "joins an interrupted fiber",
    () =>
      Effect.gen(function* () {
        const fiber = yield* Effect.forkChild(Effect.never)
        yield* Fiber.interrupt(fiber)
        return yield* Fiber.join(fiber)
      })
  ],
  [
    "fails with what cannot be printed",
    () =>
      Effect.die({
        get message() {
          throw new Error("unprintable")
        },
        toString: () => {
          throw new Error("unprintable")
        },
        toJSON: () => {
          throw new Error("unprintable")
        }
      })
  ],
  [
    "fails with what cannot even be looked at",
    () =>
      Effect.fail(
        new Proxy(
          {},
          {
            get: () => {
              throw new Error("get")
            },
            getPrototypeOf: () => {
              throw new Error("getPrototypeOf")
            }
          }
        ) as unknown as string // the table asks for text, and anything can be thrown
      )
  ],
  ["fails with an object of no prototype", () => Effect.die(Object.create(null))],
  ["is no Effect at all", () => undefined as unknown as Effect.Effect<void>] // what a caller from JavaScript could return
]

describe("Subscription: ack policies", () => {
  describe("onSuccess", () => {
    it.effect(
      "1. success acks, once the handler has ended and not before",
      given(function* () {
        const gate = yield* Latch.make()
        const seen = yield* probe()
        const subscription = Subscription.make(
          "s",
          Texts,
          seen.handler(() => gate.await)
        )
        yield* open(subscription)
        yield* Topic.publish(Texts, "x")
        yield* seen.next
        yield* pass("10 minutes")
        assert.deepStrictEqual(yield* numbers(subscription), { ...nothing, pending: 1 })
        yield* gate.open
        yield* Subscription.awaitIdle(subscription)
        assert.deepStrictEqual(yield* numbers(subscription), nothing)
      })
    )

    it.effect.each(ends)("4. a handler that %s has failed, is tried again, and the worker goes on", ([, end]) =>
      given(function* () {
        const seen = yield* probe()
        const handler = seen.handler(({ attempt, data }) => (data === "x" && attempt === 1 ? end() : Effect.void))
        const subscription = Subscription.make("s", Texts, handler, { retry: { base: "1 minute" } })
        yield* open(subscription)
        yield* Topic.publishAll(Texts, ["x", "y"])
        yield* seen.next
        yield* seen.next
        yield* Subscription.awaitIdle(subscription, { due: "ignore" })
        assert.deepStrictEqual(yield* numbers(subscription), { ...nothing, due: 1 })
        yield* passing("1 minute")(Subscription.awaitIdle(subscription))
        assert.deepStrictEqual(
          seen.calls.map(({ attempt, data }) => [data, attempt]),
          [
            ["x", 1],
            ["y", 1],
            ["x", 2]
          ]
        )
        assert.deepStrictEqual(yield* numbers(subscription), nothing)
      })()
    )

    it.effect(
      "4. maxRetries 0 dead-letters the first failure at once",
      given(function* () {
        const subscription = Subscription.make("s", Texts, () => Effect.fail("no"), { retry: { maxRetries: 0 } })
        yield* open(subscription)
        yield* Topic.publish(Texts, "x")
        yield* Subscription.awaitIdle(subscription)
        assert.deepStrictEqual(yield* numbers(subscription), { ...nothing, deadLetters: 1 })
      })
    )

    it.effect(
      "12. what is exhausted without dead letters is acked, logged as an error and counted",
      given(function* () {
        const subscription = Subscription.make("s", Texts, () => Effect.fail("the reason"), {
          retry: { maxRetries: 0 },
          deadLetters: false
        })
        yield* open(subscription)
        yield* Topic.publish(Texts, "x")
        yield* Subscription.awaitIdle(subscription)
        assert.deepStrictEqual(yield* numbers(subscription), nothing)
        const errors = (yield* Lines).filter(({ level }) => level === "Error")
        assert.strictEqual(errors.length, 1)
        assert.include(errors[0]?.text, "dropped")
        assert.include(Cause.pretty(errors[0]?.cause ?? Cause.empty), "the reason")
        assert.strictEqual((yield* Metric.value(Metric.withAttributes(Metrics.dropped, tags))).count, 1)
        const dead = Metric.withAttributes(Metrics.deadLetters, { ...tags, reason: "exhausted" })
        assert.strictEqual((yield* Metric.value(dead)).count, 0)
      })
    )

    it.effect(
      "a predicate of retry.while that throws decides nothing: the policy without it does, and both are logged",
      given(function* () {
        const seen = yield* probe()
        const subscription = Subscription.make(
          "s",
          Texts,
          seen.handler(() => Effect.fail("no")),
          {
            retry: {
              maxRetries: 1,
              base: 0,
              while: () => {
                throw new Error("predicate")
              }
            }
          }
        )
        yield* open(subscription)
        yield* Topic.publish(Texts, "x")
        yield* passing("1 second")(Subscription.awaitIdle(subscription))
        assert.strictEqual(seen.calls.length, 2)
        assert.deepStrictEqual(yield* numbers(subscription), { ...nothing, deadLetters: 1 })
      })
    )
  })

  describe("onExit", () => {
    it.effect.each(ends)("acks a handler that %s, and logs it", ([, end]) =>
      given(function* () {
        const seen = yield* probe()
        const subscription = Subscription.make(
          "s",
          Texts,
          seen.handler(() => end()),
          { ack: "onExit" }
        )
        yield* open(subscription)
        yield* Topic.publish(Texts, "x")
        yield* Subscription.awaitIdle(subscription)
        assert.deepStrictEqual(yield* numbers(subscription), nothing)
        assert.strictEqual(seen.calls.length, 1)
        assert.strictEqual((yield* Lines).filter(({ level }) => level === "Error").length, 1)
      })()
    )

    it.effect(
      "acks at the end and not before",
      given(function* () {
        const gate = yield* Latch.make()
        const subscription = Subscription.make("s", Texts, () => gate.await, { ack: "onExit" })
        yield* open(subscription)
        yield* Topic.publish(Texts, "x")
        yield* pass("1 minute")
        assert.deepStrictEqual(yield* numbers(subscription), { ...nothing, pending: 1 })
        yield* gate.open
        yield* Subscription.awaitIdle(subscription)
      })
    )
  })

  describe("onReceive", () => {
    it.effect("where the reply to the ack is lost, nothing is handled: another may have acked it", () => {
      let cut = false
      const losing = layerWith(
        withConsumers(({ settle }) => ({
          settle: (settlements) => {
            if (cut) return settle(settlements)
            cut = true
            return Effect.andThen(settle(settlements), Effect.fail(unknown("settle")))
          }
        }))
      )
      return run(losing, function* () {
        const seen = yield* probe()
        const subscription = Subscription.make("s", Texts, seen.handler(), { ack: "onReceive" })
        yield* open(subscription)
        yield* Topic.publish(Texts, "doubtful")
        yield* pass("1 minute")
        yield* Topic.publish(Texts, "certain")
        yield* pass("1 minute")
        assert.deepStrictEqual(
          seen.calls.map(({ data }) => data),
          ["certain"]
        )
        assert.deepStrictEqual(yield* numbers(subscription), nothing)
      })
    })

    it.effect(
      "acks before the handler runs: at most once",
      given(function* () {
        const seen = yield* probe()
        const pending: Array<number> = []
        const transport = yield* Transport
        const look = Effect.orDie(Effect.map(transport.inspect(groupOf("s")), (at) => void pending.push(at.pending)))
        const subscription = Subscription.make(
          "s",
          Texts,
          seen.handler(() => look),
          { ack: "onReceive" }
        )
        yield* open(subscription)
        // one after the other: while a handler runs, the next message may be pending already
        for (const data of ["x", "y"]) {
          yield* Topic.publish(Texts, data)
          yield* Subscription.awaitIdle(subscription)
          yield* seen.next
          yield* settled
        }
        assert.deepStrictEqual(pending, [0, 0])
      })
    )

    it.effect.each(ends)("a handler that %s changes nothing: not tried again", ([, end]) =>
      given(function* () {
        const seen = yield* probe()
        const subscription = Subscription.make(
          "s",
          Texts,
          seen.handler(() => end()),
          { ack: "onReceive" }
        )
        yield* open(subscription)
        yield* Topic.publish(Texts, "x")
        yield* seen.next
        yield* pass("1 hour")
        assert.strictEqual(seen.calls.length, 1)
        assert.deepStrictEqual(yield* numbers(subscription), nothing)
        assert.strictEqual((yield* Lines).filter(({ level }) => level === "Warn").length, 1)
      })()
    )

    it.effect(
      "6. an undecodable message is acked, then dead-lettered: it does not loop",
      given(function* () {
        const Numbers = Topic.make("texts", { schema: Schema.Number })
        const subscription = Subscription.make("s", Numbers, () => Effect.void, { ack: "onReceive" })
        yield* open(subscription)
        yield* Topic.publish(Texts, "x")
        yield* Subscription.awaitIdle(subscription)
        assert.deepStrictEqual(yield* numbers(subscription), { ...nothing, deadLetters: 1 })
      })
    )
  })

  describe("a handler's time and scope", () => {
    it.effect(
      "timeout bounds a handler: it is interrupted, and has failed",
      given(function* () {
        const seen = yield* probe()
        const interrupted: Array<string> = []
        const handler = seen.handler(({ attempt }) =>
          attempt === 1
            ? Effect.onInterrupt(Effect.never, () => Effect.sync(() => void interrupted.push("first")))
            : Effect.void
        )
        const subscription = Subscription.make("s", Texts, handler, {
          timeout: "5 seconds",
          retry: { base: "1 second" }
        })
        yield* open(subscription)
        yield* Topic.publish(Texts, "x")
        yield* pass("4999 millis")
        assert.deepStrictEqual(interrupted, [])
        yield* pass("1 milli")
        assert.deepStrictEqual(interrupted, ["first"])
        yield* passing("1 second")(Subscription.awaitIdle(subscription))
        assert.deepStrictEqual(
          seen.calls.map(({ attempt }) => attempt),
          [1, 2]
        )
        const [line] = (yield* Lines).filter(({ level }) => level === "Warn")
        assert.include(Cause.pretty(line?.cause ?? Cause.empty), "timeout of 5s")
      })
    )

    it.effect(
      "each delivery has a Scope of its own, closed before it settles, also where the handler failed",
      given(function* () {
        const transport = yield* Transport
        const events: Array<string> = []
        const subscription = Subscription.make(
          "s",
          Texts,
          ({ data }) =>
            Effect.gen(function* () {
              const { attempt } = yield* Delivery
              yield* Effect.acquireRelease(
                Effect.sync(() => void events.push(`open ${data}${attempt}`)),
                () =>
                  Effect.orDie(
                    Effect.map(transport.inspect(groupOf("s")), ({ due, pending }) => {
                      events.push(`close ${data}${attempt}, pending ${pending}, due ${due}`)
                    })
                  )
              )
              if (data === "x" && attempt === 1) return yield* Effect.fail("no")
            }),
          { retry: { base: "1 second" } }
        )
        yield* open(subscription)
        yield* Topic.publish(Texts, "x")
        yield* passing("1 second")(Subscription.awaitIdle(subscription))
        assert.deepStrictEqual(events, [
          "open x1",
          "close x1, pending 1, due 0",
          "open x2",
          "close x2, pending 1, due 0"
        ])
      })
    )

    it.effect(
      "finalizers of a handler find alive what it forked, and are waited for",
      given(function* () {
        const written: Array<string> = []
        const handler = ({ data }: Message<string>) =>
          Effect.gen(function* () {
            const queue = yield* Queue.unbounded<string, Cause.Done>()
            const write = Effect.flatMap(Queue.take(queue), (text) =>
              Effect.andThen(
                Effect.sleep("1 second"),
                Effect.sync(() => void written.push(text))
              )
            )
            const writer = yield* Effect.forkChild(Effect.forever(write))
            yield* Effect.addFinalizer(() => Effect.andThen(Queue.end(queue), Fiber.await(writer)))
            yield* Queue.offer(queue, data)
          })
        const subscription = Subscription.make("s", Texts, handler)
        yield* open(subscription)
        yield* Topic.publish(Texts, "x")
        yield* passing("1 second")(Subscription.awaitIdle(subscription))
        assert.deepStrictEqual(written, ["x"])
      })
    )

    it.effect(
      "a finalizer that dies is a failure of the delivery",
      given(function* () {
        const seen = yield* probe()
        const subscription = Subscription.make(
          "s",
          Texts,
          seen.handler(({ attempt }) =>
            Effect.addFinalizer(() => (attempt === 1 ? Effect.die("finalizer") : Effect.void))
          ),
          { retry: { base: "1 second" } }
        )
        yield* open(subscription)
        yield* Topic.publish(Texts, "x")
        yield* passing("1 second")(Subscription.awaitIdle(subscription))
        assert.strictEqual(seen.calls.length, 2)
      })
    )
  })

  it.effect(
    "12. a failure is one structured line, with its cause, topic, subscription, message id and attempt",
    given(function* () {
      const seen = yield* probe()
      const subscription = Subscription.make(
        "s",
        Texts,
        seen.handler(() => Effect.fail("declined")),
        {
          retry: { maxRetries: 1, base: "1 second" }
        }
      )
      yield* open(subscription)
      yield* Topic.publish(Texts, "x")
      yield* passing("1 second")(Subscription.awaitIdle(subscription))
      yield* settled
      const lines = (yield* Lines).filter(({ level }) => level === "Warn" || level === "Error")
      assert.deepStrictEqual(
        lines.map(({ level }) => level),
        ["Warn", "Error"]
      )
      for (const [index, { annotations, cause }] of lines.entries()) {
        assert.include(Cause.pretty(cause), "declined")
        assert.include(annotations, {
          topic: "texts",
          subscription: "s",
          messageId: seen.calls[index]?.delivery.messageId,
          attempt: index + 1
        })
      }
    })
  )

  it.effect(
    "a failure that a logger dies of has its line all the same, without it",
    given(function* () {
      const written: Array<string> = []
      const logger = Logger.make(({ cause, message }) => {
        written.push(`${Array.isArray(message) ? message.join(" ") : String(message)}${Cause.pretty(cause)}`)
      })
      const unprintable = {
        get message() {
          throw new Error("unprintable")
        }
      }
      const subscription = Subscription.make("s", Texts, () => Effect.fail(unprintable), {
        retry: { maxRetries: 0 },
        deadLetters: false
      })
      yield* Effect.provide(open(subscription), Logger.layer([logger]))
      yield* Topic.publish(Texts, "x")
      yield* Subscription.awaitIdle(subscription)
      yield* settled
      assert.deepStrictEqual(written, [
        "message dropped, as the subscription keeps no dead letters: exhausted the failure cannot be printed"
      ])
    })
  )
})
