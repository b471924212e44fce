/**
 * Order by key: across concurrency, retries, workers that come, go and die.
 */
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import * as Option from "effect/Option"
import { DeadLetters, Delivery, Subscription, Topic, Transport } from "../index.ts"
import { deadLetters, Failure, range } from "./Collect.ts"
import { type Category, type Kit, probe } from "./Kit.ts"
import { inTurn, Keyed, keyedTopic, Ledger } from "./Ordered.ts"
import { cuttable, group, own, two } from "./Workers.ts"

const keys = (count: number) => range(count).map((i) => `k${i}`)

const failing = (when: (data: Keyed, attempt: number) => boolean) => (data: Keyed, attempt: number) =>
  when(data, attempt) ? Effect.fail(new Failure({ message: `${data.key}/${data.n}` })) : Effect.void

const quick = (kit: Kit, maxRetries = 2) => ({ maxRetries, base: kit.ticks(0.5), factor: 1, jitter: 0 })

export const orderByKey: Category = (kit) => {
  kit.test("10. messages of one key are handled one after the other, in log order, whatever the concurrency", () =>
    Effect.gen(function* () {
      const topic = keyedTopic(kit)
      const ledger = new Ledger(1)
      const handler = ledger.handler(({ n }) => Effect.sleep(kit.ticks((n % 3) * 0.1)))
      const subscription = Subscription.make("s", topic, handler, { concurrency: 16 })
      yield* kit.open(subscription)
      const data = inTurn(keys(5), 20)
      yield* Topic.publishAll(topic, data)
      yield* kit.idle(subscription)
      ledger.assertOrder()
      assert.isTrue(data.every((one) => ledger.isOver(one)))
    })
  )

  kit.test("10. different keys are handled beside each other", () =>
    Effect.gen(function* () {
      const topic = keyedTopic(kit)
      const gate = yield* Latch.make()
      const seen = yield* probe<Keyed>()
      const handler = seen.handler(({ data }) => (data.key === "slow" ? gate.await : Effect.void))
      const subscription = Subscription.make("s", topic, handler, { concurrency: 2 })
      yield* kit.open(subscription)
      yield* Topic.publishAll(topic, [{ key: "slow", n: 0 }, { key: "slow", n: 1 }, ...inTurn(["quick"], 5)])
      yield* kit.take(seen, 6)
      assert.deepStrictEqual(
        seen.data().filter(({ key }) => key === "slow"),
        [{ key: "slow", n: 0 }]
      )
      yield* gate.open
      yield* kit.idle(subscription)
    })
  )

  kit.test("10. order holds through retries: what is behind a failure waits until it has succeeded", () =>
    Effect.gen(function* () {
      const topic = keyedTopic(kit)
      const ledger = new Ledger(3)
      const handler = ledger.handler(failing(({ n }, attempt) => n % 3 === 0 && attempt <= 2))
      const subscription = Subscription.make("s", topic, handler, { concurrency: 8, retry: quick(kit) })
      yield* kit.open(subscription)
      const data = inTurn(keys(4), 12)
      yield* Topic.publishAll(topic, data)
      yield* kit.idle(subscription)
      ledger.assertOrder()
      assert.isTrue(data.every((one) => ledger.isOver(one)))
      assert.strictEqual(yield* DeadLetters.count(subscription), 0)
    })
  )

  kit.test("10. order holds through dead letters: the next of the key follows one that is given up", () =>
    Effect.gen(function* () {
      const topic = keyedTopic(kit)
      const ledger = new Ledger(2)
      const handler = ledger.handler(failing(({ n }) => n % 2 === 0))
      const subscription = Subscription.make("s", topic, handler, { concurrency: 8, retry: quick(kit, 1) })
      yield* kit.open(subscription)
      const data = inTurn(keys(3), 8)
      yield* Topic.publishAll(topic, data)
      yield* kit.idle(subscription)
      ledger.assertOrder()
      assert.isTrue(data.every((one) => ledger.isOver(one)))
      assert.strictEqual(yield* DeadLetters.count(subscription), 12)
      for (const letter of yield* deadLetters(subscription)) assert.strictEqual(letter.attempts, 2)
    })
  )

  kit.test("10. a key that waits for its retry holds back only itself, within a prefetch of 10", () =>
    Effect.gen(function* () {
      const topic = keyedTopic(kit)
      const seen = yield* probe<Keyed>()
      const handler = seen.handler(({ data }) =>
        data.key === "bad" ? Effect.fail(new Failure({ message: "bad" })) : Effect.void
      )
      const retry = { maxRetries: 1, base: kit.ticks(2000), jitter: 0 }
      const subscription = Subscription.make("s", topic, handler, { concurrency: 4, prefetch: 10, retry })
      yield* kit.open(subscription)
      const behind = kit.many(1000)
      yield* Topic.publishAll(topic, inTurn(["bad"], behind))
      yield* Topic.publishAll(topic, inTurn(["good"], 20))
      yield* kit.eventually(
        "the other key is through",
        Effect.sync(() => seen.calls.filter(({ data }) => data.key === "good").length === 20)
      )
      assert.strictEqual(seen.calls.filter(({ data }) => data.key === "bad").length, 1)
      const stats = yield* Subscription.stats(subscription)
      assert.strictEqual(stats.heldBack, 1)
      assert.strictEqual(stats.parked, behind - 1)
      assert.strictEqual(stats.due, 1)
      assert.strictEqual(stats.pending, 0)
      assert.isTrue(Option.isSome(stats.oldestHeldBack))
    })
  )

  kit.test("10. parked messages come one by one, cost no attempt, and are counted by awaitIdle", () =>
    Effect.gen(function* () {
      const topic = keyedTopic(kit)
      const gate = { open: false }
      const seen = yield* probe<Keyed>()
      const handler = seen.handler(({ data }) =>
        data.n === 0 && !gate.open ? Effect.fail(new Failure({ message: "not yet" })) : Effect.void
      )
      const retry = { maxRetries: 1000, base: kit.ticks(2), factor: 1, jitter: 0 }
      const subscription = Subscription.make("s", topic, handler, { concurrency: 4, retry })
      yield* kit.open(subscription)
      yield* Topic.publishAll(topic, inTurn(["a"], 20))
      yield* kit.next(seen)
      yield* kit.eventually(
        "19 are parked",
        Effect.map(Subscription.stats(subscription), ({ parked }) => parked === 19)
      )
      gate.open = true
      yield* kit.idle(subscription)
      const others = seen.calls.filter(({ data }) => data.n > 0)
      assert.deepStrictEqual(
        others.map(({ data }) => data.n),
        range(19).map((i) => i + 1)
      )
      assert.isTrue(others.every(({ attempt }) => attempt === 1))
      const { heldBack, parked } = yield* Subscription.stats(subscription)
      assert.deepStrictEqual({ heldBack, parked }, { heldBack: 0, parked: 0 })
    })
  )

  kit.test("10. what waits survives a restart of all workers, in its order", () =>
    Effect.gen(function* () {
      const topic = keyedTopic(kit)
      const ledger = new Ledger(1000)
      const gate = { open: false }
      const handler = ledger.handler(failing(({ n }) => n === 0 && !gate.open))
      const retry = { maxRetries: 1000, base: kit.ticks(1), factor: 1, jitter: 0 }
      const subscription = Subscription.make("s", topic, handler, {
        concurrency: 4,
        retry,
        visibilityTimeout: kit.lease
      })
      const first = yield* kit.open(subscription)
      yield* Topic.publishAll(topic, inTurn(["a", "b"], 10))
      yield* kit.eventually(
        "all but the first of each key are parked",
        Effect.map(Subscription.stats(subscription), ({ parked }) => parked === 18)
      )
      yield* first.close
      yield* Topic.publishAll(topic, [
        { key: "a", n: 10 },
        { key: "c", n: 0 }
      ])
      gate.open = true
      yield* kit.open(subscription)
      yield* kit.idle(subscription)
      ledger.assertOrder()
      assert.deepStrictEqual(ledger.starts("a").slice(-11), range(11))
      assert.isTrue(ledger.isOver({ key: "a", n: 10 }))
    })
  )

  kit.test("10. where the key is taken away, what waited behind a message comes all the same", () =>
    Effect.gen(function* () {
      const topic = keyedTopic(kit)
      const retry = { maxRetries: 1000, base: kit.ticks(1), factor: 1, jitter: 0 }
      const subscription = Subscription.make("s", topic, () => Effect.fail("no"), { retry })
      const first = yield* kit.open(subscription)
      yield* Topic.publishAll(topic, inTurn(["a"], 3))
      yield* kit.eventually(
        "all but the first are parked",
        Effect.map(Subscription.stats(subscription), ({ parked }) => parked === 2)
      )
      yield* first.close
      const seen = yield* probe<Keyed>()
      const without = Subscription.make("s", Topic.make(topic.topic, { schema: Keyed }), seen.handler())
      yield* kit.open(without)
      yield* kit.idle(without)
      assert.sameMembers(
        seen.data().map(({ n }) => n),
        [0, 1, 2]
      )
      yield* kit.eventually(
        "no key is held back",
        Effect.map(Subscription.stats(without), ({ heldBack, parked }) => heldBack + parked === 0)
      )
    })
  )

  kit.test("10. beyond maxWaiting the partition reads nothing new, says so, and goes on when there is room", () =>
    Effect.gen(function* () {
      const topic = keyedTopic(kit)
      const gate = { open: false }
      const seen = yield* probe<Keyed>()
      const handler = seen.handler(({ data }) =>
        data.n === 0 && data.key === "bad" && !gate.open ? Effect.fail(new Failure({ message: "no" })) : Effect.void
      )
      const retry = { maxRetries: 1000, base: kit.ticks(1), factor: 1, jitter: 0 }
      const subscription = Subscription.make("s", topic, handler, { concurrency: 2, prefetch: 4, maxWaiting: 5, retry })
      const { handle } = yield* kit.open(subscription)
      yield* Topic.publishAll(topic, inTurn(["bad"], 30))
      yield* Topic.publish(topic, { key: "good", n: 0 })
      yield* kit.eventually(
        "it says so",
        Effect.map(handle.health, ({ problem }) => /waiting/.test(Option.getOrElse(problem, () => "")))
      )
      const { parked, waiting } = yield* handle.stats
      assert.isAtLeast(parked, 5)
      assert.isAtMost(parked, 10)
      assert.isAtLeast(
        Option.getOrElse(waiting, () => 21),
        20
      )
      gate.open = true
      yield* kit.idle(subscription)
      assert.strictEqual((yield* handle.health).state, "running")
      assert.strictEqual(seen.calls.filter(({ data }) => data.key === "good").length, 1)
    })
  )

  kit.test("10. a worker that has given a full partition up is healthy; the one that has it now is not", () =>
    Effect.gen(function* () {
      const topic = keyedTopic(kit, 2)
      const fail = () => Effect.fail(new Failure({ message: "no" }))
      const retry = { maxRetries: 1000, base: kit.ticks(1), factor: 1, jitter: 0 }
      const worker = (consumer: string) =>
        Subscription.make("s", topic, fail, { consumer, concurrency: 2, prefetch: 4, maxWaiting: 3, retry })
      const problems = (handle: Subscription.Handle) =>
        Effect.map(handle.health, ({ problem }) => Option.getOrElse(problem, () => "none"))
      const first = yield* kit.open(worker("a"))
      // a key of each partition, so that both are full
      yield* Topic.publishAll(topic, inTurn(["k0", "k1", "k2", "k3"], 10))
      yield* kit.eventually(
        "it says so",
        Effect.map(problems(first.handle), (problem) => /waiting/.test(problem))
      )
      const second = yield* kit.open(worker("b"))
      yield* kit.eventually(
        "each has one",
        Effect.map(Effect.all([problems(first.handle), problems(second.handle)]), (both) =>
          both.every((problem) => /waiting/.test(problem))
        )
      )
      yield* first.handle.pause
      yield* kit.eventually(
        "what is paused waits for nothing",
        Effect.map(problems(first.handle), (problem) => problem === "none")
      )
      assert.match(yield* problems(second.handle), /waiting/)
    })
  )

  kit.test("10. a released message keeps its place before those of its key", () =>
    Effect.gen(function* () {
      const topic = keyedTopic(kit)
      const seen = yield* probe<Keyed>()
      let released = 0
      const handler = seen.handler(({ data, attempt }) =>
        Effect.gen(function* () {
          assert.strictEqual(attempt, 1)
          const delivery = yield* Delivery
          if (data.n !== 1 || released === 3) return yield* Effect.orDie(delivery.ack)
          released += 1
          return yield* Effect.orDie(delivery.release)
        })
      )
      const subscription = Subscription.make("s", topic, handler, { ack: "manual", concurrency: 4 })
      yield* kit.open(subscription)
      yield* Topic.publishAll(topic, inTurn(["a"], 4))
      yield* kit.idle(subscription)
      assert.deepStrictEqual(
        seen.data().map(({ n }) => n),
        [0, 1, 1, 1, 1, 2, 3]
      )
    })
  )

  kit.test("10. a redriven message has no place in the order, and holds nothing back", () =>
    Effect.gen(function* () {
      const topic = keyedTopic(kit)
      const gate = yield* Latch.make()
      const seen = yield* probe<Keyed>()
      const handler = seen.handler(({ data, redriven }) =>
        data.n === 0 && redriven === undefined
          ? Effect.fail(new Failure({ message: "dead" }))
          : redriven === undefined
            ? Effect.void
            : gate.await
      )
      const subscription = Subscription.make("s", topic, handler, { concurrency: 4, retry: { maxRetries: 0 } })
      yield* kit.open(subscription)
      yield* Topic.publish(topic, { key: "a", n: 0 })
      yield* kit.idle(subscription)
      assert.strictEqual(yield* DeadLetters.redrive(subscription), 1)
      yield* kit.take(seen, 2)
      yield* Topic.publishAll(topic, [
        { key: "a", n: 1 },
        { key: "a", n: 2 }
      ])
      yield* kit.take(seen, 2)
      yield* gate.open
      yield* kit.idle(subscription)
    })
  )

  kit.test("10. a batch holds at most one message of a key", () =>
    Effect.gen(function* () {
      const topic = keyedTopic(kit)
      const batches: Array<ReadonlyArray<Keyed>> = []
      const subscription = Subscription.batch(
        "s",
        topic,
        (batch) => Effect.sync(() => void batches.push(batch.map(({ message }) => message.data))),
        { size: 10, within: kit.ticks(0.2) }
      )
      yield* kit.open(subscription)
      yield* Topic.publishAll(topic, inTurn(keys(3), 5))
      yield* kit.idle(subscription)
      for (const batch of batches) assert.strictEqual(new Set(batch.map(({ key }) => key)).size, batch.length)
      for (const key of keys(3)) {
        assert.deepStrictEqual(
          batches.flat().flatMap((one) => (one.key === key ? [one.n] : [])),
          range(5)
        )
      }
    })
  )

  kit.test("10. a key has one active worker; another takes over when it closes, and the fence grows", () =>
    Effect.gen(function* () {
      const topic = keyedTopic(kit)
      const ledger = new Ledger(1)
      const worker = (consumer: string) =>
        Subscription.make("s", topic, ledger.handler(), { concurrency: 4, consumer, visibilityTimeout: kit.lease })
      const first = yield* kit.open(worker("w1"))
      yield* Topic.publishAll(topic, inTurn(keys(3), 5))
      yield* kit.idle(worker("w1"))
      yield* kit.open(worker("w2"))
      yield* Topic.publishAll(
        topic,
        keys(3).map((key) => ({ key, n: 5 }))
      )
      yield* kit.idle(worker("w1"))
      assert.deepStrictEqual([...new Set(ledger.events.map(({ consumer }) => consumer))], ["w1"])
      yield* first.close
      yield* Topic.publishAll(
        topic,
        keys(3).map((key) => ({ key, n: 6 }))
      )
      yield* kit.idle(worker("w1"))
      ledger.assertOrder()
      const fences = new Map(ledger.events.map(({ consumer, fence }) => [consumer, fence ?? 0]))
      assert.isAbove(fences.get("w2") ?? 0, fences.get("w1") ?? Infinity)
    })
  )

  kit.test("10. a worker that is cut off is followed after its visibility timeout", () =>
    Effect.gen(function* () {
      const topic = keyedTopic(kit)
      const gate = yield* Latch.make()
      const ledger = new Ledger(5)
      const handler = ledger.handler(({ n }, attempt) => (n === 2 && attempt === 1 ? gate.await : Effect.void))
      const options = { concurrency: 4, visibilityTimeout: kit.lease, drainTimeout: 0 }
      const { cut, transport } = yield* cuttable
      yield* Subscription.subscribe(Subscription.make("s", topic, handler, { ...options, consumer: "cut" })).pipe(
        Effect.provideService(Transport, transport)
      )
      const begun = Effect.sync(() => ledger.starts("a").includes(2))
      yield* Topic.publishAll(topic, inTurn(["a"], 6))
      yield* kit.eventually("the third has begun", begun)
      yield* kit.open(Subscription.make("s", topic, handler, { ...options, consumer: "next" }))
      yield* cut
      yield* kit.idle(Subscription.address("s", topic))
      yield* gate.open
      yield* kit.pass(2)
      const starts = ledger.events.filter(({ what }) => what === "start")
      assert.deepStrictEqual(
        starts.map(({ consumer, n }) => [n, consumer]),
        [
          [0, "cut"],
          [1, "cut"],
          [2, "cut"],
          [2, "next"],
          [3, "next"],
          [4, "next"],
          [5, "next"]
        ]
      )
      assert.strictEqual(starts[3]?.attempt, 2)
    })
  )

  kit.test("10. an owner from whom something was reclaimed owns nothing any more: what it parks is refused", () =>
    Effect.gen(function* () {
      const topic = keyedTopic(kit)
      const transport = yield* Transport
      const at = group(topic, "s")
      const owner = yield* own(kit, topic, "s", "frozen")
      yield* Topic.publishAll(topic, inTurn(["a"], 2))
      const [first, second] = yield* two(kit, owner)
      yield* kit.eventually(
        "its deliveries are reclaimed",
        Effect.map(transport.tend(at), ({ reclaimed }) => reclaimed > 0)
      )
      const retry = { _tag: "Retry", delay: kit.ticks(1), cause: "no" } as const
      const settled = yield* owner.settle([
        { entry: first, outcome: retry, repeated: false, key: "a" },
        { entry: second, outcome: { _tag: "Park" }, repeated: false, key: "a" }
      ])
      assert.deepStrictEqual(settled, ["lost", "lost"])
      assert.strictEqual(yield* owner.extend([]), "lost")
      assert.strictEqual(yield* owner.mark("main", [second.id]), "lost")
      const { heldBack, parked } = yield* transport.inspect(at)
      assert.deepStrictEqual({ heldBack, parked }, { heldBack: 0, parked: 0 })
    })
  )

  // the in-memory log refused it, and settled it all the same where the delivery was still the worker's
  kit.test("8. what a former owner settles changes nothing, also where nobody has taken the delivery from it", () =>
    Effect.gen(function* () {
      const topic = keyedTopic(kit)
      const transport = yield* Transport
      const at = group(topic, "s")
      const owner = yield* own(kit, topic, "s", "former")
      yield* Topic.publishAll(topic, inTurn(["a", "b"], 1))
      const [, second] = yield* two(kit, owner)
      yield* kit.eventually(
        "one of them is reclaimed",
        Effect.andThen(
          owner.extend([second]),
          Effect.map(transport.tend(at), ({ reclaimed }) => reclaimed > 0)
        )
      )
      const settled = yield* owner.settle([{ entry: second, outcome: { _tag: "Ack" }, repeated: false, key: "b" }])
      assert.deepStrictEqual(settled, ["lost"])
      assert.strictEqual((yield* transport.inspect(at)).pending, 2)
    })
  )

  kit.test("10. what must be handled alone does not overtake what lies before it", () =>
    Effect.gen(function* () {
      const topic = keyedTopic(kit)
      const owner = yield* own(kit, topic, "s", "dead")
      yield* Topic.publishAll(topic, inTurn(["a"], 3))
      const [first] = yield* two(kit, owner)
      yield* owner.settle([{ entry: first, outcome: { _tag: "Release" }, repeated: false }])
      // of the second its worker has died, and its next attempt is the last
      const ledger = new Ledger(2)
      const options = { concurrency: 4, visibilityTimeout: kit.lease, retry: quick(kit, 1) } as const
      const subscription = Subscription.make("s", topic, ledger.handler(), { ...options, from: "beginning" })
      yield* kit.open(subscription)
      yield* kit.idle(subscription)
      ledger.assertOrder()
      assert.deepStrictEqual(ledger.starts("a"), range(3))
    })
  )

  kit.test("10. pausing leaves the order as it is, and resuming goes on with it", () =>
    Effect.gen(function* () {
      const topic = keyedTopic(kit)
      const ledger = new Ledger(3)
      const handler = ledger.handler((data, attempt) =>
        Effect.andThen(Effect.sleep(kit.ticks(0.05)), failing(({ n }, nth) => n % 4 === 0 && nth === 1)(data, attempt))
      )
      const subscription = Subscription.make("s", topic, handler, {
        concurrency: 3,
        retry: quick(kit),
        visibilityTimeout: kit.lease
      })
      const { handle } = yield* kit.open(subscription)
      yield* kit.passing(
        Effect.forEach(range(5), (round) =>
          Effect.gen(function* () {
            yield* Topic.publishAll(
              topic,
              keys(3).flatMap((key) => range(4).map((i) => ({ key, n: round * 4 + i })))
            )
            yield* handle.pause
            yield* Effect.sleep(kit.ticks(1))
            yield* handle.resume
            yield* Effect.sleep(kit.ticks(1))
          })
        )
      )
      yield* kit.idle(subscription)
      ledger.assertOrder()
      for (const key of keys(3)) assert.isTrue(ledger.isOver({ key, n: 19 }))
    })
  )

  kit.test("10. options that mean nothing for a topic with a key, or without one, are refused", () =>
    Effect.gen(function* () {
      const keyed = keyedTopic(kit, 4)
      const plain = Topic.make(kit.fresh("plain"), { schema: Keyed })
      for (const [topic, options, option] of [
        [keyed, { ownConnection: true }, "ownConnection"],
        [keyed, { prefetch: 3 }, "prefetch"],
        [keyed, { maxWaiting: 0 }, "maxWaiting"],
        [plain, { maxWaiting: 10 }, "maxWaiting"]
      ] as const) {
        const error = yield* Effect.flip(
          Subscription.subscribe(Subscription.make("s", topic, () => Effect.void, options))
        )
        if (error.reason._tag !== "InvalidOption") return assert.fail(error.message)
        assert.strictEqual(error.reason.option, option)
      }
    })
  )

  kit.test("10. a storm: workers come, go and are cut off while keys fail, and each key keeps its order", () =>
    Effect.gen(function* () {
      const topic = keyedTopic(kit, 4)
      const ledger = new Ledger(4)
      const handler = ledger.handler((data, attempt) =>
        Effect.andThen(
          Effect.sleep(kit.ticks(0.1)),
          failing(({ key, n }, nth) => (n + Number(key.slice(1))) % 5 === 0 && nth <= 2)(data, attempt)
        )
      )
      const worker = (consumer: string) =>
        Subscription.make("s", topic, handler, {
          concurrency: 4,
          consumer,
          retry: quick(kit, 3),
          visibilityTimeout: kit.lease
        })
      const data = inTurn(keys(8), 10)
      const opened = [yield* kit.open(worker("w0"))]
      for (const round of range(5)) {
        yield* Topic.publishAll(topic, data.slice(round * 16, round * 16 + 16))
        opened.push(yield* kit.open(worker(`w${round + 1}`)))
        yield* kit.pass(1)
        if (round % 2 === 1) yield* opened.shift()?.close ?? Effect.void
      }
      yield* kit.idle(Subscription.address("s", topic))
      ledger.assertOrder()
      assert.deepStrictEqual(
        data.filter((one) => !ledger.isOver(one)),
        []
      )
    })
  )
}
