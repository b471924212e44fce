/**
 * Subscriptions that start together or not at all.
 */
import { assert } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import { Agent, Subscription, Topic, Transport } from "../index.ts"
import { assertEachOnce, range, texts } from "./Collect.ts"
import * as Faults from "./Faults.ts"
import * as Fibers from "./Fibers.ts"
import { failureText, type Category, probe } from "./Kit.ts"

class Payments extends Context.Service<Payments, { readonly charge: (what: string) => Effect.Effect<void> }>()(
  "@clutch/core/conformance/Payments"
) {}

export const agents: Category = (kit) => {
  /** Builds a layer in a scope that can be closed before the test ends. */
  const start = <E, R>(layer: Layer.Layer<never, E, R>) =>
    Effect.gen(function* () {
      const scope = yield* Scope.fork(yield* Effect.scope)
      yield* Layer.buildWithScope(layer, scope)
      return { stop: kit.passing(Scope.close(scope, Exit.void), "the closing of an agent") }
    })

  kit.test("2. an agent runs its subscriptions, with the services that their handlers need", () =>
    Effect.gen(function* () {
      const first = kit.topic()
      const second = kit.topic()
      const charged: Array<string> = []
      const charge = ({ data }: { readonly data: string }) =>
        Effect.flatMap(Payments, (payments) => payments.charge(data))
      const agent = Agent.layer("shop", [
        Subscription.make("a", first, charge),
        Subscription.make("b", first, charge),
        Subscription.make("a", second, charge)
      ])
      const payments = Layer.succeed(Payments, { charge: (what) => Effect.sync(() => void charged.push(what)) })
      yield* Layer.build(Layer.provide(agent, payments))
      yield* Topic.publish(first, "1")
      yield* Topic.publish(second, "2")
      yield* kit.eventually(
        "all three have charged",
        Effect.sync(() => charged.length === 3)
      )
      assert.deepStrictEqual(charged.toSorted(), ["1", "1", "2"])
    })
  )

  kit.test("2. an agent starts wholly or not at all: one refused subscription leaves no other behind", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const seen = yield* probe()
      const good = Subscription.make("good", topic, seen.handler())
      const bad = Subscription.make("bad", topic, seen.handler(), { concurrency: 0 })
      const exit = yield* Effect.exit(Effect.scoped(Layer.build(Agent.layer("shop", [good, bad, good]))))
      assert.include(failureText(exit), "concurrency")
      const gone = yield* Effect.exit(Subscription.awaitIdle(good))
      assert.include(failureText(gone), "no subscription", "the group of the good one is gone")
      yield* Topic.publish(topic, "x")
      yield* kit.pass(2)
      assert.strictEqual(seen.calls.length, 0)
      yield* kit.open(good)
      yield* Topic.publish(topic, "y")
      assert.strictEqual((yield* kit.next(seen)).data, "y")
    })
  )

  kit.test("2. one subscription twice in an agent is refused", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const one = Subscription.make("s", topic, () => Effect.void)
      const exit = yield* Effect.exit(Effect.scoped(Layer.build(Agent.layer("shop", [one, one]))))
      assert.include(failureText(exit), "already running")
      yield* kit.open(one)
    })
  )

  kit.test("2. no fetch begins before every group of the agent exists", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const order: Array<Faults.Operation> = []
      const watching = Faults.wrap(yield* Transport, (step, call) =>
        Effect.suspend(() => {
          if (step.operation === "join") return Effect.tap(call, () => Effect.sync(() => order.push("join")))
          if (step.operation === "fetch") order.push("fetch")
          return call
        })
      )
      const subscriptions = range(8).map((i) => Subscription.make(`s${i}`, topic, () => Effect.void))
      yield* Layer.build(Agent.layer("shop", subscriptions)).pipe(Effect.provideService(Transport, watching))
      yield* Topic.publish(topic, "x")
      for (const one of subscriptions) yield* kit.idle(one)
      assert.deepStrictEqual(
        order.slice(0, 8),
        range(8).map(() => "join")
      )
      assert.include(order, "fetch")
    })
  )

  kit.test("2. two agents share one transport, start and stop in any order, repeatedly: nothing is orphaned", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const a = yield* probe()
      const b = yield* probe()
      const agentA = Agent.layer("a", [Subscription.make("a", topic, a.handler(), { from: "beginning" })])
      const agentB = Agent.layer("b", [Subscription.make("b", topic, b.handler(), { from: "beginning" })])
      const fibers = yield* Fibers.observe
      const before = fibers.live()
      const all: Array<string> = []
      for (const [round, aFirst] of [true, false, true, false, true].entries()) {
        const one = yield* start(agentA).pipe(fibers.observing)
        const two = yield* start(agentB).pipe(fibers.observing)
        const data = texts(5).map((one) => `${round}:${one}`)
        all.push(...data)
        yield* Topic.publishAll(topic, data)
        yield* kit.take(a, 5)
        yield* kit.take(b, 5)
        yield* kit.idle(Subscription.address("a", topic))
        yield* kit.idle(Subscription.address("b", topic))
        yield* aFirst ? Effect.andThen(one.stop, two.stop) : Effect.andThen(two.stop, one.stop)
      }
      assertEachOnce(a.data(), all)
      assertEachOnce(b.data(), all)
      yield* kit.eventually(
        "no fiber of a closed agent lives",
        Effect.sync(() => fibers.live() <= before)
      )
      assert.isAbove(fibers.seen(), 10)
    })
  )

  kit.test("2. Agent.run runs until it is interrupted, and leaves nothing running", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const seen = yield* probe()
      const subscription = Subscription.make("s", topic, seen.handler(), { from: "beginning" })
      const fiber = yield* Effect.forkChild(Agent.run("shop", [subscription]))
      yield* Topic.publish(topic, "x")
      yield* kit.next(seen)
      yield* kit.idle(subscription)
      assert.isUndefined(fiber.pollUnsafe())
      fiber.interruptUnsafe()
      yield* kit.eventually(
        "it has ended",
        Effect.sync(() => fiber.pollUnsafe() !== undefined)
      )
      yield* Topic.publish(topic, "y")
      yield* kit.pass(3)
      assert.strictEqual(seen.calls.length, 1)
    })
  )

  kit.test("2. a defect in the loop fails the handle's join and Agent.run: it never dies silently", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const buggy = Faults.wrap(yield* Transport, (step, call) =>
        step.operation === "fetch" ? Effect.die(new Error("a bug in the backend")) : call
      )
      const a = Subscription.make("a", topic, () => Effect.void)
      const { handle } = yield* kit.open(a).pipe(Effect.provideService(Transport, buggy))
      const joined = yield* kit.passing(Effect.flip(handle.join))
      assert.strictEqual(joined._tag, "SubscriptionFailed")
      assert.include(joined.message, "a bug in the backend")
      const run = Agent.run("shop", [Subscription.make("b", topic, () => Effect.void)])
      const exit = yield* kit.passing(Effect.exit(run.pipe(Effect.provideService(Transport, buggy))))
      assert.isTrue(Exit.isFailure(exit) && Cause.hasFails(exit.cause))
      assert.include(failureText(exit), "a bug in the backend")
    })
  )

  kit.test("2. a hundred subscriptions in one agent run side by side", () =>
    Effect.gen(function* () {
      const topics = range(10).map(() => kit.topic())
      const seen = yield* probe()
      const subscriptions = topics.flatMap((topic) =>
        range(10).map((i) => Subscription.make(`s${i}`, topic, seen.handler()))
      )
      yield* Layer.build(Agent.layer("large", subscriptions))
      for (const topic of topics) yield* Topic.publishAll(topic, texts(3))
      yield* kit.take(seen, 300)
      for (const one of subscriptions) yield* kit.idle(one)
      assertEachOnce(
        seen.calls.map((call) => `${call.stream} ${call.group} ${call.data}`),
        [...new Set(seen.calls.map((call) => `${call.stream} ${call.group} ${call.data}`))]
      )
      assert.strictEqual(seen.calls.length, 300)
    })
  )
}
