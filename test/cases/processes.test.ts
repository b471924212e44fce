/**
 * Real processes: killed, stopped, told to end. What they held is handled by others, at the cost that the contract names.
 */
import { DeadLetters, Delivery, type SettleError, Subscription, Topic } from "@clutch/core"
import { RedisKeys } from "@clutch/redis"
import { assert, describe } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import { start, type WorkerSettings } from "./children.ts"
import { as, eachOnce, range, recorder, shared, test, texts, unlike, until, worker, xinfo } from "./kit.ts"

/** A topic, with settings for children of one subscription on it. */
const setUp = Effect.gen(function* () {
  const { namespace, options, place, redis } = yield* shared
  const topic = texts()
  const run = as(yield* worker(options))
  const keys = RedisKeys.group(namespace, { topic: topic.topic, partition: 0, subscription: "billing" })
  const child = (settings: WorkerSettings["options"]): WorkerSettings => ({
    place,
    namespace,
    topic: topic.topic,
    subscription: "billing",
    name: "child",
    options: { from: "beginning", ...settings }
  })
  const pending = () => xinfo(redis, "CONSUMERS", keys.main, "billing")
  return { namespace, redis, topic, run, keys, child, pending }
})

describe("a worker process that dies", () => {
  test("7. a killed process's messages are handled by another one after its own visibility timeout, as a second attempt", () =>
    Effect.gen(function* () {
      const { child, run, topic } = yield* setUp
      const first = yield* start("worker", child({ concurrency: 2, visibilityTimeout: 1500 }))
      yield* run(Topic.publishAll(topic, ["hang:1", "hang:2"]))
      yield* first.prints("both", () => first.started().length === 2)
      const killed = Date.now()
      first.signal("SIGKILL")
      assert.strictEqual(yield* Effect.promise(() => first.ended), "SIGKILL")
      const seen = recorder()
      // judged by the timeout of the one that died, not by this one's
      const options = { concurrency: 2, visibilityTimeout: "1 minute" } as const
      yield* run(Subscription.subscribe(Subscription.make("billing", topic, seen.handler(), options)))
      yield* until("both are handled here", () => seen.calls.length === 2)
      assert.deepStrictEqual(unlike(seen.data(), ["hang:1", "hang:2"]), eachOnce)
      assert.isTrue(seen.calls.every(({ attempt }) => attempt === 2))
      // heartbeats come four times a timeout, so its last one is at most that much older than its death
      assert.isTrue(
        seen.calls.every(({ at }) => at - killed >= 1500 * 0.7),
        "not before its lease had ended"
      )
    }))

  test("7. a slow handler of a live process is not reclaimed, however long it takes", () =>
    Effect.gen(function* () {
      const { child, run, topic } = yield* setUp
      const slow = yield* start("worker", child({ visibilityTimeout: 1000 }))
      yield* run(Topic.publish(topic, "slow:4000"))
      yield* slow.prints("its start", ({ event }) => event === "start")
      const seen = recorder()
      yield* run(
        Subscription.subscribe(Subscription.make("billing", topic, seen.handler(), { visibilityTimeout: "1 second" }))
      )
      yield* slow.prints("its end", ({ event }) => event === "end")
      yield* run(Subscription.awaitIdle(Subscription.address("billing", topic)))
      assert.deepStrictEqual([slow.started(), seen.data()], [["slow:4000"], []])
    }))

  test(
    "7. a message that kills its process is dead-lettered alone: those handled and prefetched beside it survive",
    () =>
      Effect.gen(function* () {
        const { child, namespace, redis, run, topic } = yield* setUp
        const settings = child({
          concurrency: 4,
          prefetch: 12,
          visibilityTimeout: 1000,
          retry: { maxRetries: 2, base: 50 }
        })
        const innocents = range(24).map((i) => `slow:40:${i}`)
        yield* run(Topic.publishAll(topic, [...innocents.slice(0, 3), "die", ...innocents.slice(3)]))
        const address = Subscription.address("billing", topic)
        let deaths = 0
        const ended: Array<string> = []
        const finished = () => new Set(ended).size === innocents.length
        const { deadLetters } = RedisKeys.group(namespace, {
          topic: topic.topic,
          partition: 0,
          subscription: "billing"
        })
        while (deaths < 6) {
          const process_ = yield* start("worker", settings)
          yield* until(
            "it dies, or all is done",
            async () =>
              process_.hasEnded() ||
              ((await redis.xlen(deadLetters)) > 0 && (finished() || process_.of("end").length > 0)),
            30_000
          )
          if (!process_.hasEnded()) {
            yield* run(Subscription.awaitIdle(address))
            ended.push(...process_.of("end").flatMap(({ data }) => data ?? []))
            process_.signal("SIGTERM")
            yield* Effect.promise(() => process_.ended)
            break
          }
          deaths += 1
          ended.push(...process_.of("end").flatMap(({ data }) => data ?? []))
        }
        const letters = yield* run(Stream.runCollect(DeadLetters.list(address)))
        assert.deepStrictEqual(
          letters.map(({ attempts, raw, reason }) => [Buffer.from(raw).toString(), reason, attempts]),
          [[JSON.stringify("die"), "exhausted", 3]]
        )
        assert.strictEqual(deaths, 3)
        assert.deepStrictEqual(
          innocents.filter((one) => !ended.includes(one)),
          []
        )
      }),
    90_000
  )

  test("8. a worker paused past its lease (SIGSTOP, then SIGCONT) cannot settle what another now owns", () =>
    Effect.gen(function* () {
      const { child, pending, run, topic } = yield* setUp
      const paused = yield* start("worker", child({ visibilityTimeout: 1000, manual: true }))
      yield* run(Topic.publish(topic, "hold"))
      yield* paused.prints("its start", ({ event }) => event === "start")
      paused.signal("SIGSTOP")
      const go = yield* Deferred.make<void>()
      const seen = recorder()
      const settled: Array<SettleError | "acked"> = []
      yield* run(
        Subscription.subscribe(
          Subscription.make(
            "billing",
            topic,
            seen.handler(() =>
              Effect.gen(function* () {
                const delivery = yield* Delivery
                yield* Deferred.await(go)
                settled.push(
                  yield* Effect.match(delivery.ack, { onFailure: (error) => error, onSuccess: () => "acked" as const })
                )
              })
            ),
            { ack: "manual", consumer: "heir" }
          )
        )
      )
      yield* until("another one has it", () => seen.calls.length === 1)
      assert.strictEqual(seen.calls[0]?.attempt, 2)
      paused.say("go on")
      paused.signal("SIGCONT")
      yield* paused.prints("what became of its settle", ({ event }) => event === "settled")
      assert.deepStrictEqual(
        paused.of("settled").map(({ settled }) => settled),
        ["LeaseLost"]
      )
      // still the other one's, and not done
      const heir = (yield* Effect.promise(pending)).find(({ name }) => name === "heir")
      assert.strictEqual(heir?.["pending"], "1")
      // the handler tells of its settle before its worker does
      yield* paused.prints(
        "a warning",
        ({ level, text }) => level === "Warn" && text?.includes("lease was lost") === true
      )
      yield* Deferred.succeed(go, undefined)
      yield* run(Subscription.awaitIdle(Subscription.address("billing", topic)))
      assert.deepStrictEqual(settled, ["acked"])
      assert.deepStrictEqual(seen.data(), ["hold"])
    }))

  test("8. the same under ack onSuccess: the paused worker's success is refused and counted, not applied", () =>
    Effect.gen(function* () {
      const { child, redis, keys, run, topic } = yield* setUp
      const paused = yield* start("worker", child({ visibilityTimeout: 1000 }))
      yield* run(Topic.publish(topic, "hold"))
      yield* paused.prints("its start", ({ event }) => event === "start")
      paused.signal("SIGSTOP")
      const go = yield* Deferred.make<void>()
      const seen = recorder()
      const heir = Subscription.make(
        "billing",
        topic,
        seen.handler(() => Deferred.await(go)),
        { consumer: "heir" }
      )
      yield* run(Subscription.subscribe(heir))
      yield* until("another one has it", () => seen.calls.length === 1)
      paused.say("go on")
      paused.signal("SIGCONT")
      yield* paused.prints("that it lost the lease", ({ text }) => text?.includes("lease was lost") === true)
      yield* paused.prints("its end", ({ event }) => event === "end")
      const left: unknown = yield* Effect.promise(() => redis.xpending(keys.main, "billing"))
      assert.deepStrictEqual(Array.isArray(left) ? left[0] : left, 1)
      yield* Deferred.succeed(go, undefined)
      yield* run(Subscription.awaitIdle(heir))
      assert.deepStrictEqual(yield* run(DeadLetters.count(heir)), 0)
    }))
})

