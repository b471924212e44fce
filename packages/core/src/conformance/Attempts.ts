/**
 * What counts as an attempt, and how many there are.
 */
import { assert } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import { DeadLetters, Delivery, Subscription, Topic, Transport } from "../index.ts"
import { deadLetters, Failure, onlyDeadLetter, range, texts } from "./Collect.ts"
import { type Category, probe } from "./Kit.ts"
import { inTurn, type Keyed, keyedTopic } from "./Ordered.ts"
import { cuttable, die, fetch, join } from "./Workers.ts"

export const attempts: Category = (kit) => {
  kit.test(
    "4. with maxRetries = n there are exactly n + 1 calls, then one dead letter that tells where it comes from",
    () =>
      Effect.gen(function* () {
        for (const maxRetries of [0, 1, 4]) {
          const topic = kit.topic()
          const seen = yield* probe()
          const handler = seen.handler((call) => Effect.fail(new Failure({ message: `failure ${call.attempt}` })))
          const subscription = Subscription.make("s", topic, handler, {
            retry: { maxRetries, base: kit.ticks(1), factor: 1, jitter: 0 }
          })
          const { close } = yield* kit.open(subscription)
          const published = yield* Topic.publish(topic, "x", { headers: { a: "b" } })
          yield* kit.idle(subscription)
          assert.deepStrictEqual(
            seen.calls.map((call) => call.attempt),
            range(maxRetries + 1).map((i) => i + 1)
          )
          const letter = yield* onlyDeadLetter(subscription)
          assert.strictEqual(letter.reason, "exhausted")
          assert.strictEqual(letter.attempts, maxRetries + 1)
          assert.strictEqual(letter.originalId, published.id)
          assert.include(letter.cause, `failure ${maxRetries + 1}`)
          assert.strictEqual(new TextDecoder().decode(letter.raw), `"x"`)
          const message = Result.getOrThrow(letter.message)
          assert.strictEqual(message.id, published.id)
          assert.deepStrictEqual(message.headers, { a: "b" })
          const first = Option.getOrThrow(letter.firstDelivered).epochMilliseconds
          assert.isAtLeast(first, published.time.epochMilliseconds)
          assert.isAtLeast(letter.deadLettered.epochMilliseconds - first, kit.millis(maxRetries) - 5)
          yield* close
        }
      })
  )

  kit.test("4. the default is five retries", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const seen = yield* probe()
      const subscription = Subscription.make(
        "s",
        topic,
        seen.handler(() => Effect.fail("no")),
        {
          retry: { base: kit.ticks(0.2), factor: 1, jitter: 0 }
        }
      )
      yield* kit.open(subscription)
      yield* Topic.publish(topic, "x")
      yield* kit.idle(subscription)
      assert.strictEqual(seen.calls.length, 6)
      assert.strictEqual((yield* onlyDeadLetter(subscription)).attempts, 6)
    })
  )

  kit.test("4. unlimited retries are never exhausted", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const seen = yield* probe()
      const handler = seen.handler((call) => (call.attempt < 30 ? Effect.fail("no") : Effect.void))
      const subscription = Subscription.make("s", topic, handler, {
        retry: { maxRetries: "unlimited", base: kit.ticks(0.2), factor: 1, jitter: 0 }
      })
      yield* kit.open(subscription)
      yield* Topic.publish(topic, "x")
      yield* kit.idle(subscription)
      assert.deepStrictEqual(
        seen.calls.map((call) => call.attempt),
        range(30).map((i) => i + 1)
      )
      assert.strictEqual(yield* DeadLetters.count(subscription), 0)
    })
  )

  kit.test("4. each message has attempts of its own", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const seen = yield* probe()
      const handler = seen.handler((call) => (call.attempt <= Number(call.data) ? Effect.fail("no") : Effect.void))
      const subscription = Subscription.make("s", topic, handler, {
        retry: { maxRetries: 2, base: kit.ticks(0.5), jitter: 0 }
      })
      yield* kit.open(subscription)
      yield* Topic.publishAll(topic, ["0", "1", "2", "3"])
      yield* kit.idle(subscription)
      const counts = ["0", "1", "2", "3"].map((data) => seen.data().filter((one) => one === data).length)
      assert.deepStrictEqual(counts, [1, 2, 3, 3])
      assert.strictEqual((yield* deadLetters(subscription)).length, 1)
    })
  )

  kit.test("4. a release costs no attempt, however often", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const seen = yield* probe()
      const handler = seen.handler(() =>
        Effect.gen(function* () {
          const delivery = yield* Delivery
          yield* seen.calls.length <= 8 ? delivery.release : delivery.ack
        })
      )
      const subscription = Subscription.make("s", topic, handler, { ack: "manual", retry: { maxRetries: 1 } })
      yield* kit.open(subscription)
      yield* Topic.publish(topic, "x")
      yield* kit.idle(subscription)
      assert.deepStrictEqual(
        seen.calls.map((call) => call.attempt),
        Array.from({ length: 9 }, () => 1)
      )
      assert.strictEqual(yield* DeadLetters.count(subscription), 0)
    })
  )

  kit.test("4. a release of a retry costs no attempt either", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const seen = yield* probe()
      const handler = seen.handler((call) =>
        Effect.gen(function* () {
          const delivery = yield* Delivery
          if (call.attempt === 1) return yield* delivery.retry()
          yield* seen.calls.length < 5 ? delivery.release : delivery.ack
        })
      )
      const subscription = Subscription.make("s", topic, handler, {
        ack: "manual",
        retry: { maxRetries: 1, base: kit.ticks(1), jitter: 0 }
      })
      yield* kit.open(subscription)
      yield* Topic.publish(topic, "x")
      yield* kit.idle(subscription)
      assert.deepStrictEqual(
        seen.calls.map((call) => call.attempt),
        [1, 2, 2, 2, 2]
      )
    })
  )

  kit.test("7. the delivery of a consumer that died counts as an attempt", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const seen = yield* probe()
      yield* Topic.publish(topic, "x")
      yield* die(kit, topic, "s", 1)
      yield* kit.open(Subscription.make("s", topic, seen.handler()))
      assert.strictEqual((yield* kit.next(seen)).attempt, 2)
    })
  )

  kit.test("7. a delivery that the log shows unstarted costs no attempt when its consumer dies", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const seen = yield* probe()
      yield* Topic.publishAll(topic, texts(4))
      const dead = yield* join(kit, topic, "s")
      const entries = yield* fetch(kit, dead, 4)
      // of what it holds, nothing behind the second was started
      yield* dead.mark("main", entries[1]?.id)
      yield* kit.open(Subscription.make("s", topic, seen.handler()))
      yield* kit.take(seen, 4)
      const attempt = Object.fromEntries(seen.calls.map((call) => [call.data, call.attempt]))
      assert.deepStrictEqual(attempt, { m0: 2, m1: 2, m2: 1, m3: 1 })
    })
  )

  kit.test("7. what a worker had prefetched and not started costs no attempt when the worker dies", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const cut = yield* cuttable
      const first = yield* probe()
      const second = yield* probe()
      const options = { concurrency: 1, prefetch: 5, visibilityTimeout: kit.lease, drainTimeout: 0 }
      const dying = Subscription.make(
        "s",
        topic,
        first.handler(() => Effect.never),
        { ...options, consumer: "dies" }
      )
      yield* kit.open(dying).pipe(Effect.provideService(Transport, cut.transport))
      yield* Topic.publishAll(topic, texts(4))
      yield* kit.next(first)
      // long enough for its mark to be written, too short for what waits to be released
      yield* kit.passing(Effect.sleep(Duration.times(kit.lease, 0.2)))
      yield* cut.cut
      yield* kit.open(Subscription.make("s", topic, second.handler(), { consumer: "lives" }))
      yield* kit.take(second, 4)
      const attempt = Object.fromEntries(second.calls.map((call) => [call.data, call.attempt]))
      assert.deepStrictEqual(attempt, { m0: 2, m1: 1, m2: 1, m3: 1 })
    })
  )

  // a mark that named one entry of the log took for started what lay before a later one of another key
  kit.test("4. what waited for its key costs no attempt when its worker dies, whatever began behind it", () =>
    Effect.gen(function* () {
      const topic = keyedTopic(kit)
      const { cut, transport } = yield* cuttable
      const [first, second] = [yield* probe<Keyed>(), yield* probe<Keyed>()]
      const options = { concurrency: 2, visibilityTimeout: kit.lease, drainTimeout: 0 }
      const dying = Subscription.make(
        "s",
        topic,
        first.handler(() => Effect.never),
        { ...options, consumer: "dies" }
      )
      yield* kit.open(dying).pipe(Effect.provideService(Transport, transport))
      yield* Topic.publishAll(topic, [...inTurn(["slow"], 3), ...inTurn(["other"], 2)])
      yield* kit.take(first, 2)
      // long enough for its mark to be written
      yield* kit.passing(Effect.sleep(Duration.times(kit.lease, 0.2)))
      yield* cut
      yield* kit.open(Subscription.make("s", topic, second.handler(), { ...options, consumer: "lives" }))
      yield* kit.take(second, 5)
      const attempts = second.calls.map(({ attempt, data: { key, n } }) => [`${key} ${n}`, attempt])
      const expected = { "slow 0": 2, "slow 1": 1, "slow 2": 1, "other 0": 2, "other 1": 1 }
      assert.deepStrictEqual(Object.fromEntries(attempts), expected)
    })
  )

  kit.test("7. where the mark was taken back, everything counts", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const seen = yield* probe()
      yield* Topic.publishAll(topic, texts(3))
      const dead = yield* join(kit, topic, "s")
      const entries = yield* fetch(kit, dead, 3)
      yield* dead.mark("main", entries[0]?.id)
      yield* dead.mark("main", undefined)
      yield* kit.open(Subscription.make("s", topic, seen.handler()))
      const calls = yield* kit.take(seen, 3)
      assert.deepStrictEqual(
        calls.map((call) => call.attempt),
        [2, 2, 2]
      )
    })
  )

  kit.test(
    "4. a message whose worker dies every time is dead-lettered after n + 1 attempts, and never handled again",
    () =>
      Effect.gen(function* () {
        const topic = kit.topic()
        const transport = yield* Transport
        const seen = yield* probe()
        const published = yield* Topic.publish(topic, "x")
        const reap = transport.tend({ topic: topic.topic, partition: 0, subscription: "s" })
        for (const round of range(3)) {
          const dead = yield* join(kit, topic, "s", { consumer: `dead${round}` })
          const [entry] = yield* fetch(kit, dead, 1)
          assert.strictEqual(entry?.attempt, round + 1)
          yield* kit.eventually(
            "the dead worker's delivery is reclaimed",
            Effect.map(reap, (t) => t.reclaimed > 0)
          )
        }
        const subscription = Subscription.make("s", topic, seen.handler(), {
          retry: { maxRetries: 2, base: kit.ticks(1), jitter: 0 }
        })
        yield* kit.open(subscription)
        yield* kit.idle(subscription)
        assert.strictEqual(seen.calls.length, 0)
        const letter = yield* onlyDeadLetter(subscription)
        assert.strictEqual(letter.originalId, published.id)
        assert.strictEqual(letter.reason, "exhausted")
        assert.strictEqual(letter.attempts, 3)
      })
  )

  kit.test("7. a worker that dies with a retry costs it one attempt more", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const seen = yield* probe()
      const first = Subscription.make(
        "s",
        topic,
        seen.handler(() => Effect.fail("no")),
        {
          // not due before it is closed, however slow the machine is
          retry: { base: kit.ticks(10), jitter: 0 },
          consumer: "first"
        }
      )
      const opened = yield* kit.open(first)
      yield* Topic.publish(topic, "x")
      yield* kit.take(seen)
      yield* kit.idle(first, { due: "ignore" })
      yield* opened.close
      const transport = yield* Transport
      const dead = yield* join(kit, topic, "s")
      const taking = yield* Effect.forkChild(fetch(kit, dead, 1))
      yield* kit.eventually(
        "the retry is moved when it is due",
        Effect.map(
          transport.tend({ topic: topic.topic, partition: 0, subscription: "s" }),
          () => taking.pollUnsafe() !== undefined
        )
      )
      yield* kit.open(Subscription.make("s", topic, seen.handler(), { consumer: "second" }))
      const call = yield* kit.next(seen)
      assert.strictEqual(call.attempt, 3)
      assert.strictEqual(call.consumer, "second")
    })
  )

  kit.test("4. a redriven message starts again at attempt 1", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const seen = yield* probe()
      const subscription = Subscription.make(
        "s",
        topic,
        seen.handler(() => Effect.fail("no")),
        {
          retry: { maxRetries: 1, base: kit.ticks(1), jitter: 0 }
        }
      )
      yield* kit.open(subscription)
      yield* Topic.publish(topic, "x")
      yield* kit.idle(subscription)
      assert.strictEqual(yield* DeadLetters.redrive(subscription), 1)
      yield* kit.idle(subscription)
      assert.deepStrictEqual(
        seen.calls.map((call) => call.attempt),
        [1, 2, 1, 2]
      )
      assert.strictEqual((yield* onlyDeadLetter(subscription)).attempts, 2)
    })
  )
}
