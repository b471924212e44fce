/**
 * Subscribing that fails, dies or is interrupted at any step leaves nothing behind, at once.
 */
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import { Reclaimer, Subscription, Topic, Transport, type TransportError } from "../index.ts"
import { texts } from "./Collect.ts"
import * as Faults from "./Faults.ts"
import * as Fibers from "./Fibers.ts"
import { type Category, failureText, probe } from "./Kit.ts"
import { fetch, group, join } from "./Workers.ts"

/** What subscribing calls before it has succeeded. Fetching comes after, and tending is the reclaimer's own affair. */
const steps: ReadonlySet<Faults.Operation> = new Set(["partitions", "join", "watch"])

export const rollback: Category = (kit) => {
  /** A Transport whose `k`-th step of subscribing goes wrong, before or after it is done; it also counts its watches. */
  const breaking = (k: number, kind: Faults.Kind | "hangs", when: "before" | "after") =>
    Effect.gen(function* () {
      const inner = yield* Transport
      let at = 0
      let hit = false
      let watches = 0
      const inject: Faults.Injector = <A, E, R>(step: Faults.Step, call: Effect.Effect<A, E, R>) =>
        Effect.suspend((): Effect.Effect<A, E | TransportError, R> => {
          if (!steps.has(step.operation) || ++at !== k) return call
          hit = true
          const fault = kind === "hangs" ? Effect.interruptible(Effect.never) : Faults.fault(kind, step.operation)
          return when === "before" ? fault : Effect.andThen(call, fault)
        })
      const counting = {
        ...inner,
        watch: (log: Parameters<typeof inner.watch>[0], changed: () => void) =>
          Effect.tap(inner.watch(log, changed), () => {
            watches++
            return Effect.addFinalizer(() =>
              Effect.sync(() => {
                watches--
              })
            )
          })
      }
      const transport = Layer.succeed(Transport, Faults.wrap(counting, inject))
      // a reclaimer over it, too: registering with it is a step
      const layer = Layer.provideMerge(Layer.fresh(Reclaimer.layer), transport)
      return { services: yield* Layer.build(layer), hit: () => hit, watches: () => watches }
    })

  for (const kind of ["fails", "dies", "is interrupted", "hangs"] as const) {
    for (const when of ["before", "after"] as const) {
      if (kind === "hangs" && when === "after") continue
      const what = kind === "hangs" ? "hangs until its caller is interrupted" : `${kind} ${when} it is done`
      kit.test(`2. a Transport that ${what} at its k-th call, for every k: nothing remains, a second try works`, () =>
        Effect.gen(function* () {
          const transport = yield* Transport
          for (let k = 1; ; k++) {
            assert.isBelow(k, 30, "subscribing never succeeds")
            const topic = kit.topic()
            const seen = yield* probe()
            const subscription = Subscription.make("s", topic, seen.handler())
            const broken = yield* breaking(k, kind, when)
            const fibers = yield* Fibers.observe
            // the caller's scope stays open: rolling back must not wait for it
            const scope = yield* Scope.fork(yield* Effect.scope)
            const attempt = Subscription.subscribe(subscription).pipe(
              Scope.provide(scope),
              Effect.provide(broken.services),
              fibers.observing
            )
            const exit = yield* kind === "hangs"
              ? Effect.gen(function* () {
                  const fiber = yield* Effect.forkChild(attempt, { startImmediately: true })
                  yield* kit.eventually(
                    "it hangs or has subscribed",
                    Effect.sync(() => broken.hit() || fiber.pollUnsafe() !== undefined)
                  )
                  if (broken.hit()) yield* kit.passing(Fiber.interrupt(fiber))
                  return yield* kit.passing(Effect.exit(Fiber.join(fiber)))
                })
              : kit.passing(Effect.exit(attempt))
            if (Exit.isSuccess(exit)) {
              yield* kit.passing(Scope.close(scope, Exit.void))
              assert.isAbove(k, 2, "joining and registering are steps")
              return
            }
            const at = `call ${k}`
            assert.isTrue(broken.hit(), `${at}: ${failureText(exit)}`)
            yield* kit.eventually(
              `${at}: no fiber lives`,
              Effect.sync(() => fibers.live() === 0)
            )
            assert.strictEqual(broken.watches(), 0, `${at}: a watch remains`)
            const outstanding = yield* Effect.exit(Subscription.awaitIdle(subscription))
            assert.include(failureText(outstanding), "no subscription", `${at}: the group remains`)
            if (kit.options.keys !== undefined) {
              const keys = yield* kit.options.keys(topic.topic)
              assert.deepStrictEqual(keys, [], `${at}: keys remain`)
            }
            const { pending } = yield* transport.inspect(group(topic, "s"))
            assert.strictEqual(pending, 0)
            const second = yield* kit.open(subscription)
            yield* Topic.publish(topic, "x")
            yield* kit.next(seen)
            yield* kit.idle(subscription)
            assert.deepStrictEqual(seen.data(), ["x"], `${at}: the second try`)
            yield* second.close
            yield* Scope.close(scope, Exit.void)
          }
        })
      )
    }
  }

  kit.test("2. rolling back leaves a group alone that another worker has begun to use", () =>
    Effect.gen(function* () {
      for (let k = 1; k < 30; k++) {
        const topic = kit.topic()
        const transport = yield* Transport
        yield* Topic.publishAll(topic, texts(3))
        const other = yield* join(kit, topic, "s", { consumer: "other", visibility: kit.ticks(10_000) })
        const entries = yield* fetch(kit, other, 2)
        const broken = yield* breaking(k, "fails", "after")
        const scope = yield* Scope.fork(yield* Effect.scope)
        const exit = yield* kit.passing(
          Effect.exit(
            Subscription.subscribe(Subscription.make("s", topic, () => Effect.never, { drainTimeout: 0 })).pipe(
              Scope.provide(scope),
              Effect.provide(broken.services)
            )
          )
        )
        if (Exit.isSuccess(exit)) return yield* kit.passing(Scope.close(scope, Exit.void))
        assert.strictEqual((yield* transport.inspect(group(topic, "s"))).pending, 2, `call ${k}`)
        for (const entry of entries) {
          assert.deepStrictEqual(yield* other.settle([{ entry, outcome: { _tag: "Ack" }, repeated: false }]), ["done"])
        }
        const [rest] = yield* fetch(kit, other, 1)
        assert.strictEqual(rest?.attempt, 1)
        yield* Scope.close(scope, Exit.void)
      }
      assert.fail("subscribing never succeeds")
    })
  )

  kit.test("2. joining that is not kept is undone when its scope closes", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const transport = yield* Transport
      yield* Effect.scoped(
        transport.join({
          group: group(topic, "s"),
          consumer: undefined,
          visibilityTimeout: kit.lease,
          from: "new",
          ownConnection: false
        })
      )
      const exit = yield* Effect.exit(Subscription.awaitIdle(Subscription.address("s", topic)))
      assert.include(failureText(exit), "no subscription")
    })
  )
}