describe("worker processes of one group", () => {
  test("2. two workers in two processes share a group: each message once, load split, explicit consumer names respected", () =>
    Effect.gen(function* () {
      const { child, pending, run, topic } = yield* setUp
      const left = yield* start("worker", child({ concurrency: 2, prefetch: 4, consumer: "left" }))
      const right = yield* start("worker", child({ concurrency: 2, prefetch: 4, consumer: "right" }))
      yield* until("both have joined", async () => (await pending()).length === 2, 30_000)
      assert.deepStrictEqual((yield* Effect.promise(pending)).map(({ name }) => name ?? "").toSorted(), [
        "left",
        "right"
      ])
      const messages = range(200).map((i) => `slow:5:${i}`)
      yield* run(Topic.publishAll(topic, messages))
      yield* run(Subscription.awaitIdle(Subscription.address("billing", topic)))
      yield* until("all is printed", () => left.of("end").length + right.of("end").length >= 200)
      assert.deepStrictEqual(unlike([...left.started(), ...right.started()], messages), eachOnce)
      assert.isAtLeast(left.started().length, 40)
      assert.isAtLeast(right.started().length, 40)
      assert.isTrue(left.of("start").every(({ consumer }) => consumer === "left"))
      assert.isTrue(right.of("start").every(({ consumer }) => consumer === "right"))
    }))

  test("1. on SIGTERM a worker drains: what is in flight is finished, the rest is left at no cost, no consumer stays", () =>
    Effect.gen(function* () {
      const { child, keys, pending, redis, run, topic } = yield* setUp
      const first = yield* start("worker", child({ concurrency: 2, prefetch: 8 }))
      const messages = range(8).map((i) => `slow:700:${i}`)
      yield* run(Topic.publishAll(topic, messages))
      yield* first.prints("two starts", () => first.started().length === 2)
      first.signal("SIGTERM")
      const code = yield* Effect.promise(() => first.ended)
      assert.strictEqual(code, 130, first.stderr())
      assert.strictEqual(first.stderr(), "")
      assert.deepStrictEqual(
        first
          .of("end")
          .map(({ data }) => data ?? "")
          .toSorted(),
        first.started().toSorted()
      )
      assert.lengthOf(first.of("drained"), 1)
      const consumers = yield* Effect.promise(pending)
      assert.deepStrictEqual(
        consumers.map(({ name }) => name).filter((name) => name !== RedisKeys.released),
        []
      )
      const remembered = yield* Effect.promise(() => redis.hkeys(keys.state))
      assert.deepStrictEqual(
        remembered.filter((field) => field.includes(":")),
        []
      )
      const seen = recorder()
      yield* run(Subscription.subscribe(Subscription.make("billing", topic, seen.handler(), { concurrency: 8 })))
      yield* run(Subscription.awaitIdle(Subscription.address("billing", topic)))
      assert.deepStrictEqual(unlike([...first.started(), ...seen.data()], messages), eachOnce)
      assert.isTrue(seen.calls.every(({ attempt }) => attempt === 1))
      assert.strictEqual(
        Option.getOrUndefined((yield* run(Subscription.stats(Subscription.address("billing", topic)))).waiting),
        0
      )
    }))
})
