/**
 * When the next attempt is due, what decides that there is one, and that it is the failing subscription's alone.
 */
import { assert } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Schedule from "effect/Schedule"
import { DeadLetters, DoNotRetry, RetryAfter, Subscription, Topic } from "../index.ts"
import { assertEachOnce, onlyDeadLetter, texts } from "./Collect.ts"
import { type Call, type Category, probe } from "./Kit.ts"

/** Milliseconds between the calls. */
const gaps = (calls: ReadonlyArray<Call>): ReadonlyArray<number> =>
  calls.slice(1).map((call, i) => call.at - (calls[i]?.at ?? 0))

export const retries: Category = (kit) => {
  /** Due after `expected` ticks: exactly so in virtual time; in real time not before, and soon after. */
  const assertDue = (gap: number | undefined, expected: number, what: string) => {
    const millis = kit.millis(expected)
    assert.isAtLeast(gap ?? -1, millis - (kit.virtual ? 0 : 2), `${what}: too early`)
    assert.isAtMost(gap ?? Infinity, millis + (kit.virtual ? 1 : 400), `${what}: too late`)
  }

  kit.test("5. a due retry is delivered when it is due, not before and not at the next scan", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const seen = yield* probe()
      const handler = seen.handler((call) => (call.attempt === 1 ? Effect.fail("no") : Effect.void))
      yield* kit.open(Subscription.make("s", topic, handler, { retry: { base: kit.ticks(3.3), jitter: 0 } }))
      yield* Topic.publish(topic, "x")
      assertDue(gaps(yield* kit.take(seen, 2))[0], 3.3, "first retry")
    })
  )

  kit.test("5. the next attempt is due at base × factor^(attempt−1), capped by maxDelay", () =>
    Effect.gen(function* () {
      const table = [
        { retry: { base: 1, factor: 2, maxDelay: 100 }, due: [1, 2, 4] },
        { retry: { base: 2, factor: 1, maxDelay: 100 }, due: [2, 2, 2] },
        { retry: { base: 1, factor: 3, maxDelay: 4 }, due: [1, 3, 4] },
        { retry: { base: 5, factor: 2, maxDelay: 2 }, due: [2, 2, 2] }
      ]
      for (const { retry, due } of table) {
        const topic = kit.topic()
        const seen = yield* probe()
        const options = { base: kit.ticks(retry.base), factor: retry.factor, maxDelay: kit.ticks(retry.maxDelay) }
        const subscription = Subscription.make(
          "s",
          topic,
          seen.handler(() => Effect.fail("no")),
          {
            retry: { ...options, maxRetries: 3, jitter: 0 }
          }
        )
        const { close } = yield* kit.open(subscription)
        yield* Topic.publish(topic, "x")
        const calls = yield* kit.take(seen, 4)
        for (const [i, gap] of gaps(calls).entries()) assertDue(gap, due[i] ?? -1, JSON.stringify({ retry, i }))
        yield* close
      }
    })
  )

  kit.test("5. jitter only ever adds, up to its share, and is capped last", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const seen = yield* probe()
      const handler = seen.handler((call) => (call.attempt === 1 ? Effect.fail("no") : Effect.void))
      const subscription = Subscription.make("s", topic, handler, {
        concurrency: 64,
        retry: { base: kit.ticks(10), jitter: 0.5 }
      })
      yield* kit.open(subscription)
      yield* Topic.publishAll(topic, texts(40))
      yield* kit.idle(subscription)
      const delays = texts(40).map((data) => gaps(seen.calls.filter((call) => call.data === data))[0] ?? -1)
      for (const delay of delays) {
        assert.isAtLeast(delay, kit.millis(10) - (kit.virtual ? 0 : 2))
        assert.isAtMost(delay, kit.millis(15) + (kit.virtual ? 1 : 400))
      }
      assert.isAbove(Math.max(...delays) - Math.min(...delays), kit.millis(1), "the delays are spread")
    })
  )

  kit.test("5. an earlier due time that is set later is delivered at its own time", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const seen = yield* probe()
      const handler = seen.handler((call) => {
        if (call.attempt > 1) return Effect.void
        return Effect.fail(new RetryAfter({ delay: kit.ticks(call.data === "late" ? 12 : 2) }))
      })
      yield* kit.open(Subscription.make("s", topic, handler))
      yield* Topic.publish(topic, "late")
      yield* kit.take(seen)
      yield* Topic.publish(topic, "soon")
      yield* kit.take(seen, 3)
      assert.deepStrictEqual(seen.data(), ["late", "soon", "soon", "late"])
      assertDue(gaps(seen.calls.filter((call) => call.data === "soon"))[0], 2, "soon")
      assertDue(gaps(seen.calls.filter((call) => call.data === "late"))[0], 12, "late")
    })
  )

  kit.test("5. a failure may carry its own delay, and zero is at once", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const seen = yield* probe()
      const delays = [4, 0]
      const handler = seen.handler((call) => {
        const delay = delays[call.attempt - 1]
        return delay === undefined ? Effect.void : Effect.fail(new RetryAfter({ delay: kit.ticks(delay) }))
      })
      yield* kit.open(Subscription.make("s", topic, handler, { retry: { base: kit.ticks(50) } }))
      yield* Topic.publish(topic, "x")
      const calls = yield* kit.take(seen, 3)
      assertDue(gaps(calls)[0], 4, "RetryAfter")
      assertDue(gaps(calls)[1], 0, "RetryAfter of zero")
      assert.deepStrictEqual(
        calls.map((call) => call.attempt),
        [1, 2, 3]
      )
    })
  )

  kit.test("5. a failure may say that retrying is pointless: it is dead-lettered at once", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const seen = yield* probe()
      const handler = seen.handler(() => Effect.fail(new DoNotRetry({ reason: "the card is stolen" })))
      const subscription = Subscription.make("s", topic, handler)
      yield* kit.open(subscription)
      yield* Topic.publish(topic, "x")
      yield* kit.idle(subscription)
      const letter = yield* onlyDeadLetter(subscription)
      assert.strictEqual(letter.reason, "notRetryable")
      assert.strictEqual(letter.attempts, 1)
      assert.include(letter.cause, "the card is stolen")
      assert.strictEqual(seen.calls.length, 1)
    })
  )

  kit.test("5. the policy decides which errors are worth a retry", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const seen = yield* probe()
      const handler = seen.handler((call) => Effect.fail({ code: call.attempt === 1 ? 503 : 404 }))
      const subscription = Subscription.make("s", topic, handler, {
        retry: { base: kit.ticks(1), jitter: 0, while: (error) => error.code >= 500 }
      })
      yield* kit.open(subscription)
      yield* Topic.publish(topic, "x")
      yield* kit.idle(subscription)
      const letter = yield* onlyDeadLetter(subscription)
      assert.strictEqual(letter.reason, "notRetryable")
      assert.strictEqual(letter.attempts, 2)
      assert.include(letter.cause, "404")
    })
  )

  kit.test("4. a defect counts as a failure and is retried, whatever the policy says of errors", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const seen = yield* probe()
      const handler = seen.handler((call) => {
        if (call.attempt === 1) throw new Error("thrown outside any Effect")
        return call.attempt === 2 ? Effect.die("died") : Effect.void
      })
      const subscription = Subscription.make("s", topic, handler, {
        retry: { base: kit.ticks(1), jitter: 0, while: () => false }
      })
      yield* kit.open(subscription)
      yield* Topic.publish(topic, "x")
      yield* kit.take(seen, 3)
      yield* kit.idle(subscription)
      assert.strictEqual(yield* DeadLetters.count(subscription), 0)
    })
  )

  kit.test("4. a handler that throws before it returns an Effect has failed, and the worker goes on", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const seen = yield* probe()
      const handler = seen.handler()
      const subscription = Subscription.make(
        "s",
        topic,
        (message) => {
          if (message.data === "bad") throw new Error("no Effect at all")
          return handler(message)
        },
        { retry: { maxRetries: 0 } }
      )
      yield* kit.open(subscription)
      yield* Topic.publishAll(topic, ["bad", "good"])
      yield* kit.idle(subscription)
      assert.deepStrictEqual(seen.data(), ["good"])
      assert.include((yield* onlyDeadLetter(subscription)).cause, "no Effect at all")
    })
  )

  kit.test("4. a handler that outlasts its timeout has failed", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const seen = yield* probe()
      let interrupted = 0
      const handler = seen.handler((call) =>
        call.attempt === 1
          ? Effect.onInterrupt(Effect.never, () =>
              Effect.sync(() => {
                interrupted++
              })
            )
          : Effect.void
      )
      yield* kit.open(
        Subscription.make("s", topic, handler, { timeout: kit.ticks(2), retry: { base: kit.ticks(1), jitter: 0 } })
      )
      yield* Topic.publish(topic, "x")
      const calls = yield* kit.take(seen, 2)
      assertDue(gaps(calls)[0], 3, "timeout and backoff")
      assert.strictEqual(calls[1]?.attempt, 2)
      assert.strictEqual(interrupted, 1)
    })
  )

  kit.test("4. a handler that interrupts itself, or joins an interrupted fiber, has failed", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const seen = yield* probe()
      const handler = seen.handler((call) =>
        call.data === "itself"
          ? Effect.interrupt
          : Effect.gen(function* () {
              const fiber = yield* Effect.forkChild(Effect.never, { startImmediately: true })
              yield* Fiber.interrupt(fiber)
              return yield* Fiber.join(fiber)
            })
      )
      const subscription = Subscription.make("s", topic, handler, {
        retry: { maxRetries: 2, base: kit.ticks(1), jitter: 0 }
      })
      yield* kit.open(subscription)
      yield* Topic.publishAll(topic, ["itself", "joined"])
      yield* kit.idle(subscription)
      for (const data of ["itself", "joined"]) {
        const attempts = seen.calls.filter((call) => call.data === data).map((call) => call.attempt)
        assert.deepStrictEqual(attempts, [1, 2, 3], data)
      }
      assert.strictEqual(yield* DeadLetters.count(subscription), 2)
    })
  )

  kit.test("5. Effect combinators around a handler share no state between the main and the retry path", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      let inner = 0
      const perCall: Array<number> = []
      const subscription = Subscription.make(
        "s",
        topic,
        () => {
          let mine = 0
          return Effect.suspend(() => {
            inner++
            mine++
            return Effect.fail("always")
          }).pipe(
            Effect.retry(Schedule.recurs(2)),
            Effect.ensuring(
              Effect.sync(() => {
                perCall.push(mine)
              })
            )
          )
        },
        { retry: { maxRetries: 2, base: kit.ticks(1), jitter: 0 } }
      )
      yield* kit.open(subscription)
      yield* Topic.publishAll(topic, ["a", "b"])
      yield* kit.idle(subscription)
      assert.deepStrictEqual(perCall, [3, 3, 3, 3, 3, 3])
      assert.strictEqual(inner, 18)
      assert.strictEqual(yield* DeadLetters.count(subscription), 2)
    })
  )

  kit.test("3. a retry keeps its data, metadata and original id; it comes from the retry log", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const seen = yield* probe()
      const handler = seen.handler((call) => (call.attempt < 3 ? Effect.fail("no") : Effect.void))
      yield* kit.open(Subscription.make("s", topic, handler, { retry: { base: kit.ticks(1), jitter: 0 } }))
      const headers = { a: "1", ü: "🥚" }
      const text = `e\u0301 \u0000 🐣 ${"x".repeat(10_000)}`
      const published = yield* Topic.publish(topic, text, { id: "mine", subject: "subject", headers })
      const [first, ...rest] = yield* kit.take(seen, 3)
      assert.strictEqual(first?.originalId, first?.messageId)
      for (const call of rest) {
        assert.isTrue(call.data === text)
        assert.strictEqual(call.message.id, "mine")
        assert.strictEqual(call.message.subject, "subject")
        assert.strictEqual(call.message.source, published.source)
        assert.strictEqual(call.message.type, published.type)
        assert.strictEqual(call.message.time.epochMilliseconds, published.time.epochMilliseconds)
        assert.deepStrictEqual(call.message.headers, headers)
        assert.strictEqual(call.originalId, first?.originalId)
        assert.strictEqual(call.firstDelivered, first?.firstDelivered)
        assert.notStrictEqual(call.stream, first?.stream)
        assert.strictEqual(call.consumer, first?.consumer)
      }
      assert.strictEqual(rest[0]?.stream, rest[1]?.stream)
    })
  )

  kit.test("3. a retry that waits while nobody is subscribed is handled by whoever comes", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const seen = yield* probe()
      const handler = seen.handler((call) => (call.attempt === 1 ? Effect.fail("no") : Effect.void))
      const subscription = Subscription.make("s", topic, handler, { retry: { base: kit.ticks(4), jitter: 0 } })
      const first = yield* kit.open(subscription)
      yield* Topic.publish(topic, "x")
      yield* kit.take(seen)
      yield* kit.idle(subscription, { due: "ignore" })
      yield* first.close
      yield* kit.pass(6)
      assert.strictEqual(seen.calls.length, 1)
      yield* kit.open(subscription)
      assert.strictEqual((yield* kit.next(seen)).attempt, 2)
    })
  )

  kit.test("3. a settled retry is gone: reopening the subscription delivers none again", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const seen = yield* probe()
      const handler = seen.handler((call) => (call.attempt === 1 ? Effect.fail("no") : Effect.void))
      const subscription = Subscription.make("s", topic, handler, { retry: { base: kit.ticks(1), jitter: 0 } })
      for (const round of [1, 2, 3]) {
        const { handle, close } = yield* kit.open(subscription)
        yield* Topic.publish(topic, `r${round}`)
        yield* kit.idle(subscription)
        const stats = yield* handle.stats
        assert.deepStrictEqual([stats.pending, stats.due], [0, 0])
        yield* close
      }
      assert.deepStrictEqual(seen.data(), ["r1", "r1", "r2", "r2", "r3", "r3"])
    })
  )

  kit.test("5. a retry is handled by another worker of the group when the one that failed is gone", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const seen = yield* probe()
      const gone = yield* Deferred.make<void>()
      const handler = seen.handler((call) =>
        call.attempt === 1 ? Effect.andThen(Deferred.succeed(gone, undefined), Effect.fail("no")) : Effect.void
      )
      const retry = { base: kit.ticks(3), jitter: 0 }
      const first = yield* kit.open(Subscription.make("s", topic, handler, { retry, consumer: "first" }))
      yield* Topic.publish(topic, "x")
      yield* kit.passing(Deferred.await(gone))
      yield* kit.idle(Subscription.address("s", topic), { due: "ignore" })
      yield* kit.open(Subscription.make("s", topic, handler, { retry, consumer: "second" }))
      yield* first.close
      const calls = yield* kit.take(seen, 2)
      assert.deepStrictEqual(
        calls.map((call) => `${call.consumer} ${call.attempt}`),
        ["first 1", "second 2"]
      )
      assertDue(gaps(calls)[0], 3, "the retry of another worker")
    })
  )

  kit.test("5. five hundred retries that fall due at once are all delivered, each once", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const seen = yield* probe()
      const handler = seen.handler((call) => (call.attempt === 1 ? Effect.fail("no") : Effect.void))
      const subscription = Subscription.make("s", topic, handler, {
        concurrency: 64,
        retry: { base: kit.ticks(3), jitter: 0 }
      })
      yield* kit.open(subscription)
      const data = texts(500)
      yield* Topic.publishAll(topic, data)
      yield* kit.idle(subscription)
      assertEachOnce(
        seen.calls.map((call) => `${call.data}#${call.attempt}`),
        data.flatMap((d) => [`${d}#1`, `${d}#2`])
      )
    })
  )
}
