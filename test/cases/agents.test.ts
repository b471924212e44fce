/**
 * Everything a subscription owns lives in one Scope: two agents over one transport Layer come and go in any order, and
 * nothing of them stays behind.
 */
import { Agent, Subscription, Topic } from "@clutch/core"
import { RedisTransport } from "@clutch/redis"
import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import {
  type Admin,
  as,
  clients,
  connectionsOf,
  eachOnce,
  fibers,
  fresh,
  keysOf,
  recorder,
  shared,
  test,
  texts,
  unlike,
  until,
  worker,
  xinfo
} from "./kit.ts"

/** Sockets that this process holds open. */
const sockets = () => process.getActiveResourcesInfo().filter((name) => name === "TCPSocketWrap").length

type Step = readonly ["start" | "stop", "a" | "b"]
const orders: ReadonlyArray<ReadonlyArray<Step>> = [
  [
    ["start", "a"],
    ["start", "b"],
    ["stop", "a"],
    ["stop", "b"]
  ],
  [
    ["start", "a"],
    ["start", "b"],
    ["stop", "b"],
    ["stop", "a"]
  ],
  [
    ["start", "b"],
    ["start", "a"],
    ["stop", "a"],
    ["stop", "b"]
  ],
  [
    ["start", "a"],
    ["stop", "a"],
    ["start", "b"],
    ["stop", "b"]
  ],
  [
    ["start", "b"],
    ["start", "a"],
    ["stop", "b"],
    ["start", "b"],
    ["stop", "a"],
    ["start", "a"],
    ["stop", "b"],
    ["stop", "a"]
  ]
]

/** How many of a transport's connections wait for the bell: one fetch loop has one. */
const bells = async (redis: Admin, name: string) =>
  (await clients(redis, name)).filter(({ sub }) => Number(sub) > 0).length

