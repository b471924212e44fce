/**
 * Dead letters for operators: list, get, count, redrive, discard; each atomic a message, and idempotent.
 */
import { assert } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Ref from "effect/Ref"
import * as Result from "effect/Result"
import * as Stream from "effect/Stream"
import { DeadLetters, Subscription, Topic, Transport, type TransportError } from "../index.ts"
import { assertEachOnce, deadLetters, onlyDeadLetter, texts } from "./Collect.ts"
import * as Faults from "./Faults.ts"
import { type Category, probe } from "./Kit.ts"

class Pager extends Context.Service<Pager, Ref.Ref<ReadonlyArray<string>>>()("@clutch/core/conformance/Pager") {}

export const deadLetterTools: Category = (kit) => {
  /** A subscription with so many dead letters, closed again. */
  const buried = (data: ReadonlyArray<string>) =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const subscription = Subscription.make("s", topic, ({ data }) => Effect.fail(`no ${data}`), {
        concurrency: 32,
        retry: { maxRetries: 0 }
      })
      const { close } = yield* kit.open(subscription)
      const published = yield* Topic.publishAll(topic, data)
      yield* kit.idle(subscription)
      yield* close
      assert.strictEqual(yield* DeadLetters.count(subscription), data.length)
      return { topic, published, address: Subscription.address("s", topic) }
    })
  const dataOf = (letter: DeadLetters.DeadLetter<string>) => Result.getOrThrow(letter.message).data

  kit.test("12. every dead letter is listed, over many pages, each once and oldest first", () =>
    Effect.gen(function* () {
      const count = kit.many(1500)
      const { address, published } = yield* buried(texts(count))
      const letters = yield* deadLetters(address)
      assertEachOnce(
        letters.map((letter) => letter.originalId),
        published.map((message) => message.id)
      )
      const times = letters.map((letter) => letter.deadLettered.epochMilliseconds)
      assert.deepStrictEqual(
        times,
        times.toSorted((a, b) => a - b)
      )
      assert.strictEqual(new Set(letters.map((letter) => letter.id)).size, count)
    })
  )

  kit.test("12. a list can be left early", () =>
    Effect.gen(function* () {
      const { address } = yield* buried(texts(30))
      const some = yield* Stream.runCollect(Stream.take(DeadLetters.list(address), 3))
      assert.strictEqual([...some].length, 3)
    })
  )

  kit.test("12. a dead letter is got by its id; what is not there is none", () =>
    Effect.gen(function* () {
      const { address } = yield* buried(texts(3))
      const [first] = yield* deadLetters(address)
      if (first === undefined) return assert.fail("no dead letter")
      const got = Option.getOrThrow(yield* DeadLetters.get(address, first.id))
      assert.strictEqual(got.id, first.id)
      assert.strictEqual(got.originalId, first.originalId)
      assert.strictEqual(dataOf(got), dataOf(first))
      assert.isTrue(Option.isNone(yield* DeadLetters.get(address, "1-1")))
    })
  )

  kit.test("12. where there are none, tools find none", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const address = Subscription.address("s", topic)
      yield* kit.open(Subscription.make("s", topic, () => Effect.void))
      assert.strictEqual(yield* DeadLetters.count(address), 0)
      assert.deepStrictEqual(yield* deadLetters(address), [])
      assert.strictEqual(yield* DeadLetters.redrive(address), 0)
      assert.strictEqual(yield* DeadLetters.discard(address, "all"), 0)
    })
  )

  kit.test("1. redriving all moves each back to its subscription, once", () =>
    Effect.gen(function* () {
      const { address, published, topic } = yield* buried(texts(kit.many(600)))
      assert.strictEqual(yield* DeadLetters.redrive(address), published.length)
      assert.strictEqual(yield* DeadLetters.count(address), 0)
      assert.strictEqual(yield* DeadLetters.redrive(address), 0)
      const seen = yield* probe()
      const again = Subscription.make("s", topic, seen.handler(), { concurrency: 16 })
      yield* kit.open(again)
      yield* kit.idle(again)
      assertEachOnce(
        seen.calls.map((call) => call.originalId),
        published.map((message) => message.id)
      )
    })
  )

  kit.test("1. redriving by id moves those, and passes over what is not there", () =>
    Effect.gen(function* () {
      const { address, topic } = yield* buried(texts(5))
      const letters = yield* deadLetters(address)
      const ids = letters.filter((letter) => ["m1", "m3"].includes(dataOf(letter))).map((letter) => letter.id)
      assert.strictEqual(yield* DeadLetters.redrive(address, { ids: [...ids, "1-1"] }), 2)
      assert.strictEqual(yield* DeadLetters.redrive(address, { ids }), 0)
      assert.strictEqual(yield* DeadLetters.count(address), 3)
      const seen = yield* probe()
      const again = Subscription.make("s", topic, seen.handler())
      yield* kit.open(again)
      yield* kit.idle(again)
      assertEachOnce(seen.data(), ["m1", "m3"])
    })
  )

  kit.test("1. redriving by predicate moves what it chooses", () =>
    Effect.gen(function* () {
      const { address, topic } = yield* buried(texts(6))
      const where = (letter: DeadLetters.DeadLetter<string>) => letter.cause.includes("m4") || dataOf(letter) === "m0"
      assert.strictEqual(yield* DeadLetters.redrive(address, { where }), 2)
      const seen = yield* probe()
      const again = Subscription.make("s", topic, seen.handler())
      yield* kit.open(again)
      yield* kit.idle(again)
      assertEachOnce(seen.data(), ["m0", "m4"])
    })
  )

  kit.test("5. a redrive with a delay is due after it", () =>
    Effect.gen(function* () {
      const { address, topic } = yield* buried(["x"])
      const seen = yield* probe()
      yield* kit.open(Subscription.make("s", topic, seen.handler()))
      const at = yield* Clock.currentTimeMillis
      assert.strictEqual(yield* DeadLetters.redrive(address, { delay: kit.ticks(5) }), 1)
      const call = yield* kit.next(seen)
      assert.isAtLeast(call.at - at, kit.millis(5) - (kit.virtual ? 0 : 2))
      assert.isAtMost(call.at - at, kit.millis(5) + (kit.virtual ? 1 : 400))
      assert.strictEqual(call.attempt, 1)
    })
  )

  kit.test("2. a redrive is for the failing subscription alone, and keeps id, data and headers", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const other = yield* probe()
      const seen = yield* probe()
      yield* kit.open(Subscription.make("other", topic, other.handler()))
      const failing = yield* kit.open(
        Subscription.make("s", topic, () => Effect.fail("no"), { retry: { maxRetries: 0 } })
      )
      const published = yield* Topic.publish(topic, "x", { headers: { a: "b" }, subject: "ü" })
      const address = Subscription.address("s", topic)
      yield* kit.idle(address)
      yield* failing.close
      yield* DeadLetters.redrive(address)
      yield* kit.open(Subscription.make("s", topic, seen.handler()))
      const call = yield* kit.next(seen)
      assert.strictEqual(call.message.id, published.id)
      assert.strictEqual(call.originalId, published.id)
      assert.strictEqual(call.data, "x")
      assert.strictEqual(call.message.subject, "ü")
      assert.deepStrictEqual(call.message.headers, { a: "b" })
      yield* kit.idle(address)
      yield* kit.idle(Subscription.address("other", topic))
      assert.deepStrictEqual(other.data(), ["x"])
    })
  )

  kit.test("1. tools that redrive at once move each message once between them", () =>
    Effect.gen(function* () {
      const { address, published, topic } = yield* buried(texts(200))
      const counts = yield* Effect.forEach([1, 2, 3, 4], () => DeadLetters.redrive(address), {
        concurrency: "unbounded"
      })
      assert.strictEqual(
        counts.reduce((sum, count) => sum + count, 0),
        published.length
      )
      const seen = yield* probe()
      const again = Subscription.make("s", topic, seen.handler(), { concurrency: 16 })
      yield* kit.open(again)
      yield* kit.idle(again)
      assertEachOnce(
        seen.calls.map((call) => call.originalId),
        published.map((message) => message.id)
      )
    })
  )

  kit.test("1. a redrive that breaks off and is run again loses nothing and doubles nothing", () =>
    Effect.gen(function* () {
      for (const when of ["before", "after"] as const) {
        const { address, published, topic } = yield* buried(texts(20))
        const inject: Faults.Injector = <A, E, R>(step: Faults.Step, call: Effect.Effect<A, E, R>) => {
          if (step.operation !== "redrive" || step.ofKind > 1) return call
          const error = Effect.fail(Faults.unknown("redrive"))
          return when === "before" ? error : Effect.andThen(call, error)
        }
        const broken = Faults.wrap(yield* Transport, inject)
        const error: TransportError = yield* DeadLetters.redrive(address).pipe(
          Effect.provideService(Transport, broken),
          Effect.flip
        )
        assert.strictEqual(error._tag, "TransportError")
        yield* DeadLetters.redrive(address)
        const seen = yield* probe()
        const again = Subscription.make("s", topic, seen.handler())
        const { close } = yield* kit.open(again)
        yield* kit.idle(again)
        assertEachOnce(
          seen.calls.map((call) => call.originalId),
          published.map((message) => message.id),
          when
        )
        yield* close
      }
    })
  )

  kit.test("12. discarding by id, by predicate and all removes just those, and counts them", () =>
    Effect.gen(function* () {
      const { address } = yield* buried(texts(6))
      const [first] = yield* deadLetters(address)
      if (first === undefined) return assert.fail("no dead letter")
      assert.strictEqual(yield* DeadLetters.discard(address, { ids: [first.id, "1-1"] }), 1)
      assert.strictEqual(yield* DeadLetters.discard(address, { ids: [first.id] }), 0)
      const where = (letter: DeadLetters.DeadLetter<string>) => dataOf(letter) === "m3"
      const others = (yield* deadLetters(address)).map(dataOf)
      assert.strictEqual(yield* DeadLetters.discard(address, { where }), others.includes("m3") ? 1 : 0)
      const left = yield* DeadLetters.count(address)
      assert.strictEqual(left, others.filter((data) => data !== "m3").length)
      assert.strictEqual(yield* DeadLetters.discard(address, "all"), left)
      assert.strictEqual(yield* DeadLetters.count(address), 0)
    })
  )

  kit.test("4. onDeadLetter is told once of each, after it is stored, with services of its own", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const pages = yield* Ref.make<ReadonlyArray<string>>([])
      const subscription = Subscription.make("s", topic, ({ data }) => Effect.fail(`no ${data}`), {
        retry: { maxRetries: 1, base: kit.ticks(1), jitter: 0 },
        onDeadLetter: (letter) =>
          Effect.gen(function* () {
            const stored = yield* DeadLetters.get(Subscription.address("s", topic), letter.id)
            const text = `${dataOf(letter)} ${letter.reason} ${letter.attempts} ${Option.isSome(stored)}`
            yield* Ref.update(yield* Pager, (all) => [...all, text])
          })
      })
      yield* Effect.provideService(kit.open(subscription), Pager, pages)
      yield* Topic.publishAll(topic, ["a", "b"])
      yield* kit.idle(subscription)
      yield* kit.eventually(
        "both are told",
        Effect.map(Ref.get(pages), (all) => all.length === 2)
      )
      yield* kit.pass(3)
      assert.deepStrictEqual((yield* Ref.get(pages)).toSorted(), ["a exhausted 2 true", "b exhausted 2 true"])
    })
  )

  kit.test("4. onDeadLetter failing, dying or interrupting undoes nothing and stops nothing", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      let told = 0
      const endings = [Effect.fail("no"), Effect.die(new Error("bug")), Effect.interrupt]
      const subscription = Subscription.make("s", topic, () => Effect.fail("no"), {
        retry: { maxRetries: 0 },
        onDeadLetter: () => endings[told++ % 3] ?? Effect.void
      })
      const { handle } = yield* kit.open(subscription)
      yield* Topic.publishAll(topic, texts(6))
      yield* kit.idle(subscription)
      yield* kit.eventually(
        "each is told",
        Effect.sync(() => told >= 6)
      )
      assert.strictEqual(told, 6)
      const stats = yield* handle.stats
      assert.deepStrictEqual([stats.pending, stats.due, stats.deadLetters], [0, 0, 6])
      assert.strictEqual(stats.state, "running")
    })
  )

  kit.test("4. a redriven message says which dead letter it was, through its retries too", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const seen = yield* probe()
      const handler = seen.handler(() => Effect.fail("no"))
      const retry = { maxRetries: 1, base: kit.ticks(1), jitter: 0 }
      const subscription = Subscription.make("s", topic, handler, { retry })
      yield* kit.open(subscription)
      yield* Topic.publish(topic, "x")
      yield* kit.idle(subscription)
      const { id } = yield* onlyDeadLetter(subscription)
      yield* DeadLetters.redrive(subscription)
      yield* kit.idle(subscription)
      assert.deepStrictEqual(
        seen.calls.map(({ redriven }) => redriven),
        [undefined, undefined, id, id]
      )
    })
  )

  kit.test("4. a redriven message that fails again is one dead letter again, of the same original", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const subscription = Subscription.make("s", topic, () => Effect.fail("no"), { retry: { maxRetries: 0 } })
      yield* kit.open(subscription)
      const published = yield* Topic.publish(topic, "x")
      for (let round = 0; round < 3; round++) {
        yield* kit.idle(subscription)
        const letter = yield* onlyDeadLetter(subscription)
        assert.strictEqual(letter.originalId, published.id)
        assert.strictEqual(letter.attempts, 1)
        assert.strictEqual(yield* DeadLetters.redrive(subscription, { ids: [letter.id] }), 1)
      }
    })
  )
}
