/**
 * Numbers: many topics, many subscribers, storms of publishers and of errors. Real counts; a tenth in short mode.
 */
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { DeadLetters, Subscription, Topic } from "../index.ts"
import { assertEachOnce, deadLetters, range } from "./Collect.ts"
import { type Category, type Probe, probe } from "./Kit.ts"

export const many: Category = (kit) => {
  kit.test("2. fifty topics: each subscription handles the messages of its own topic, and no others", () =>
    Effect.gen(function* () {
      const topics = range(50).map(() => kit.topic())
      const probes: Array<Probe> = []
      for (const topic of topics) {
        const seen = yield* probe()
        probes.push(seen)
        yield* kit.open(Subscription.make("s", topic, seen.handler()))
      }
      yield* Effect.forEach(
        topics,
        (topic) =>
          Topic.publishAll(
            topic,
            range(10).map((i) => `${topic.topic}:${i}`)
          ),
        { concurrency: 10 }
      )
      for (const [index, topic] of topics.entries()) {
        const seen = probes[index]
        if (seen === undefined) return assert.fail("a probe a topic")
        yield* kit.take(seen, 10)
        assertEachOnce(
          seen.data(),
          range(10).map((i) => `${topic.topic}:${i}`)
        )
      }
    })
  )

  kit.test("2. fifty subscriptions on one topic: each handles every message", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const probes: Array<Probe> = []
      for (const i of range(50)) {
        const seen = yield* probe()
        probes.push(seen)
        yield* kit.open(Subscription.make(`s${i}`, topic, seen.handler()))
      }
      const data = range(20).map((i) => `m${i}`)
      yield* Topic.publishAll(topic, data)
      for (const seen of probes) {
        yield* kit.take(seen, 20)
        assertEachOnce(seen.data(), data)
      }
    })
  )

  kit.test("1. a storm of publishers: 20 at once, 10,000 messages, each handled once", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const seen = yield* probe()
      const subscription = Subscription.make("s", topic, seen.handler(), { concurrency: 64 })
      yield* kit.open(subscription)
      const each = kit.many(500)
      yield* kit.passing(
        Effect.forEach(
          range(20),
          (p) => Effect.forEach(range(each), (i) => Topic.publish(topic, `${p}:${i}`), { concurrency: 25 }),
          { concurrency: "unbounded" }
        )
      )
      yield* kit.idle(subscription)
      assertEachOnce(
        seen.data(),
        range(20).flatMap((p) => range(each).map((i) => `${p}:${i}`))
      )
    })
  )

  kit.test("1. a storm of publishers reaches every group: 20 at once, four subscriptions", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const probes = yield* Effect.forEach(range(4), () => probe())
      const subscriptions = probes.map((seen, i) =>
        Subscription.make(`s${i}`, topic, seen.handler(), { concurrency: 16 })
      )
      for (const subscription of subscriptions) yield* kit.open(subscription)
      const each = kit.many(100)
      yield* kit.passing(
        Effect.forEach(
          range(20),
          (p) =>
            Topic.publishAll(
              topic,
              range(each).map((i) => `${p}:${i}`)
            ),
          {
            concurrency: "unbounded"
          }
        )
      )
      const all = range(20).flatMap((p) => range(each).map((i) => `${p}:${i}`))
      for (const [i, subscription] of subscriptions.entries()) {
        yield* kit.idle(subscription)
        assertEachOnce(probes[i]?.data() ?? [], all, subscription.name)
      }
    })
  )

  kit.test("4. a storm of errors: 1,000 messages fail up to three times each, and each succeeds in the end", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const seen = yield* probe()
      const failures = (data: string) => Number(data.slice(1)) % 4
      const subscription = Subscription.make(
        "s",
        topic,
        seen.handler((call) => (call.attempt <= failures(call.data) ? Effect.fail("no") : Effect.void)),
        { concurrency: 32, retry: { maxRetries: 3, base: kit.ticks(0.5), factor: 1, jitter: 0 } }
      )
      yield* kit.open(subscription)
      const data = range(kit.many(1000)).map((i) => `m${i}`)
      yield* Topic.publishAll(topic, data)
      yield* kit.idle(subscription)
      const expected = data.flatMap((one) => range(failures(one) + 1).map((attempt) => `${one}#${attempt + 1}`))
      assertEachOnce(
        seen.calls.map((call) => `${call.data}#${call.attempt}`),
        expected
      )
      assert.strictEqual(yield* DeadLetters.count(subscription), 0)
    })
  )

  kit.test("4. a storm of defects stops no worker: 500 messages die once each, and each succeeds in the end", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const seen = yield* probe()
      const subscription = Subscription.make(
        "s",
        topic,
        seen.handler((call) => (call.attempt === 1 ? Effect.die(new Error("bug")) : Effect.void)),
        { concurrency: 16, retry: { base: kit.ticks(0.5), jitter: 0 } }
      )
      const { handle } = yield* kit.open(subscription)
      const data = range(kit.many(500)).map((i) => `m${i}`)
      yield* Topic.publishAll(topic, data)
      yield* kit.idle(subscription)
      assertEachOnce(
        seen.calls.map((call) => `${call.data}#${call.attempt}`),
        data.flatMap((d) => [`${d}#1`, `${d}#2`])
      )
      assert.strictEqual((yield* handle.stats).state, "running")
    })
  )

  kit.test("4. a storm that exhausts its retries: 300 messages end as 300 dead letters, each once", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const seen = yield* probe()
      const subscription = Subscription.make(
        "s",
        topic,
        seen.handler(() => Effect.fail("no")),
        {
          concurrency: 16,
          retry: { maxRetries: 1, base: kit.ticks(0.5), jitter: 0 }
        }
      )
      yield* kit.open(subscription)
      const data = range(kit.many(300)).map((i) => `m${i}`)
      const published = yield* Topic.publishAll(topic, data)
      yield* kit.idle(subscription)
      const letters = yield* deadLetters(subscription)
      assertEachOnce(
        letters.map((letter) => letter.originalId),
        published.map((message) => message.id)
      )
      assert.strictEqual(seen.calls.length, data.length * 2)
    })
  )

  kit.test("7. consumers come and go a hundred times, and no message is lost or doubled", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const seen = yield* probe()
      const rounds = kit.many(100)
      const data = range(rounds).map((i) => `m${i}`)
      for (const [i, one] of data.entries()) {
        const worker = Subscription.make("s", topic, seen.handler(), { from: "beginning", consumer: `w${i}` })
        const { close } = yield* kit.open(worker)
        yield* Topic.publish(topic, one)
        // every third worker leaves without waiting for its message
        if (i % 3 !== 0) yield* kit.idle(worker)
        yield* close
      }
      const last = Subscription.make("s", topic, seen.handler(), { consumer: "last" })
      const { handle } = yield* kit.open(last)
      yield* kit.idle(last)
      assertEachOnce(seen.data(), data)
      assert.strictEqual((yield* handle.stats).pending, 0)
    })
  )
}
