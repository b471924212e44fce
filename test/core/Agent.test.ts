import * as Agent from "@clutch/core/Agent"
import * as MemoryTransport from "@clutch/core/MemoryTransport"
import * as Subscription from "@clutch/core/Subscription"
import * as Topic from "@clutch/core/Topic"
import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Scheduler from "effect/Scheduler"
import * as Scope from "effect/Scope"
import { given, layerWith, Lines, pass, probe, run, settled, Texts, unavailable, withConsumers } from "./support.ts"

/** Counts fibers by an observer installed when a fiber first runs, whoever forked it. */
const observing = Effect.gen(function* () {
  const inner = yield* Scheduler.Scheduler
  const known = new WeakSet<object>()
  const live = new Set<object>()
  let seen = 0
  yield* Effect.withFiber((fiber) => Effect.sync(() => void known.add(fiber)))
  const scheduler: Scheduler.Scheduler = {
    executionMode: inner.executionMode,
    makeDispatcher: () => inner.makeDispatcher(),
    shouldYield: (fiber) => {
      if (!known.has(fiber)) {
        known.add(fiber)
        live.add(fiber)
        seen++
        fiber.addObserver(() => live.delete(fiber))
      }
      return inner.shouldYield(fiber)
    }
  }
  return {
    live: () => live.size,
    seen: () => seen,
    watch: <A, E, R>(self: Effect.Effect<A, E, R>) => Effect.provideService(self, Scheduler.Scheduler, scheduler)
  }
})