describe("two agents on one transport", () => {
  test("2. they start and stop in any order, repeatedly: no second fetch loop, no orphan fiber, no open socket left", () =>
    Effect.gen(function* () {
      const { namespace, options, redis } = yield* shared
      const name = fresh("agents")
      const before = sockets()
      const transportScope = yield* Scope.make()
      const run = as(
        yield* Effect.orDie(
          Layer.buildWithScope(RedisTransport.layer({ ...options, connectionName: name }), transportScope)
        )
      )
      const topic = texts()
      const calls = { a: recorder(), b: recorder() }
      const subscriptions = {
        a: Subscription.make("billing", topic, calls.a.handler()),
        b: Subscription.make("shipping", topic, calls.b.handler())
      }
      const seen = fibers()
      const expected: { readonly a: Array<string>; readonly b: Array<string> } = { a: [], b: [] }
      const running = new Map<"a" | "b", Scope.Closeable>()
      let alone: number | undefined
      for (const [round, steps] of [...orders, ...orders].entries()) {
        for (const [at, [what, which]] of steps.entries()) {
          if (what === "start") {
            const scope = yield* Scope.make()
            const agent = Agent.layer(which, [subscriptions[which]])
            yield* Layer.buildWithScope(Layer.fresh(agent), scope).pipe(run, seen.observing)
            running.set(which, scope)
          } else {
            yield* Scope.close(running.get(which) ?? (yield* Scope.make()), Exit.void)
            running.delete(which)
          }
          // groups that exist get what is published while their agent is away; before their first start they begin later
          const data = `${round}.${at}`
          yield* run(Topic.publish(topic, data))
          for (const one of ["a", "b"] as const) {
            const existed = expected[one].length > 0 || running.has(one)
            if (existed) expected[one].push(data)
            if (running.has(one)) {
              yield* until(`${one} has handled ${data}`, () => calls[one].data().includes(data))
              yield* run(Subscription.awaitIdle(subscriptions[one]))
            }
          }
          // one agent alone has as many fibers each time, two have twice as many
          const live = () => seen.live()
          if (running.size === 0) yield* until("no fiber is left of either", () => live() === 0)
          else {
            alone ??= live()
            const goal = alone * running.size
            yield* until(`${running.size} agents have ${goal} fibers, not ${live()}`, () => live() === goal, 5000)
            yield* until("one connection waits for bells", async () => (await bells(redis, name)) === 1)
          }
          assert.isAtMost((yield* Effect.promise(() => clients(redis, name))).length, connectionsOf(redis))
        }
      }
      assert.isAbove(seen.started(), 20)
      // what was published while an agent was away is there for the next one
      const rest = [subscriptions.a, subscriptions.b]
      yield* Effect.scoped(
        run(
          Effect.gen(function* () {
            for (const one of rest) yield* Subscription.subscribe(one)
            for (const one of rest) yield* Subscription.awaitIdle(one)
          })
        )
      )
      assert.deepStrictEqual(unlike(calls.a.data(), expected.a), eachOnce, "a")
      assert.deepStrictEqual(unlike(calls.b.data(), expected.b), eachOnce, "b")
      const main = `${namespace}.{${topic.topic}}`
      for (const group of ["billing", "shipping"]) {
        assert.deepStrictEqual(
          yield* Effect.promise(() => xinfo(redis, "CONSUMERS", main, group)),
          [],
          `${group}: a consumer`
        )
      }
      yield* Scope.close(transportScope, Exit.void)
      yield* until("no connection is left at the server", async () => (await clients(redis, name)).length === 0)
      yield* until("no socket is left in the process", () => sockets() <= before)
    }))

  test("2. two layers of equal options are two clients, each closed by its own scope, and share no consumer name", () =>
    Effect.gen(function* () {
      const { namespace, options, redis } = yield* shared
      const name = fresh("pair")
      const topic = texts()
      const seen = recorder()
      const open = Effect.gen(function* () {
        const scope = yield* Scope.make()
        const run = as(yield* Scope.provide(worker({ ...options, connectionName: name }), scope))
        yield* Scope.provide(run(Subscription.subscribe(Subscription.make("billing", topic, seen.handler()))), scope)
        return { scope, run }
      })
      const first = yield* open
      const second = yield* open
      assert.lengthOf(yield* Effect.promise(() => clients(redis, name)), 2 * connectionsOf(redis))
      const consumers = yield* Effect.promise(() =>
        xinfo(redis, "CONSUMERS", `${namespace}.{${topic.topic}}`, "billing")
      )
      assert.strictEqual(new Set(consumers.map(({ name }) => name)).size, 2)
      yield* Scope.close(first.scope, Exit.void)
      yield* until(
        "the first one's connections are closed",
        async () => (await clients(redis, name)).length === connectionsOf(redis)
      )
      yield* second.run(Topic.publish(topic, "x"))
      yield* until("the second goes on", () => seen.data().includes("x"))
      yield* Scope.close(second.scope, Exit.void)
      yield* until("all are closed", async () => (await clients(redis, name)).length === 0)
    }))

  test("2. a subscription opened and closed fifty times leaves neither fiber, connection, consumer nor key behind", () =>
    Effect.gen(function* () {
      const { namespace, options, redis } = yield* shared
      const name = fresh("churn")
      const run = as(yield* worker({ ...options, connectionName: name }))
      const topic = texts()
      const seen = recorder()
      const subscription = Subscription.make("billing", topic, seen.handler(), { ownConnection: true })
      const observer = fibers()
      const once = Effect.scoped(Subscription.subscribe(subscription)).pipe(run, observer.observing)
      yield* once
      const keys = yield* Effect.promise(() => keysOf(redis, namespace))
      for (let i = 0; i < 50; i++) {
        yield* once
        assert.strictEqual(observer.live(), 0, `round ${i}`)
      }
      assert.deepStrictEqual(yield* Effect.promise(() => keysOf(redis, namespace)), keys)
      assert.deepStrictEqual(
        yield* Effect.promise(() => xinfo(redis, "CONSUMERS", `${namespace}.{${topic.topic}}`, "billing")),
        []
      )
      assert.deepStrictEqual(yield* Effect.promise(() => redis.hkeys(`${namespace}.{${topic.topic}}.billing.state`)), [
        "position"
      ])
      yield* until(
        "its own connections are closed",
        async () => (await clients(redis, name)).length <= connectionsOf(redis)
      )
    }))
})
