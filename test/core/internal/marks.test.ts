/** Marks: what a worker's death need not cost its prefetched deliveries. */
import type { NonEmptyArray } from "effect/Array"
import * as Subscription from "@clutch/core/Subscription"
import * as Topic from "@clutch/core/Topic"
import type { Consumer } from "@clutch/core/Transport"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import * as Option from "effect/Option"
import { layerWith, open, pass, probe, run, settled, Texts, unavailable, withConsumers } from "../support.ts"
import { compareIds } from "../../../packages/core/src/internal/ids.ts"

type Mark = Parameters<Consumer["mark"]>

/** A log whose marks are recorded, and may fail. */
const marking = (
  make: (nth: number, mark: ReturnType<Consumer["mark"]>) => ReturnType<Consumer["mark"]> = (_, mark) => mark
) => {
  const marks: Array<Mark> = []
  /** What the log says now: nothing behind it has started; undefined where anything may. */
  const says: Record<string, string | undefined> = {}
  const layer = layerWith(
    withConsumers(({ mark }) => ({
      mark: (origin, id) =>
        Effect.suspend(() => {
          marks.push([origin, id])
          return Effect.tap(make(marks.length, mark(origin, id)), () => Effect.sync(() => void (says[origin] = id)))
        })
    }))
  )
  return { marks, says, layer }
}

const texts = (count: number): NonEmptyArray<string> => [
  "m0",
  ...Array.from({ length: count - 1 }, (_, i) => `m${i + 1}`)
]

describe("marks", () => {
  it.effect("handlers that keep up leave none waiting: nothing is written", () => {
    const { layer, marks } = marking()
    return run(layer, function* () {
      const subscription = Subscription.make("s", Texts, () => Effect.void)
      yield* open(subscription)
      for (let i = 0; i < 50; i++) {
        yield* Topic.publishAll(Texts, texts(10))
        yield* Subscription.awaitIdle(subscription)
        yield* pass("100 millis")
      }
      assert.deepStrictEqual(marks, [])
    })
  })

  it.effect(
    "7. what has waited for a while is marked; a handler behind the mark starts only after the mark was moved",
    () => {
      // a mark that takes a while, so that what does not wait for it is seen
      const { layer, marks, says } = marking((_, mark) => Effect.andThen(Effect.sleep("100 millis"), mark))
      return run(layer, function* () {
        const gates = yield* Effect.forEach(texts(6), () => Latch.make())
        const seen = yield* probe()
        const dangerous: Array<string> = []
        const handler = seen.handler(({ data, delivery }) => {
          const limit = says["main"]
          // the log would give this delivery back without counting it
          if (limit !== undefined && compareIds(delivery.messageId, limit) > 0) dangerous.push(data)
          return gates[Number(data.slice(1))]?.await ?? Effect.void
        })
        const subscription = Subscription.make("s", Texts, handler, { prefetch: 10 })
        yield* open(subscription)
        yield* Topic.publishAll(Texts, texts(6))
        yield* seen.next
        assert.deepStrictEqual(marks, [])
        yield* pass("1 second")
        assert.deepStrictEqual(marks, [["main", seen.calls[0]?.delivery.messageId]])
        for (const gate of gates) {
          yield* gate.open
          yield* pass("1 second")
        }
        yield* Subscription.awaitIdle(subscription)
        assert.deepStrictEqual(seen.data(), texts(6))
        assert.deepStrictEqual(dangerous, [])
        // when nothing waits any more, the log says that anything may have started
        yield* settled
        assert.deepStrictEqual(marks.at(-1), ["main", undefined])
      })
    }
  )

  it.effect("7. handlers that become quick are not held to a mark a message", () => {
    const { layer, marks } = marking()
    return run(layer, function* () {
      const gate = yield* Latch.make()
      const seen = yield* probe()
      const subscription = Subscription.make(
        "s",
        Texts,
        seen.handler(() => gate.await),
        { prefetch: 1000 }
      )
      yield* open(subscription)
      yield* Topic.publishAll(Texts, texts(1000))
      yield* pass("1 second")
      yield* gate.open
      yield* Subscription.awaitIdle(subscription)
      assert.strictEqual(seen.calls.length, 1000)
      assert.isAtMost(marks.length, 20)
    })
  })

  it.effect("a mark that cannot be written holds handlers behind it back, and is tried again with backoff", () => {
    let down = false
    const { layer, marks } = marking((_, mark) => (down ? Effect.fail(unavailable("mark")) : mark))
    return run(layer, function* () {
      const gate = yield* Latch.make()
      const seen = yield* probe()
      const subscription = Subscription.make(
        "s",
        Texts,
        seen.handler(() => gate.await),
        { prefetch: 10, visibilityTimeout: "5 minutes" }
      )
      const { handle } = yield* open(subscription)
      yield* Topic.publishAll(Texts, texts(5))
      yield* pass("1 second")
      down = true
      yield* gate.open
      yield* pass("20 seconds")
      assert.deepStrictEqual(seen.data(), ["m0"])
      assert.strictEqual((yield* handle.stats).state, "unhealthy")
      assert.isAtMost(marks.length, 30)
      down = false
      yield* pass("2 seconds")
      yield* Subscription.awaitIdle(subscription)
      assert.deepStrictEqual(seen.data(), texts(5))
      assert.strictEqual((yield* handle.stats).state, "running")
    })
  })

  it.effect("the two logs have marks of their own", () => {
    const { layer, marks } = marking()
    return run(layer, function* () {
      const gate = yield* Latch.make()
      const seen = yield* probe()
      const handler = seen.handler(({ attempt }) => (attempt === 1 ? Effect.fail("no") : gate.await))
      const subscription = Subscription.make("s", Texts, handler, {
        prefetch: 10,
        retry: { base: "10 seconds", jitter: 0 }
      })
      yield* open(subscription)
      yield* Topic.publishAll(Texts, texts(3))
      yield* Subscription.awaitIdle(subscription, { due: "ignore" })
      yield* pass("12 seconds")
      assert.strictEqual(seen.calls.length, 4)
      assert.deepStrictEqual(marks, [["retry", seen.calls[3]?.delivery.messageId]])
      yield* gate.open
      yield* Subscription.awaitIdle(subscription)
      assert.strictEqual(seen.calls.length, 6)
    })
  })

  it.effect("a log that dies while marking fails the handle's join: no loop dies silently", () => {
    const { layer } = marking(() => Effect.die(new Error("a bug of the backend")))
    return run(layer, function* () {
      const { handle } = yield* open(Subscription.make("s", Texts, () => Effect.never, { prefetch: 10 }))
      yield* Topic.publishAll(Texts, texts(3))
      const joined = yield* Effect.forkChild(Effect.flip(handle.join))
      yield* pass("1 second")
      assert.isDefined(joined.pollUnsafe(), "join goes on as if nothing had happened")
      assert.include((yield* Fiber.join(joined)).message, "a bug of the backend")
      const { problem, state } = yield* handle.health
      assert.strictEqual(state, "unhealthy")
      assert.include(Option.getOrThrow(problem), "a bug of the backend")
    })
  })
})