describe("Agent", () => {
  it.effect(
    "runs its subscriptions for the lifetime of a layer, and its name stands in their log lines",
    given(function* () {
      const a = yield* probe()
      const b = yield* probe()
      const scope = yield* Scope.make()
      const agent = Agent.layer("shop", [
        Subscription.make(
          "a",
          Texts,
          a.handler(() => Effect.logInfo("inside a"))
        ),
        Subscription.make(
          "b",
          Texts,
          b.handler(() => Effect.fail("no"))
        )
      ])
      yield* Layer.buildWithScope(agent, scope)
      yield* Topic.publish(Texts, "x")
      yield* a.next
      yield* b.next
      yield* settled
      yield* Scope.close(scope, Exit.void)
      yield* Topic.publish(Texts, "y")
      yield* pass("1 minute")
      assert.deepStrictEqual([a.data(), b.data()], [["x"], ["x"]])
      const lines = yield* Lines
      assert.deepStrictEqual([lines[0]?.text, lines[0]?.annotations["agent"]], ['agent "shop" runs: a, b', "shop"])
      for (const text of ["inside a", "the handler failed; the message will be tried again"]) {
        assert.strictEqual(lines.find((line) => line.text === text)?.annotations["agent"], "shop", text)
      }
    })
  )

  it.effect("no fetch begins before every group of it exists", () => {
    const joining = Deferred.makeUnsafe<void>()
    const mayJoin = Deferred.makeUnsafe<void>()
    const fetched: Array<string> = []
    const layer = layerWith((self) => ({
      ...self,
      join: (options) =>
        Effect.gen(function* () {
          const { subscription } = options.group
          if (subscription === "b") {
            yield* Deferred.succeed(joining, undefined)
            yield* Deferred.await(mayJoin)
          }
          const consumer = yield* self.join(options)
          const fetch: typeof consumer.fetch = (limit) => {
            fetched.push(subscription)
            return consumer.fetch(limit)
          }
          return { ...consumer, fetch }
        })
    }))
    return run(layer, function* () {
      const seen = yield* probe()
      const subscriptions = ["a", "b"].map((name) => Subscription.make(name, Texts, seen.handler()))
      yield* Effect.forkChild(
        Effect.scoped(Effect.andThen(Layer.build(Agent.layer("shop", subscriptions)), Effect.never))
      )
      yield* Deferred.await(joining)
      yield* Topic.publish(Texts, "early")
      yield* pass("1 minute")
      assert.deepStrictEqual(fetched, [])
      yield* Deferred.succeed(mayJoin, undefined)
      yield* settled
      assert.sameMembers([...new Set(fetched)], ["a", "b"])
      // "a" was on the log before, "b" is new after it
      assert.deepStrictEqual(seen.data(), ["early"])
    })
  })

  const bad = [
    [
      "an option that is refused",
      Subscription.make("bad", Texts, () => Effect.void, { concurrency: 0 }),
      "InvalidOption"
    ],
    ["a name that is refused", Subscription.make("b.dlq", Texts, () => Effect.void), "InvalidName"],
    ["a duplicate of one before it", Subscription.make("a", Texts, () => Effect.void), "DuplicateSubscription"]
  ] as const
  it.effect.each(bad)("starts all or none: with %s nothing of the others remains", ([, subscription, reason]) =>
    given(function* () {
      const seen = yield* probe()
      const before = yield* MemoryTransport.snapshot
      const good = Subscription.make("a", Texts, seen.handler())
      const error = yield* Effect.flip(Layer.build(Agent.layer("shop", [good, subscription])))
      assert.strictEqual(error.reason._tag, reason)
      assert.deepStrictEqual(yield* MemoryTransport.snapshot, before)
      // nothing of the attempt is in the way of the next
      yield* Layer.build(Agent.layer("shop", [good]))
      yield* Topic.publish(Texts, "x")
      yield* seen.next
    })()
  )

  it.effect("an attempt that is interrupted half way leaves nothing, though its scope lives on", () => {
    const joining = Deferred.makeUnsafe<void>()
    const layer = layerWith((self) => ({
      ...self,
      join: (options) =>
        options.group.subscription === "slow"
          ? Effect.andThen(Deferred.succeed(joining, undefined), Effect.never)
          : self.join(options)
    }))
    return run(layer, function* () {
      const before = yield* MemoryTransport.snapshot
      const names = ["a", "slow"].map((name) => Subscription.make(name, Texts, () => Effect.void))
      const scope = yield* Scope.make()
      const starting = yield* Effect.forkChild(Layer.buildWithScope(Agent.layer("shop", names), scope))
      yield* Deferred.await(joining)
      yield* Fiber.interrupt(starting)
      assert.deepStrictEqual(yield* MemoryTransport.snapshot, before)
    })
  })

  describe("run", () => {
    it.effect(
      "goes on until it is interrupted, then drains",
      given(function* () {
        const seen = yield* probe()
        const agent = yield* Effect.forkChild(Agent.run("shop", [Subscription.make("s", Texts, seen.handler())]))
        yield* settled
        yield* Topic.publish(Texts, "x")
        yield* seen.next
        yield* pass("3 hours")
        assert.isUndefined(agent.pollUnsafe())
        yield* Fiber.interrupt(agent)
        assert.deepStrictEqual((yield* MemoryTransport.snapshot).logs[0]?.groups[0]?.consumers, [])
      })
    )

    it.effect("fails when the loop of one dies, so that a process manager sees it; join of its handle too", () => {
      let dies = false
      const layer = layerWith(
        withConsumers((consumer) => ({
          fetch: (limit) =>
            Effect.suspend(() => (dies ? Effect.die(new Error("a bug of a backend")) : consumer.fetch(limit)))
        }))
      )
      return run(layer, function* () {
        const agent = yield* Effect.forkChild(
          Effect.flip(
            Agent.run("shop", [
              Subscription.make("a", Texts, () => Effect.void),
              Subscription.make("b", Texts, () => Effect.void)
            ])
          )
        )
        const { join } = yield* Subscription.subscribe(Subscription.make("c", Texts, () => Effect.void))
        const joined = yield* Effect.forkChild(Effect.flip(join))
        yield* settled
        assert.isUndefined(agent.pollUnsafe())
        assert.isUndefined(joined.pollUnsafe())
        dies = true
        yield* Topic.publish(Texts, "wakes the loops")
        const error = yield* Fiber.join(agent)
        assert.strictEqual(error._tag, "SubscriptionFailed")
        assert.include(error.message, 'the loop of subscription "a" on "texts" died: Error: a bug of a backend')
        assert.strictEqual((yield* Fiber.join(joined)).subscription, "c")
        yield* settled
        const fatal = (yield* Lines).filter(({ level }) => level === "Fatal")
        assert.includeMembers(
          fatal.map(({ annotations }) => annotations["subscription"]),
          ["a", "c"]
        )
      })
    })

    it.effect(
      "fails with what keeps one from starting",
      given(function* () {
        const error = yield* Effect.flip(
          Agent.run("shop", [Subscription.make("s", Texts, () => Effect.void, { concurrency: 0 })])
        )
        assert.strictEqual(error._tag, "SubscribeError")
      })
    )
  })

  it.effect("a Transport that dies while joining is a defect of the start, and leaves nothing", () => {
    let dies = true
    const layer = layerWith((self) => ({
      ...self,
      watch: (log, changed) => (dies ? Effect.die(new Error("bug")) : self.watch(log, changed))
    }))
    return run(layer, function* () {
      const before = yield* MemoryTransport.snapshot
      const agent = Agent.layer("shop", [Subscription.make("s", Texts, () => Effect.void)])
      const exit = yield* Effect.exit(Layer.build(Layer.fresh(agent)))
      assert.isTrue(Exit.isFailure(exit))
      assert.deepStrictEqual(yield* MemoryTransport.snapshot, before)
      dies = false
      yield* Layer.build(Layer.fresh(agent))
    })
  })

  it.effect("one that cannot be joined fails the agent with Unavailable, and the others are undone", () => {
    const layer = layerWith((self) => ({
      ...self,
      join: (options) => (options.group.subscription === "b" ? Effect.fail(unavailable("join")) : self.join(options))
    }))
    return run(layer, function* () {
      const before = yield* MemoryTransport.snapshot
      const names = ["a", "b", "c"].map((name) => Subscription.make(name, Texts, () => Effect.void))
      const error = yield* Effect.flip(Layer.build(Agent.layer("shop", names)))
      assert.deepStrictEqual([error.subscription, error.reason._tag], ["b", "Unavailable"])
      assert.deepStrictEqual(yield* MemoryTransport.snapshot, before)
    })
  })

  const orders = [
    ["ab", "in the order they started"],
    ["ba", "in the other order"]
  ] as const
  it.effect.each(orders)(
    "two agents share one Transport, start and stop repeatedly, %s %s: no fiber, no place is left",
    ([order]) =>
      Effect.gen(function* () {
        const fibers = yield* observing
        yield* fibers.watch(
          run(MemoryTransport.layer, function* () {
            const seen = { a: yield* probe(), b: yield* probe() }
            // retries, slow handlers and streams of their own on both topics
            const agentOf = (name: "a" | "b") =>
              Agent.layer(name, [
                Subscription.make(
                  `${name}1`,
                  Texts,
                  seen[name].handler(() => Effect.sleep("1 second"))
                ),
                Subscription.make(`${name}2`, Texts, ({ data }) => (data === "x0" ? Effect.fail("no") : Effect.void), {
                  retry: { maxRetries: 1, base: "1 second" }
                })
              ])
            yield* settled
            const baseline = fibers.live()
            const watchers = (yield* MemoryTransport.snapshot).watchers
            for (let round = 0; round < 5; round++) {
              const scopes = { a: yield* Scope.make(), b: yield* Scope.make() }
              yield* Layer.buildWithScope(Layer.fresh(agentOf("a")), scopes.a)
              yield* Layer.buildWithScope(Layer.fresh(agentOf("b")), scopes.b)
              yield* Topic.publish(Texts, `x${round}`)
              yield* pass("5 seconds")
              assert.isAbove(fibers.live(), baseline)
              for (const name of order === "ab" ? (["a", "b"] as const) : (["b", "a"] as const)) {
                yield* Scope.close(scopes[name], Exit.void)
              }
              // the reclaimer, which is the Transport's, may still wait for a time that nobody needs any more
              yield* settled
              assert.isAtMost(fibers.live(), baseline + 2, `round ${round}`)
              yield* pass("1 hour")
              assert.strictEqual(fibers.live(), baseline, `round ${round}`)
            }
            assert.deepStrictEqual(seen.a.data(), ["x0", "x1", "x2", "x3", "x4"])
            assert.deepStrictEqual(seen.b.data(), ["x0", "x1", "x2", "x3", "x4"])
            const { logs, watchers: left } = yield* MemoryTransport.snapshot
            assert.strictEqual(left, watchers)
            for (const { consumers } of logs[0]?.groups ?? []) assert.deepStrictEqual(consumers, [])
            assert.isAbove(fibers.seen(), 20)
          })
        )
        yield* settled
        assert.strictEqual(fibers.live(), 0)
      })
  )

  it.effect(
    "an agent without subscriptions starts, and has nothing to do",
    given(function* () {
      yield* Layer.build(Agent.layer("idle", []))
    })
  )
})
