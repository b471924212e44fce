/**
 * What each ack policy makes of a handler's end, and the options that are refused.
 */
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import { Agent, DeadLetters, RetryAfter, Subscription, Topic, Transport } from "../index.ts"
import { onlyDeadLetter, texts } from "./Collect.ts"
import { type Category, type Kit, probe } from "./Kit.ts"
import { cuttable, group } from "./Workers.ts"

const endings = (kit: Kit): ReadonlyArray<readonly [data: string, ending: Effect.Effect<void, unknown>]> => [
  ["success", Effect.void],
  ["failure", Effect.fail("no")],
  ["defect", Effect.die(new Error("bug"))],
  ["interruption", Effect.interrupt],
  ["RetryAfter", Effect.fail(new RetryAfter({ delay: kit.ticks(1) }))]
]

/** What an untyped caller, or Config, could ask for. */
const untyped = (options: unknown): Subscription.Options<string, never, never> =>
  options as Subscription.Options<string, never, never> // on purpose: what the compiler refuses must be refused at run time too

export const ackPolicies: Category = (kit) => {
  kit.test("1. onSuccess acks a success, and only a success", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const seen = yield* probe()
      const all = new Map(endings(kit))
      const handler = seen.handler((call) => all.get(call.data) ?? Effect.void)
      const subscription = Subscription.make("s", topic, handler, {
        ack: "onSuccess",
        retry: { maxRetries: 1, base: kit.ticks(1), jitter: 0 }
      })
      yield* kit.open(subscription)
      yield* Topic.publishAll(topic, [...all.keys()])
      yield* kit.idle(subscription)
      for (const data of all.keys()) {
        const calls = seen.data().filter((one) => one === data).length
        assert.strictEqual(calls, data === "success" ? 1 : 2, data)
      }
      assert.strictEqual(yield* DeadLetters.count(subscription), all.size - 1)
    })
  )

  kit.test("1. onExit acks however the handler ends", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const seen = yield* probe()
      const all = new Map(endings(kit))
      const handler = seen.handler((call) => all.get(call.data) ?? Effect.void)
      const subscription = Subscription.make("s", topic, handler, { ack: "onExit" })
      const { handle } = yield* kit.open(subscription)
      yield* Topic.publishAll(topic, [...all.keys()])
      yield* kit.idle(subscription)
      yield* kit.pass(5)
      assert.deepStrictEqual(seen.data().toSorted(), [...all.keys()].toSorted())
      const stats = yield* handle.stats
      assert.deepStrictEqual([stats.pending, stats.due, stats.deadLetters], [0, 0, 0])
    })
  )

  kit.test("1. onExit acks after the handler: nothing is lost when its worker dies meanwhile", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const seen = yield* probe()
      const cut = yield* cuttable
      const options = { ack: "onExit", visibilityTimeout: kit.lease, drainTimeout: 0 } as const
      yield* kit
        .open(
          Subscription.make(
            "s",
            topic,
            seen.handler(() => Effect.never),
            { ...options, consumer: "cut" }
          )
        )
        .pipe(Effect.provideService(Transport, cut.transport))
      yield* Topic.publish(topic, "x")
      yield* kit.next(seen)
      yield* cut.cut
      yield* kit.open(Subscription.make("s", topic, seen.handler(), { ...options, consumer: "other" }))
      assert.strictEqual((yield* kit.next(seen)).consumer, "other")
    })
  )

  kit.test("1. onReceive acks before the handler runs", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const transport = yield* Transport
      const pendings: Array<number> = []
      const seen = yield* probe()
      const handler = seen.handler(() =>
        Effect.map(transport.inspect(group(topic, "s")), ({ pending }) => void pendings.push(pending))
      )
      const subscription = Subscription.make("s", topic, handler, { ack: "onReceive", concurrency: 1, prefetch: 1 })
      yield* kit.open(subscription)
      for (const data of texts(5)) {
        yield* Topic.publish(topic, data)
        yield* kit.next(seen)
      }
      yield* kit.eventually(
        "each handler has looked",
        Effect.sync(() => pendings.length === 5)
      )
      assert.deepStrictEqual(pendings, [0, 0, 0, 0, 0])
    })
  )

  kit.test("1. onReceive is at most once: neither a failure nor a close delivers a message again", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const seen = yield* probe()
      const all = new Map([...endings(kit), ["stuck", Effect.never] as const])
      const handler = seen.handler((call) => all.get(call.data) ?? Effect.void)
      const subscription = Subscription.make("s", topic, handler, { ack: "onReceive", drainTimeout: 0 })
      const first = yield* kit.open(subscription)
      yield* Topic.publishAll(topic, [...all.keys()])
      yield* kit.take(seen, all.size)
      yield* first.close
      const { handle } = yield* kit.open(subscription)
      yield* Topic.publish(topic, "success")
      yield* kit.next(seen)
      yield* kit.pass(5)
      assert.strictEqual(seen.calls.length, all.size + 1)
      const stats = yield* handle.stats
      assert.deepStrictEqual([stats.pending, stats.due, stats.deadLetters], [0, 0, 0])
    })
  )

  kit.test("5. RetryAfter under a policy without retries is a failure like any other", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const seen = yield* probe()
      const subscription = Subscription.make(
        "s",
        topic,
        seen.handler(() => Effect.fail(new RetryAfter({ delay: kit.ticks(1) }))),
        { retry: { maxRetries: 0 } }
      )
      yield* kit.open(subscription)
      yield* Topic.publish(topic, "x")
      yield* kit.idle(subscription)
      yield* kit.pass(5)
      assert.strictEqual(seen.calls.length, 1)
      assert.strictEqual((yield* onlyDeadLetter(subscription)).reason, "exhausted")
    })
  )

  kit.test("12. where dead letters are switched off, what is exhausted is acked and gone", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const seen = yield* probe()
      const subscription = Subscription.make(
        "s",
        topic,
        seen.handler(() => Effect.fail("no")),
        {
          deadLetters: false,
          retry: { maxRetries: 2, base: kit.ticks(1), jitter: 0 }
        }
      )
      const { handle } = yield* kit.open(subscription)
      yield* Topic.publish(topic, "x")
      yield* kit.idle(subscription)
      assert.strictEqual(seen.calls.length, 3)
      const stats = yield* handle.stats
      assert.deepStrictEqual([stats.pending, stats.due, stats.deadLetters], [0, 0, 0])
    })
  )

  kit.test("1. the scope of a delivery is closed before it settles, however the handler ends", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const transport = yield* Transport
      const pendings: Array<number> = []
      const handler = (ending: Effect.Effect<void, string>) =>
        Effect.andThen(
          Effect.acquireRelease(Effect.void, () =>
            transport.inspect(group(topic, "s")).pipe(
              Effect.map(({ pending }) => void pendings.push(pending)),
              Effect.orDie
            )
          ),
          ending
        )
      const subscription = Subscription.make(
        "s",
        topic,
        ({ data }) => handler(data === "fails" ? Effect.fail("no") : Effect.void),
        { concurrency: 1, prefetch: 1, retry: { maxRetries: 0 } }
      )
      yield* kit.open(subscription)
      for (const data of ["works", "fails"]) {
        yield* Topic.publish(topic, data)
        yield* kit.idle(subscription)
      }
      assert.deepStrictEqual(pendings, [1, 1])
    })
  )

  kit.test("1. retries and onDeadLetter are refused at run time where the policy acks failures", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const table: ReadonlyArray<readonly [options: unknown, names: string]> = [
        [{ ack: "onExit", retry: { maxRetries: 1 } }, "retry"],
        [{ ack: "onReceive", retry: { maxRetries: 1 } }, "retry"],
        [{ ack: "onExit", onDeadLetter: () => Effect.void }, "onDeadLetter"],
        [{ ack: "onReceive", onDeadLetter: () => Effect.void }, "onDeadLetter"],
        [{ deadLetters: false, onDeadLetter: () => Effect.void }, "onDeadLetter"],
        [{ ack: "whenever" }, "ack"]
      ]
      for (const [options, names] of table) {
        const subscription = Effect.suspend(() =>
          Subscription.subscribe(Subscription.make("s", topic, () => Effect.void, untyped(options)))
        )
        const error = yield* Effect.flip(Effect.scoped(subscription))
        assert.strictEqual(error.reason._tag, "InvalidOption", JSON.stringify(options))
        assert.include(error.message, names)
      }
      // nothing of them remains
      yield* kit.open(Subscription.make("s", topic, () => Effect.void))
    })
  )

  kit.test("11. every number is validated, with an error that names the option", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const table: ReadonlyArray<readonly [options: unknown, names: string]> = [
        [{ concurrency: 0 }, "concurrency"],
        [{ concurrency: 1.5 }, "concurrency"],
        [{ concurrency: Number.NaN }, "concurrency"],
        [{ prefetch: 0 }, "prefetch"],
        [{ prefetch: -1 }, "prefetch"],
        [{ visibilityTimeout: 0 }, "visibilityTimeout"],
        [{ visibilityTimeout: "Infinity" }, "visibilityTimeout"],
        [{ timeout: 0 }, "timeout"],
        [{ maxLease: 0 }, "maxLease"],
        [{ retry: { maxRetries: -1 } }, "maxRetries"],
        [{ retry: { maxRetries: 1.5 } }, "maxRetries"],
        [{ retry: { maxRetries: Number.NaN } }, "maxRetries"],
        [{ retry: { factor: 0 } }, "factor"],
        [{ retry: { factor: Number.NaN } }, "factor"],
        [{ retry: { jitter: -0.1 } }, "jitter"],
        [{ retry: { jitter: Number.NaN } }, "jitter"],
        [{ from: { id: "not an id" } }, "from"]
      ]
      for (const [options, names] of table) {
        const exit = yield* Effect.suspend(() =>
          Subscription.subscribe(Subscription.make("s", topic, () => Effect.void, untyped(options)))
        ).pipe(Effect.scoped, Effect.flip, Effect.exit)
        assert.isTrue(Exit.isSuccess(exit), `${names} is accepted, or is a defect: ${JSON.stringify(options)}`)
        if (Exit.isSuccess(exit)) {
          assert.strictEqual(exit.value.reason._tag, "InvalidOption", names)
          assert.include(exit.value.message, names)
        }
      }
    })
  )

  kit.test("4. absurd attempts and delays overflow nothing", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const seen = yield* probe()
      const handler = seen.handler((call) => (call.attempt < 40 ? Effect.fail("no") : Effect.void))
      const subscription = Subscription.make("s", topic, handler, {
        retry: { maxRetries: Number.MAX_SAFE_INTEGER, base: kit.ticks(0.1), factor: 1e9, maxDelay: kit.ticks(0.2) }
      })
      yield* Layer.build(Agent.layer("a", [subscription]))
      yield* Topic.publish(topic, "x")
      yield* kit.idle(subscription)
      assert.strictEqual(seen.calls.length, 40)
    })
  )
}
