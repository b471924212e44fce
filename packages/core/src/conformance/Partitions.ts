/**
 * Topics of several logs: where messages go, who reads them, and what tools make of them.
 */
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { DeadLetters, Delivery, Subscription, Topic } from "../index.ts"
import { assertEachOnce, deadLetters, Failure, range, texts } from "./Collect.ts"
import { type Category, type Kit, probe } from "./Kit.ts"
import { keyedTopic, Ledger } from "./Ordered.ts"

const wide = (kit: Kit, partitions: number, name = kit.fresh("wide")) =>
  Topic.make(name, { schema: Schema.String, partitions })

/** Which partition handled what. */
const spread = () => {
  const seen: Array<readonly [string, number]> = []
  return {
    seen,
    handler: ({ data }: { readonly data: string }) =>
      Effect.map(Delivery, ({ partition }) => {
        seen.push([data, partition])
      })
  }
}

export const partitions: Category = (kit) => {
  kit.test("10. without a key, partitions are taken in turn, and each message is handled once", () =>
    Effect.gen(function* () {
      const topic = wide(kit, 4)
      const { handler, seen } = spread()
      const subscription = Subscription.make("s", topic, handler, { concurrency: 4 })
      yield* kit.open(subscription)
      const messages = yield* Topic.publishAll(topic, texts(40))
      for (const data of texts(48).slice(40)) yield* Topic.publish(topic, data)
      yield* kit.idle(subscription)
      assertEachOnce(
        seen.map(([data]) => data),
        texts(48)
      )
      for (const partition of range(4)) assert.strictEqual(seen.filter(([, at]) => at === partition).length, 12)
      assert.strictEqual(new Set(messages.map(({ id }) => id)).size, 40, "ids")
    })
  )

  kit.test("10. a key always goes to one partition, and different keys are spread", () =>
    Effect.gen(function* () {
      const topic = keyedTopic(kit, 8)
      const ledger = new Ledger(1)
      const subscription = Subscription.make("s", topic, ledger.handler(), { concurrency: 8 })
      yield* kit.open(subscription)
      const keys = range(64).map((i) => `k${i}`)
      for (const n of range(3)) {
        yield* Topic.publishAll(
          topic,
          keys.map((key) => ({ key, n }))
        )
      }
      yield* kit.idle(subscription)
      ledger.assertOrder()
      const places = new Map(keys.map((key) => [key, new Set<number>()]))
      for (const { key, partition } of ledger.events) places.get(key)?.add(partition)
      assert.isTrue([...places.values()].every(({ size }) => size === 1))
      assert.strictEqual(new Set([...places.values()].flatMap((of) => [...of])).size, 8)
    })
  )

  kit.test("10. workers compete for every partition where there is no key", () =>
    Effect.gen(function* () {
      const topic = wide(kit, 3)
      const seen = yield* probe()
      const busy = seen.handler(() => Effect.sleep(kit.ticks(0.2)))
      for (const consumer of ["w1", "w2"]) {
        yield* kit.open(Subscription.make("s", topic, busy, { consumer, concurrency: 2, prefetch: 3 }))
      }
      for (const data of texts(60)) yield* Topic.publish(topic, data)
      yield* kit.idle(Subscription.address("s", topic))
      assertEachOnce(seen.data(), texts(60))
      for (const consumer of ["w1", "w2"]) {
        assert.isAtLeast(seen.calls.filter((call) => call.consumer === consumer).length, 10, `load of ${consumer}`)
      }
    })
  )

  kit.test("10. the partitions of a topic with a key are shared by its workers, each owned by one", () =>
    Effect.gen(function* () {
      const topic = keyedTopic(kit, 6)
      const ledger = new Ledger(1)
      const worker = (consumer: string) =>
        Subscription.make("s", topic, ledger.handler(), { concurrency: 4, consumer, visibilityTimeout: kit.lease })
      const opened = new Map<string, { readonly close: Effect.Effect<void> }>()
      for (const name of ["a", "b", "c"]) opened.set(name, yield* kit.open(worker(name)))
      const owners = Effect.sync(() => {
        const last = new Map<number, string>()
        for (const { consumer, partition } of ledger.events) last.set(partition, consumer)
        return ["a", "b", "c"].map((name) => [...last.values()].filter((owner) => owner === name).length)
      })
      let n = 0
      const round = Effect.suspend(() =>
        Effect.andThen(
          Topic.publishAll(
            topic,
            range(48).map((i) => ({ key: `k${i}`, n }))
          ),
          Effect.suspend(() => {
            n += 1
            return kit.idle(Subscription.address("s", topic))
          })
        )
      )
      yield* kit.eventually(
        "two partitions each",
        Effect.andThen(
          round,
          Effect.map(owners, (all) => all.every((count) => count === 2))
        )
      )
      const moved = new Map(ledger.events.map(({ consumer, partition }) => [partition, consumer]))
      yield* opened.get("c")?.close ?? Effect.void
      yield* kit.eventually(
        "three each",
        Effect.andThen(
          round,
          Effect.map(owners, ([a, b, c]) => a === 3 && b === 3 && c === 0)
        )
      )
      // what a and b had stayed with them
      const after = new Map(ledger.events.map(({ consumer, partition }) => [partition, consumer]))
      for (const [partition, owner] of moved) if (owner !== "c") assert.strictEqual(after.get(partition), owner)
      ledger.assertOrder()
    })
  )

  kit.test("10. numbers, dead letters and idleness are those of all partitions", () =>
    Effect.gen(function* () {
      const topic = wide(kit, 3)
      const subscription = Subscription.make(
        "s",
        topic,
        ({ data }) => (data === "m4" ? Effect.void : Effect.fail(new Failure({ message: data }))),
        { concurrency: 3, retry: { maxRetries: 0 } }
      )
      const { close } = yield* kit.open(subscription)
      yield* Topic.publishAll(topic, texts(9))
      yield* kit.idle(subscription)
      assert.strictEqual(yield* DeadLetters.count(subscription), 8)
      const letters = yield* deadLetters(subscription)
      assert.strictEqual(new Set(letters.map(({ id }) => id)).size, 8)
      for (const letter of letters) {
        const found = yield* DeadLetters.get(subscription, letter.id)
        assert.deepStrictEqual(
          Option.map(found, ({ originalId }) => originalId),
          Option.some(letter.originalId)
        )
      }
      yield* close
      const [first, second, ...others] = letters.map(({ id }) => id)
      if (first === undefined || second === undefined) return assert.fail("no letters")
      assert.strictEqual(yield* DeadLetters.discard(subscription, { ids: [first] }), 1)
      assert.strictEqual(yield* DeadLetters.redrive(subscription, { ids: [second, "9-9", "9-9/7"] }), 1)
      assert.strictEqual((yield* Subscription.stats(subscription)).due, 1)
      assert.strictEqual(yield* DeadLetters.redrive(subscription), others.length)
      const { deadLetters: dead, due } = yield* Subscription.stats(subscription)
      assert.deepStrictEqual({ dead, due }, { dead: 0, due: 1 + others.length })
    })
  )

  kit.test("10. another number of partitions is refused once a topic is used, naming both numbers", () =>
    Effect.gen(function* () {
      const name = kit.fresh("wide")
      yield* Topic.publish(wide(kit, 3, name), "x")
      for (const count of [1, 2, 4]) {
        const other = wide(kit, count, name)
        const published = yield* Effect.flip(Topic.publish(other, "x"))
        const subscribed = yield* Effect.flip(Subscription.subscribe(Subscription.make("s", other, () => Effect.void)))
        const looked = yield* Effect.flip(Subscription.stats(Subscription.address("s", other)))
        for (const { message, reason } of [published, subscribed, looked]) {
          assert.strictEqual(reason._tag, "InvalidOption")
          assert.match(message, new RegExp(`has 3, not ${count}`))
        }
      }
      const plain = kit.fresh("plain")
      yield* Topic.publish(wide(kit, 1, plain), "x")
      assert.match((yield* Effect.flip(Topic.publish(wide(kit, 2, plain), "x"))).message, /has 1, not 2/)
    })
  )

  kit.test("10. repartition changes the number once nobody uses the topic and all is settled, and not before", () =>
    Effect.gen(function* () {
      const name = kit.fresh("wide")
      const before = wide(kit, 2, name)
      const after = wide(kit, 3, name)
      const gate = yield* Latch.make()
      const seen = yield* probe()
      const handler = seen.handler(() => gate.await)
      const worker = yield* kit.open(Subscription.make("s", before, handler, { concurrency: 4, drainTimeout: 0 }))
      yield* Topic.publishAll(before, texts(4))
      yield* kit.take(seen, 4)
      const refused = (what: RegExp) =>
        Effect.map(Effect.flip(Topic.repartition(after)), (error) => {
          assert.strictEqual(error.reason._tag, "Refused")
          assert.match(error.message, what)
        })
      yield* refused(/"s" has workers \(1\): stop them/)
      yield* worker.close
      yield* refused(/"s" has not settled all there is/)
      yield* gate.open
      const finishing = yield* kit.open(Subscription.make("s", before, handler, { concurrency: 4 }))
      yield* kit.idle(Subscription.address("s", before))
      yield* finishing.close
      assert.strictEqual(yield* Topic.repartition(after), 2)
      assert.strictEqual(yield* Topic.repartition(after), 3)
      assert.match((yield* Effect.flip(Topic.publish(before, "x"))).message, /has 3, not 2/)
      const { handler: note, seen: places } = spread()
      yield* kit.open(Subscription.make("s", after, note))
      yield* Topic.publishAll(after, texts(6))
      yield* kit.idle(Subscription.address("s", after))
      for (const partition of range(3)) assert.strictEqual(places.filter(([, at]) => at === partition).length, 2)
    })
  )

  kit.test("10. after repartition, subscriptions that exist get what is published before their workers are there", () =>
    Effect.gen(function* () {
      const name = kit.fresh("wide")
      const keyed = (partitions: number) => keyedTopic(kit, partitions, `${name}-keyed`)
      const [ledger, { handler, seen }] = [new Ledger(1), spread()]
      const plainOf = (partitions: number) => Subscription.make("s", wide(kit, partitions, name), handler)
      const keyedOf = (partitions: number) => Subscription.make("s", keyed(partitions), ledger.handler())
      const working = (partitions: number) =>
        Effect.gen(function* () {
          const workers = [yield* kit.open(plainOf(partitions)), yield* kit.open(keyedOf(partitions))]
          yield* kit.idle(plainOf(partitions))
          yield* kit.idle(keyedOf(partitions))
          for (const { close } of workers) yield* close
        })
      yield* working(1)
      yield* Topic.repartition(wide(kit, 4, name))
      yield* Topic.repartition(keyed(4))
      yield* Topic.publishAll(wide(kit, 4, name), texts(8))
      yield* Topic.publishAll(
        keyed(4),
        range(32).map((n) => ({ key: `k${n}`, n }))
      )
      yield* working(4)
      assertEachOnce(
        seen.map(([data]) => data),
        texts(8)
      )
      assert.strictEqual(new Set(ledger.events.map(({ key }) => key)).size, 32)
      const standing = yield* Topic.groups(wide(kit, 4, name))
      assert.deepStrictEqual(
        standing.map(({ consumers, partition }) => [partition, consumers]),
        range(4).map((partition) => [partition, 0])
      )
    })
  )

  kit.test("10. repartition leaves no dead letters in partitions that are no more", () =>
    Effect.gen(function* () {
      const name = kit.fresh("wide")
      const [one, two] = [wide(kit, 1, name), wide(kit, 2, name)]
      const subscription = Subscription.make("s", two, () => Effect.fail("no"), { retry: { maxRetries: 0 } })
      const { close } = yield* kit.open(subscription)
      yield* Topic.publishAll(two, texts(4))
      yield* kit.idle(subscription)
      yield* close
      const refused = yield* Effect.flip(Topic.repartition(one))
      assert.strictEqual(refused.reason._tag, "Refused")
      assert.match(refused.message, /"s" has dead letters \(2\) in partition 1/)
      // nothing of more partitions is out of reach
      assert.strictEqual(yield* Topic.repartition(wide(kit, 3, name)), 2)
      assert.strictEqual(yield* Topic.repartition(two), 3)
      yield* DeadLetters.discard(subscription, { where: ({ id }) => id.endsWith("/1") })
      assert.strictEqual(yield* Topic.repartition(one), 2)
      assert.strictEqual(yield* DeadLetters.count(Subscription.address("s", one)), 2)
    })
  )

  kit.test("10. repartition to one partition holds against who still asks for as many as there were", () =>
    Effect.gen(function* () {
      const name = kit.fresh("wide")
      const [one, three] = [wide(kit, 1, name), wide(kit, 3, name)]
      yield* Topic.publishAll(three, texts(6))
      assert.strictEqual(yield* Topic.repartition(one), 3)
      assert.match((yield* Effect.flip(Topic.publish(three, "x"))).message, /has 1, not 3/)
      yield* Topic.publish(one, "x")
      assert.match((yield* Effect.flip(Subscription.stats(Subscription.address("s", three)))).message, /has 1, not 3/)
      assert.strictEqual(yield* Topic.repartition(one), 1)
    })
  )
}
