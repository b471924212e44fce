/** A handler's test as a user would write it: hours of backoff in milliseconds, on the runtime that runs on Redis. */
import { layerTest } from "@clutch/core/testing"
import { Agent, DeadLetters, Subscription, Topic } from "@clutch/core"
import { Invoice, Invoices, Mail, MailFailed, reminder } from "@clutch/examples/testing"
import { assert, describe, it } from "@effect/vitest"
import { Clock, Effect, Layer, Stream } from "effect"
import { TestClock } from "effect/testing"

/** A mail server that fails the first times; it notes what was sent, and when it was asked. */
const mailServer = (failures: number) => {
  const asked: Array<number> = []
  const sent: Array<string> = []
  const layer = Layer.succeed(Mail, {
    send: (to, text) =>
      Effect.gen(function* () {
        asked.push((yield* Clock.currentTimeMillis) / 3_600_000)
        if (asked.length <= failures) return yield* new MailFailed({ code: 451 })
        sent.push(`${to}: ${text}`)
      })
  })
  return { asked, sent, layer }
}

const started = (mail: Layer.Layer<Mail>) =>
  Agent.layer("test", [reminder]).pipe(Layer.provide(mail), Layer.provideMerge(layerTest))

describe("reminder", () => {
  it.effect("tries again after 1, 2 and 3 hours, and sends one mail", () => {
    const mail = mailServer(3)
    return Effect.gen(function* () {
      yield* Topic.publish(Invoices, new Invoice({ number: "7", email: "a@example.org" }))
      yield* TestClock.adjust("6 hours")
      yield* Subscription.awaitIdle(reminder)
      assert.deepStrictEqual(mail.asked, [0, 1, 3, 6])
      assert.deepStrictEqual(mail.sent, ["a@example.org: Invoice 7 is due"])
      assert.strictEqual(yield* DeadLetters.count(reminder), 0)
    }).pipe(Effect.provide(started(mail.layer)))
  })

  it.effect("gives up after the fourth failure, and a redrive sends it after all", () => {
    const mail = mailServer(4)
    return Effect.gen(function* () {
      yield* Topic.publish(Invoices, new Invoice({ number: "7", email: "a@example.org" }))
      yield* TestClock.adjust("1 day")
      const letters = yield* Stream.runCollect(DeadLetters.list(reminder))
      assert.deepStrictEqual(
        letters.map(({ reason, attempts }) => [reason, attempts]),
        [["exhausted", 4]]
      )
      assert.strictEqual(yield* DeadLetters.redrive(reminder), 1)
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual(mail.sent, ["a@example.org: Invoice 7 is due"])
    }).pipe(Effect.provide(started(mail.layer)))
  })

  it.effect("does not ask the mail server about what is no address", () => {
    const mail = mailServer(0)
    return Effect.gen(function* () {
      yield* Topic.publish(Invoices, new Invoice({ number: "8", email: "nobody" }))
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(mail.asked, [])
      const letters = yield* Stream.runCollect(DeadLetters.list(reminder))
      assert.deepStrictEqual(
        letters.map(({ reason }) => reason),
        ["notRetryable"]
      )
    }).pipe(Effect.provide(started(mail.layer)))
  })
})
