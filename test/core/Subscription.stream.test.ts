import type { Delivered } from "@clutch/core/Delivery"
import * as MemoryTransport from "@clutch/core/MemoryTransport"
import * as Subscription from "@clutch/core/Subscription"
import * as Topic from "@clutch/core/Topic"
import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Queue from "effect/Queue"
import * as Stream from "effect/Stream"
import {
  errorOf,
  given,
  layerWith,
  pass,
  passing,
  probe,
  run,
  settled,
  Texts,
  unavailable,
  withConsumers
} from "./support.ts"

const address = Subscription.address("s", Texts)

/** Runs a stream in the background; what it brings is taken from the queue. */
const running = Effect.fnUntraced(function* (options?: Parameters<typeof Subscription.stream>[2]) {
  const queue = yield* Queue.unbounded<Delivered<string>>()
  const stream = Subscription.stream("s", Texts, options)
  const fiber = yield* Effect.forkChild(Stream.runForEach(stream, (delivery) => Queue.offer(queue, delivery)))
  yield* settled
  return { next: Queue.take(queue), size: Queue.size(queue), fiber }
})

const groupNow = Effect.map(MemoryTransport.snapshot, ({ logs }) => logs[0]?.groups[0] ?? assert.fail("no group"))

describe("Subscription: streams", () => {
  it.effect(
    "deliveries settle in any order, each by whoever took it",
    given(function* () {
      const { next } = yield* running()
      yield* Topic.publishAll(Texts, ["a", "b", "c"])
      const [a, b, c] = [yield* next, yield* next, yield* next]
      assert.deepStrictEqual(
        [a, b, c].map(({ attempt, message }) => [message.data, attempt]),
        [
          ["a", 1],
          ["b", 1],
          ["c", 1]
        ]
      )
      yield* c.ack
      yield* a.deadLetter("no")
      const { deadLetters, pending } = yield* Subscription.stats(address)
      assert.deepStrictEqual([pending, deadLetters], [1, 1])
      yield* b.retry({ after: "1 hour" })
      yield* pass("1 hour")
      const again = yield* next
      assert.deepStrictEqual([again.message.data, again.attempt], ["b", 2])
      yield* again.ack
      yield* Subscription.awaitIdle(address)
    })
  )

  it.effect(
    "11. no more than prefetch (default 16) are out at once; settling one lets the next come",
    given(function* () {
      const { next, size } = yield* running()
      yield* Topic.publishAll(
        Texts,
        Array.from({ length: 40 }, (_, i) => `m${i}`)
      )
      yield* settled
      assert.strictEqual(yield* size, 16)
      const first = yield* next
      yield* settled
      assert.strictEqual(yield* size, 15)
      yield* first.ack
      yield* settled
      assert.strictEqual(yield* size, 16)
    })
  )

  it.effect(
    "11. prefetch 3 is three",
    given(function* () {
      const { size } = yield* running({ prefetch: 3 })
      yield* Topic.publishAll(
        Texts,
        Array.from({ length: 10 }, (_, i) => `m${i}`)
      )
      yield* settled
      assert.strictEqual(yield* size, 3)
      assert.strictEqual((yield* groupNow).pending, 3)
    })
  )

  it.effect(
    "7. what was taken keeps its lease for as long as it is unsettled",
    given(function* () {
      const seen = yield* probe()
      const { next } = yield* running({ visibilityTimeout: "10 seconds" })
      yield* Topic.publish(Texts, "x")
      const delivery = yield* next
      yield* Subscription.subscribe(Subscription.make("s", Texts, seen.handler(), { consumer: "other" }))
      yield* pass("30 minutes")
      yield* delivery.ack
      yield* Subscription.awaitIdle(address)
      assert.deepStrictEqual(seen.calls, [])
    })
  )

  it.effect(
    "when the stream ends, what was taken and is unsettled is released at no cost of an attempt",
    given(function* () {
      const { fiber, next } = yield* running()
      yield* Topic.publishAll(Texts, ["a", "b"])
      yield* (yield* next).ack
      const open = yield* next
      yield* Fiber.interrupt(fiber)
      const { consumers, pending, released } = yield* groupNow
      assert.deepStrictEqual([consumers, pending, released], [[], 1, 1])
      const late = yield* Effect.flip(open.ack)
      assert.strictEqual(late.reason._tag, "AlreadySettled")
      const again = yield* (yield* running()).next
      assert.deepStrictEqual([again.message.data, again.attempt], ["b", 1])
    })
  )

  it.effect(
    "a stream that takes what it wants leaves the group, and can be run again",
    given(function* () {
      const two = Subscription.stream("s", Texts, { from: "beginning" }).pipe(
        Stream.tap(({ ack }) => ack),
        Stream.map(({ message }) => message.data),
        Stream.take(2),
        Stream.runCollect
      )
      yield* Topic.publishAll(Texts, ["a", "b", "c", "d"])
      assert.deepStrictEqual([...(yield* two)], ["a", "b"])
      assert.deepStrictEqual((yield* groupNow).consumers, [])
      assert.deepStrictEqual([...(yield* two)], ["c", "d"])
      yield* Subscription.awaitIdle(address)
    })
  )

  it.effect.each([
    ["concurrency", { concurrency: 0 }],
    ["prefetch", { prefetch: 0 }],
    ["retry.factor", { retry: { factor: 0 } }]
  ] as const)("an option that makes no sense fails the stream, naming it: %s", ([option, options]) =>
    given(function* () {
      const exit = yield* Effect.exit(Stream.runDrain(Subscription.stream("s", Texts, options)))
      const error = errorOf(exit)
      assert.include(String(error), `option "${option}"`)
      assert.deepStrictEqual((yield* MemoryTransport.snapshot).keys, [])
    })()
  )

  it.effect(
    "a second stream of the same name on one Transport is refused",
    given(function* () {
      yield* running()
      const error = yield* Effect.flip(Stream.runDrain(Subscription.stream("s", Texts)))
      assert.isTrue(error._tag === "SubscribeError" && error.reason._tag === "DuplicateSubscription")
    })
  )

  it.effect("a loop that dies is a defect of the stream, not its quiet end", () => {
    const layer = layerWith(withConsumers(() => ({ fetch: () => Effect.die(new Error("bug")) })))
    return run(layer, function* () {
      const exit = yield* Effect.exit(Stream.runDrain(Subscription.stream("s", Texts)))
      assert.isTrue(Exit.isFailure(exit) && Cause.hasDies(exit.cause))
      assert.include(String(errorOf(exit)), "died")
    })
  })

  it.effect("what is settled while the log is down is told Unavailable when the stream ends", () => {
    let down = false
    const layer = layerWith(
      withConsumers(({ settle }) => ({
        settle: (settlements) => (down ? Effect.fail(unavailable("settle")) : settle(settlements))
      }))
    )
    return run(layer, function* () {
      const { fiber, next } = yield* running()
      yield* Topic.publish(Texts, "x")
      const delivery = yield* next
      down = true
      const settling = yield* Effect.forkChild(Effect.flip(delivery.ack))
      yield* pass("1 minute")
      assert.isUndefined(settling.pollUnsafe())
      yield* Fiber.interrupt(fiber)
      const error = yield* Fiber.join(settling)
      assert.strictEqual(error.reason._tag, "Unavailable")
      assert.include(error.message, "the log is down")
    })
  })

  it.effect(
    "4. retries of a stream are counted by its policy, and end in a dead letter",
    given(function* () {
      const { next } = yield* running({ retry: { maxRetries: 1, base: "1 second" } })
      yield* Topic.publish(Texts, "x")
      yield* (yield* next).retry()
      yield* pass("2 seconds")
      const second = yield* next
      assert.strictEqual(second.attempt, 2)
      yield* second.retry()
      yield* passing("1 second")(Subscription.awaitIdle(address))
      assert.strictEqual((yield* Subscription.stats(address)).deadLetters, 1)
    })
  )
})
