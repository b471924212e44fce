/** Heartbeats: a living worker keeps what it holds, however long its handlers take. */
import * as Metrics from "@clutch/core/Metrics"
import type { Message } from "@clutch/core/Message"
import * as Subscription from "@clutch/core/Subscription"
import * as Topic from "@clutch/core/Topic"
import type { Owner } from "@clutch/core/Transport"
import { assert, describe, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import * as Metric from "effect/Metric"
import * as Schema from "effect/Schema"
import {
  given,
  layerWith,
  Lines,
  open,
  pass,
  probe,
  run,
  settled,
  Texts,
  unavailable,
  withConsumers,
  withOwners
} from "../support.ts"

const tags = {
  "messaging.system": "memory",
  "messaging.destination.name": "texts",
  "messaging.consumer.group.name": "s"
}
const counted = (metric: Metric.Counter<number>) =>
  Effect.map(Metric.value(Metric.withAttributes(metric, tags)), ({ count }) => count)

describe("leases", () => {
  it.effect(
    "7. a handler that takes hours keeps its lease, and is not run twice, with other workers waiting",
    given(function* () {
      const gate = yield* Latch.make()
      const slow = yield* probe()
      const other = yield* probe()
      yield* open(
        Subscription.make(
          "s",
          Texts,
          slow.handler(() => gate.await),
          { maxLease: "12 hours" }
        )
      )
      yield* Topic.publish(Texts, "x")
      yield* slow.next
      yield* open(Subscription.make("s", Texts, other.handler(), { consumer: "other" }))
      yield* pass("6 hours")
      assert.deepStrictEqual([slow.calls.length, other.calls.length], [1, 0])
      yield* gate.open
      yield* Subscription.awaitIdle(Subscription.address("s", Texts))
      assert.deepStrictEqual([slow.calls.length, other.calls.length], [1, 0])
      assert.strictEqual(yield* counted(Metrics.leasesLost), 0)
    })
  )

  it.effect.each([
    ["1 hour by default", {}, 3_600_000],
    ["2 minutes", { maxLease: "2 minutes" }, 120_000]
  ] as const)("7. maxLease ends it: %s; then another worker takes it, as a further attempt", ([, options, limit]) =>
    given(function* () {
      const hung = yield* probe()
      const other = yield* probe()
      yield* open(
        Subscription.make(
          "s",
          Texts,
          hung.handler(() => Effect.never),
          options
        )
      )
      yield* Topic.publish(Texts, "x")
      yield* hung.next
      yield* open(Subscription.make("s", Texts, other.handler(), { consumer: "other" }))
      yield* pass(limit - 1)
      assert.strictEqual(other.calls.length, 0)
      yield* pass("1 minute")
      const [call] = other.calls
      assert.strictEqual(call?.attempt, 2)
      // the last heartbeat before maxLease is at most a quarter of the visibility timeout old
      assert.isAtLeast(call?.at ?? 0, limit)
      assert.isAtMost(call?.at ?? 0, limit + 30_000)
    })()
  )

  it.effect("7. what waits for its key hangs nowhere: maxLease counts from when its handler begins", () => {
    const Keyed = Topic.make("keyed", { schema: Schema.String, key: () => "one" })
    return given(function* () {
      const seen = yield* probe()
      const options = { visibilityTimeout: "1 second", maxLease: "3 seconds", retry: { maxRetries: 0 } } as const
      const handler = seen.handler(() => Effect.sleep("700 millis"))
      yield* open(Subscription.make("s", Keyed, handler, options))
      yield* Topic.publishAll(Keyed, ["a", "b", "c", "d", "e", "f", "g", "h"])
      for (let tenths = 0; tenths < 100; tenths++) yield* pass("100 millis")
      assert.deepStrictEqual(seen.data(), ["a", "b", "c", "d", "e", "f", "g", "h"])
      assert.strictEqual((yield* Subscription.stats(Subscription.address("s", Keyed))).deadLetters, 0)
    })()
  })

  it.effect(
    "heartbeats come four times a visibility timeout, extend all that is held, and only while something is",
    () => {
      const beats: Array<readonly [number, number]> = []
      const layer = layerWith(
        withConsumers(({ extend }) => ({
          extend: (entries) =>
            Effect.flatMap(Clock.currentTimeMillis, (now) => {
              beats.push([now, entries.length])
              return extend(entries)
            })
        }))
      )
      return run(layer, function* () {
        const gate = yield* Latch.make()
        const subscription = Subscription.make("s", Texts, () => gate.await, {
          concurrency: 3,
          visibilityTimeout: "40 seconds"
        })
        yield* open(subscription)
        yield* pass("1 hour")
        assert.deepStrictEqual(beats, [])
        yield* Topic.publishAll(Texts, ["a", "b", "c"])
        yield* pass("20 seconds")
        assert.deepStrictEqual(beats, [
          [3_610_000, 3],
          [3_620_000, 3]
        ])
        yield* gate.open
        yield* Subscription.awaitIdle(subscription)
        yield* pass("1 hour")
        assert.strictEqual(beats.length, 2)
      })
    }
  )

  it.effect(
    "a subscription that holds nothing wakes for no heartbeat",
    given(function* () {
      let sleeps = 0
      const clock = yield* Clock.Clock
      const counting: Clock.Clock = {
        currentTimeMillis: clock.currentTimeMillis,
        currentTimeMillisUnsafe: () => clock.currentTimeMillisUnsafe(),
        currentTimeNanos: clock.currentTimeNanos,
        currentTimeNanosUnsafe: () => clock.currentTimeNanosUnsafe(),
        monotonicTimeNanos: clock.monotonicTimeNanos,
        monotonicTimeNanosUnsafe: () => clock.monotonicTimeNanosUnsafe(),
        sleep: (duration) => {
          sleeps++
          return clock.sleep(duration)
        }
      }
      const subscription = Subscription.make("s", Texts, () => Effect.void)
      yield* Effect.provideService(open(subscription), Clock.Clock, counting)
      yield* Topic.publish(Texts, "x")
      yield* Subscription.awaitIdle(subscription)
      // the beat that was begun while it was held is the last
      yield* pass("1 minute")
      const before = sleeps
      yield* pass("1 hour")
      assert.strictEqual(sleeps, before)
    })
  )

  it.effect("heartbeats that fail are one log line, and the lease is kept if they work again in time", () => {
    let down = false
    const layer = layerWith(
      withConsumers(({ extend }) => ({
        extend: (entries) => (down ? Effect.fail(unavailable("extend")) : extend(entries))
      }))
    )
    return run(layer, function* () {
      const gate = yield* Latch.make()
      const seen = yield* probe()
      const { handle } = yield* open(
        Subscription.make(
          "s",
          Texts,
          seen.handler(() => gate.await),
          { visibilityTimeout: "40 seconds" }
        )
      )
      yield* Topic.publish(Texts, "x")
      yield* seen.next
      down = true
      yield* pass("25 seconds")
      assert.strictEqual((yield* handle.stats).state, "unhealthy")
      down = false
      yield* pass("10 minutes")
      assert.strictEqual((yield* handle.stats).state, "running")
      yield* gate.open
      yield* Subscription.awaitIdle(Subscription.address("s", Texts))
      assert.deepStrictEqual(seen.calls.length, 1)
      const lines = (yield* Lines).filter(({ text }) => text.startsWith("extending leases"))
      assert.deepStrictEqual(
        lines.map(({ level }) => level),
        ["Warn", "Info"]
      )
    })
  })

  it.effect("8. what the log says is another's is not extended again, and what waits of it is not started", () => {
    let taken = false
    const extended: Array<number> = []
    const layer = layerWith(
      withConsumers(() => ({
        extend: (entries) => {
          extended.push(entries.length)
          return Effect.succeed(taken ? entries : [])
        }
      }))
    )
    return run(layer, function* () {
      const gate = yield* Latch.make()
      const seen = yield* probe()
      yield* open(
        Subscription.make(
          "s",
          Texts,
          seen.handler(() => gate.await),
          { prefetch: 3, visibilityTimeout: "40 seconds" }
        )
      )
      yield* Topic.publishAll(Texts, ["a", "b", "c"])
      yield* seen.next
      taken = true
      yield* pass("10 seconds")
      assert.deepStrictEqual(extended, [3])
      assert.strictEqual(yield* counted(Metrics.leasesLost), 2)
      yield* pass("10 seconds")
      // the running one was lost as well
      assert.deepStrictEqual(extended, [3])
      yield* gate.open
      yield* settled
      assert.deepStrictEqual(seen.data(), ["a"])
    })
  })

  const jump = (millis: number) => {
    let offset = 0
    return {
      jump: () => (offset += millis),
      /** A clock that jumps, as it does while the event loop is blocked. */
      clock: Effect.map(Clock.Clock, (clock): Clock.Clock => ({
        sleep: (duration) => clock.sleep(duration),
        currentTimeNanos: clock.currentTimeNanos,
        currentTimeNanosUnsafe: () => clock.currentTimeNanosUnsafe(),
        monotonicTimeNanos: clock.monotonicTimeNanos,
        monotonicTimeNanosUnsafe: () => clock.monotonicTimeNanosUnsafe(),
        currentTimeMillisUnsafe: () => clock.currentTimeMillisUnsafe() + offset,
        currentTimeMillis: Effect.map(clock.currentTimeMillis, (now) => now + offset)
      }))
    }
  }
  it.effect.each([
    [20_001, 1],
    [60_000, 1],
    [19_999, 0],
    [0, 0]
  ] as const)("an event loop that was blocked for %d ms is logged and counted %d times", ([blocked, times]) => {
    const jumping = jump(blocked)
    return run(
      layerWith((self) => self),
      function* () {
        const clock = yield* jumping.clock
        const subscription = Subscription.make("s", Texts, () => Effect.never, { visibilityTimeout: "40 seconds" })
        yield* Effect.provideService(open(subscription), Clock.Clock, clock)
        yield* Topic.publish(Texts, "x")
        yield* pass("5 seconds")
        jumping.jump()
        yield* pass("1 minute")
        assert.strictEqual(yield* counted(Metrics.blockedLoop), times)
        const lines = (yield* Lines).filter(({ text }) => text.includes("event loop was blocked"))
        assert.strictEqual(lines.length, times)
        for (const { annotations, level, text } of lines) {
          assert.deepStrictEqual([level, annotations["topic"], annotations["subscription"]], ["Warn", "texts", "s"])
          assert.include(text, `${blocked} ms`)
        }
      }
    )
  })

  it.effect("a log that dies while leases are extended fails the handle's join", () =>
    run(layerWith(withConsumers(() => ({ extend: () => Effect.die(new Error("bug")) }))), function* () {
      const { handle } = yield* open(Subscription.make("s", Texts, () => Effect.never))
      yield* Topic.publish(Texts, "x")
      yield* pass("30 seconds")
      assert.include((yield* Effect.flip(handle.join)).message, "bug")
    })
  )

  it.effect("a lease that could not be extended is no problem any more when nothing is held", () =>
    run(layerWith(withConsumers(() => ({ extend: () => Effect.fail(unavailable("extend")) }))), function* () {
      const gate = yield* Latch.make()
      const { handle } = yield* open(
        Subscription.make("s", Texts, () => gate.await, { visibilityTimeout: "40 seconds" })
      )
      yield* Topic.publish(Texts, "x")
      yield* pass("12 seconds")
      assert.strictEqual((yield* handle.health).state, "unhealthy")
      yield* gate.open
      yield* pass("12 seconds")
      assert.strictEqual((yield* handle.health).state, "running")
    })
  )

  it.effect("an owner that holds nothing and cannot extend its lease says so once, and once that it can again", () => {
    let down = false
    const owner = (self: Owner): Owner => ({
      ...self,
      extend: (entries) => (down ? Effect.fail(unavailable("extend")) : self.extend(entries))
    })
    return run(layerWith(withOwners(owner)), function* () {
      const topic = Topic.make("keyed", { schema: Schema.String, key: (text) => text })
      const { handle } = yield* open(
        Subscription.make("s", topic, () => Effect.void, { visibilityTimeout: "40 seconds" })
      )
      yield* pass("1 second")
      down = true
      yield* pass("12 seconds")
      assert.strictEqual((yield* handle.health).state, "unhealthy")
      yield* pass("20 seconds")
      down = false
      yield* pass("12 seconds")
      assert.strictEqual((yield* handle.health).state, "running")
      const lines = (yield* Lines).map(({ text }) => text).filter((text) => text.startsWith("extending leases"))
      assert.deepStrictEqual(lines, [
        "extending leases is failing and goes on trying: extend: the log is down",
        "extending leases works again"
      ])
    })
  })

  it.effect("10. an owner that hears late of a delivery starts it when the log has extended it, and not before", () => {
    const events: Array<string> = []
    const owner = (self: Owner): Owner => ({
      ...self,
      // nobody extends what nobody has heard of: two seconds later it would be taken for a dead worker's
      fetch: (limit) => Effect.tap(self.fetch(limit), () => Effect.sleep("38 seconds")),
      extend: (entries) =>
        Effect.tap(Effect.delay(self.extend(entries), "1 second"), () =>
          Effect.sync(() => {
            if (entries.length > 0) events.push("extended")
          })
        )
    })
    return run(layerWith(withOwners(owner)), function* () {
      const topic = Topic.make("keyed", { schema: Schema.String, key: (text) => text })
      const handler = ({ data }: Message<string>) =>
        Effect.andThen(
          Effect.sync(() => void events.push(`starts ${data}`)),
          Effect.sleep("5 seconds")
        )
      yield* open(Subscription.make("s", topic, handler, { visibilityTimeout: "40 seconds" }))
      yield* pass("5 seconds")
      yield* Topic.publish(topic, "x")
      for (let seconds = 0; seconds < 50; seconds++) yield* pass("1 second")
      assert.deepStrictEqual(events.slice(0, 2), ["extended", "starts x"])
    })
  })
})
