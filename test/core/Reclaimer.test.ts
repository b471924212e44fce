import * as MemoryTransport from "@clutch/core/MemoryTransport"
import * as Metrics from "@clutch/core/Metrics"
import { Reclaimer } from "@clutch/core/Reclaimer"
import * as Subscription from "@clutch/core/Subscription"
import * as Topic from "@clutch/core/Topic"
import { Transport } from "@clutch/core/Transport"
import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Metric from "effect/Metric"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import { DrainAtOnce } from "../../packages/core/src/internal/drain.ts"
import { given, groupOf, layerWith, Lines, open, pass, probe, run, settled, Texts, unavailable } from "./support.ts"

/** A consumer that takes what is there and is not heard of again. */
const dead = Effect.fnUntraced(function* (visibility: Duration.Input, name: string) {
  const consumer = yield* (yield* Transport).join({
    group: groupOf("s"),
    consumer: name,
    visibilityTimeout: Duration.fromInputUnsafe(visibility),
    from: "beginning",
    ownConnection: false
  })
  consumer.keep()
  yield* consumer.fetch({ count: 1, bytes: 1000, alone: false, maxAttempts: 6 })
})

const counting = (change: (n: number) => boolean = () => false) => {
  const tends: Array<number> = []
  const layer = layerWith((self) => ({
    ...self,
    tend: (group) =>
      Effect.flatMap(Clock.currentTimeMillis, (now) => {
        tends.push(now)
        return change(tends.length) ? Effect.fail(unavailable("tend")) : self.tend(group)
      })
  }))
  return { layer, tends }
}

const reclaimed = Effect.map(
  Metric.value(
    Metric.withAttributes(Metrics.reclaimed, {
      "messaging.system": "memory",
      "messaging.destination.name": "texts",
      "messaging.consumer.group.name": "s"
    })
  ),
  ({ count }) => count
)

describe("Reclaimer", () => {
  it.effect(
    "5. the worker's clock may be set back or forward: what is due is looked at no later, and no more often",
    () => {
      let set = 0
      let tends = 0
      const log = Layer.effect(
        Transport,
        Effect.map(MemoryTransport.make, (self) => ({
          ...self,
          tend: () =>
            Effect.sync(() => {
              tends += 1
              return { moved: 0, reclaimed: 0, removed: 0, poison: 0, next: Option.some(Duration.seconds(4)) }
            })
        }))
      )
      // the same time, and another date
      const dated = Layer.effect(
        Clock.Clock,
        Effect.map(Clock.Clock, (clock): Clock.Clock => {
          const currentTimeMillisUnsafe = () => clock.currentTimeMillisUnsafe() + set
          const currentTimeNanosUnsafe = () => BigInt(currentTimeMillisUnsafe()) * 1_000_000n
          return {
            currentTimeMillisUnsafe,
            currentTimeMillis: Effect.sync(currentTimeMillisUnsafe),
            currentTimeNanosUnsafe,
            currentTimeNanos: Effect.sync(currentTimeNanosUnsafe),
            monotonicTimeNanosUnsafe: () => clock.monotonicTimeNanosUnsafe(),
            monotonicTimeNanos: clock.monotonicTimeNanos,
            sleep: (duration) => clock.sleep(duration)
          }
        })
      )
      const layer = Reclaimer.layer.pipe(Layer.provide(dated), Layer.provideMerge(log))
      return run(layer, function* () {
        yield* open(Subscription.make("s", Texts, () => Effect.void))
        yield* pass("1 second")
        for (set of [-7_200_000, 7_200_000]) {
          const before = tends
          for (let seconds = 0; seconds < 20; seconds++) yield* pass("1 second")
          assert.strictEqual(tends - before, 5, `set by ${set} ms`)
        }
      })
    }
  )

  // a worker that was frozen between the log's answer and its hearing it took the answer for a new one, and a retry that
  // fell due meanwhile waited: the log announces nothing that is later than what it has been told to be looked at
  it.effect("5. the log is looked at again when it said, also where its answer is heard late", () => {
    const asked: Array<number> = []
    const late = { moved: 0, reclaimed: 0, removed: 0, poison: 0, next: Option.some(Duration.seconds(1)) }
    const layer = layerWith((self) => ({
      ...self,
      tend: (group) =>
        Effect.flatMap(Clock.currentTimeMillis, (now) => {
          asked.push(now)
          return asked.length === 1 ? Effect.delay(Effect.succeed(late), "900 millis") : self.tend(group)
        })
    }))
    return run(layer, function* () {
      yield* open(Subscription.make("s", Texts, () => Effect.void))
      yield* pass("3 seconds")
      const [first = 0, second = 0] = asked
      assert.strictEqual(second - first, 1000)
    })
  })

  it.effect(
    "5. a due retry is delivered when it is due, not at the next scan",
    given(function* () {
      const seen = yield* probe()
      const handler = seen.handler(({ attempt }) => (attempt === 1 ? Effect.fail("no") : Effect.void))
      yield* open(Subscription.make("s", Texts, handler, { retry: { base: "61234 millis", jitter: 0 } }))
      yield* Topic.publish(Texts, "x")
      yield* pass("61233 millis")
      assert.strictEqual(seen.calls.length, 1)
      yield* pass(1)
      assert.deepStrictEqual(
        seen.calls.map(({ at }) => at),
        [0, 61_234]
      )
    })
  )

  it.effect("it wakes when something falls due, and polls nothing meanwhile", () => {
    const { layer, tends } = counting()
    return run(layer, function* () {
      yield* open(
        Subscription.make("s", Texts, () => Effect.fail("no"), {
          retry: { maxRetries: 2, base: "10 minutes", factor: 1, jitter: 0 }
        })
      )
      yield* Topic.publish(Texts, "x")
      yield* settled
      const before = tends.length
      yield* pass("599 seconds")
      // heartbeats of what was in flight aside, nothing happens
      assert.isAtMost(tends.length - before, 2)
      yield* pass("1 hour")
      assert.isAtMost(tends.length, 20)
    })
  })

  it.effect(
    "7. each dead consumer's deliveries are taken after its own visibility timeout, counted and logged",
    given(function* () {
      const seen = yield* probe()
      yield* Topic.publishAll(Texts, ["slow", "quick"])
      yield* dead("1 minute", "patient")
      yield* dead("10 seconds", "hasty")
      yield* open(Subscription.make("s", Texts, seen.handler(), { visibilityTimeout: "5 minutes" }))
      yield* pass("9999 millis")
      assert.deepStrictEqual(seen.data(), [])
      yield* pass(2)
      assert.deepStrictEqual(seen.data(), ["quick"])
      yield* pass("49 seconds")
      assert.deepStrictEqual(seen.data(), ["quick"])
      yield* pass("2 seconds")
      assert.deepStrictEqual(seen.data(), ["quick", "slow"])
      assert.isTrue(seen.calls.every(({ attempt }) => attempt === 2))
      assert.strictEqual(yield* reclaimed, 2)
      const lines = (yield* Lines).filter(({ text }) => text.startsWith("took"))
      assert.deepStrictEqual(
        lines.map(({ annotations, level }) => [level, annotations["topic"], annotations["subscription"]]),
        [
          ["Warn", "texts", "s"],
          ["Warn", "texts", "s"]
        ]
      )
    })
  )

  it.effect("a subscription that closed is looked after no more, though its retries wait", () => {
    const { layer, tends } = counting()
    return run(layer, function* () {
      const retry = { base: "10 minutes", jitter: 0 } as const
      const worker = yield* open(Subscription.make("s", Texts, () => Effect.fail("no"), { retry }))
      yield* Topic.publish(Texts, "x")
      yield* Subscription.awaitIdle(Subscription.address("s", Texts), { due: "ignore" })
      yield* worker.close
      yield* settled
      const before = tends.length
      yield* pass("1 hour")
      assert.strictEqual(tends.length, before)
      assert.strictEqual((yield* MemoryTransport.snapshot).watchers, 0)
    })
  })

  it.effect("a log that cannot be tended is tried again with backoff, and logged once each way", () => {
    const { layer, tends } = counting((n) => n > 2 && n < 60)
    return run(layer, function* () {
      const seen = yield* probe()
      const handler = seen.handler(({ attempt }) => (attempt === 1 ? Effect.fail("no") : Effect.void))
      yield* open(Subscription.make("s", Texts, handler, { retry: { base: "10 seconds", jitter: 0 } }))
      yield* Topic.publish(Texts, "x")
      yield* pass("2 minutes")
      assert.strictEqual(seen.calls.length, 2)
      const gaps = tends.slice(1).map((at, i) => at - (tends[i] ?? 0))
      assert.isAtMost(Math.max(...gaps.slice(12, 50)), 1000)
      assert.isAtLeast(Math.min(...gaps.slice(12, 50)), 1000)
      const lines = (yield* Lines).filter(({ text }) => text.startsWith("reclaiming"))
      assert.deepStrictEqual(
        lines.map(({ level }) => level),
        ["Warn", "Info"]
      )
    })
  })

  it.effect("a subscription whose partitions cannot be tended says so once, and once that it works again", () => {
    let down = false
    const layer = layerWith((self) => ({
      ...self,
      tend: (group) => (down ? Effect.fail(unavailable("tend")) : self.tend(group))
    }))
    return run(layer, function* () {
      const topic = Topic.make("wide", { schema: Schema.String, partitions: 8 })
      const fail = () => Effect.fail("no")
      const retry = { maxRetries: "unlimited", base: "1 second", factor: 1, jitter: 0 } as const
      const { close } = yield* open(Subscription.make("s", topic, fail, { retry }))
      yield* open(Subscription.make("s", topic, fail, { retry, consumer: "another" }))
      yield* Topic.publishAll(topic, ["a", "b", "c", "d", "e", "f", "g", "h"])
      yield* pass("100 millis")
      down = true
      yield* pass("1 minute")
      yield* close
      yield* pass("1 minute")
      down = false
      yield* pass("1 minute")
      const lines = (yield* Lines).filter(({ text }) => text.startsWith("reclaiming"))
      assert.deepStrictEqual(
        lines.map(({ level }) => level),
        ["Warn", "Info"]
      )
    })
  })

  it.effect("one group that cannot be tended does not hold up another", () => {
    const layer = layerWith((self) => ({
      ...self,
      tend: (group) => (group.subscription === "broken" ? Effect.fail(unavailable("tend")) : self.tend(group))
    }))
    return run(layer, function* () {
      const seen = yield* probe()
      yield* open(Subscription.make("broken", Texts, () => Effect.void))
      const handler = seen.handler(({ attempt }) => (attempt === 1 ? Effect.fail("no") : Effect.void))
      yield* open(Subscription.make("s", Texts, handler, { retry: { base: "10 seconds", jitter: 0 } }))
      yield* Topic.publish(Texts, "x")
      yield* pass("10 seconds")
      assert.deepStrictEqual(
        seen.calls.map(({ at }) => at),
        [0, 10_000]
      )
    })
  })

  it.effect("elsewhere: this process moves nothing; one that watches does, without handlers", () =>
    run(
      Layer.mergeAll(Reclaimer.layerElsewhere, MemoryTransport.layerTransport, Layer.succeed(DrainAtOnce, true)),
      function* () {
        const seen = yield* probe()
        const handler = seen.handler(({ attempt }) => (attempt === 1 ? Effect.fail("no") : Effect.void))
        const subscription = Subscription.make("s", Texts, handler, { retry: { base: "1 minute", jitter: 0 } })
        yield* open(subscription)
        yield* Topic.publish(Texts, "x")
        yield* pass("1 hour")
        assert.strictEqual(seen.calls.length, 1)
        const watching = yield* Scope.make()
        const watcher = Reclaimer.watch([Subscription.address("s", Texts)]).pipe(
          Layer.provide(Layer.fresh(Reclaimer.layer))
        )
        yield* Layer.buildWithScope(watcher, watching)
        yield* seen.next
        yield* Topic.publish(Texts, "y")
        yield* pass("1 minute")
        assert.deepStrictEqual(seen.data(), ["x", "x", "y", "y"])
        // and stops when its scope closes
        yield* Scope.close(watching, Exit.void)
        assert.strictEqual((yield* MemoryTransport.snapshot).watchers, 0)
        yield* Topic.publish(Texts, "z")
        yield* pass("1 hour")
        assert.strictEqual(seen.calls.length, 5)
      }
    )
  )

  it.effect(
    "watch refuses a name that cannot be one, and leaves nothing",
    given(function* () {
      const good = Subscription.address("s", Texts)
      const before = yield* MemoryTransport.snapshot
      const error = yield* Effect.flip(
        Effect.scoped(Layer.build(Reclaimer.watch([good, Subscription.address("a b", Texts)])))
      )
      assert.deepStrictEqual(
        [error._tag, error.reason._tag, error.subscription],
        ["SubscribeError", "InvalidName", "a b"]
      )
      assert.deepStrictEqual(yield* MemoryTransport.snapshot, before)
    })
  )

  it.effect("watch of a log that cannot be reached says so", () =>
    run(
      layerWith((self) => ({ ...self, watch: () => Effect.fail(unavailable("watch")) })),
      function* () {
        const error = yield* Effect.flip(Layer.build(Reclaimer.watch([Subscription.address("s", Texts)])))
        assert.strictEqual(error.reason._tag, "Unavailable")
      }
    )
  )

  it.effect(
    "many groups are looked after by one fiber, each when it falls due",
    given(function* () {
      const seen = yield* probe()
      const names = Array.from({ length: 20 }, (_, i) => i + 1)
      for (const i of names) {
        const handler = seen.handler(({ attempt }) => (attempt === 1 ? Effect.fail("no") : Effect.void))
        yield* open(Subscription.make(`s${i}`, Texts, handler, { retry: { base: Duration.seconds(i), jitter: 0 } }))
      }
      yield* Topic.publish(Texts, "x")
      yield* pass("30 seconds")
      const retries = seen.calls.filter(({ attempt }) => attempt === 2).map(({ at, delivery }) => [delivery.group, at])
      assert.deepStrictEqual(
        retries,
        names.map((i) => [`s${i}-retry`, i * 1000])
      )
    })
  )

  it.effect("a log that dies while it is tended is logged as fatal: no loop dies silently", () =>
    run(
      layerWith((self) => ({ ...self, tend: () => Effect.die(new Error("a bug of the backend")) })),
      function* () {
        yield* open(Subscription.make("s", Texts, () => Effect.void))
        yield* pass("1 minute")
        const fatal = (yield* Lines).filter(({ level }) => level === "Fatal")
        assert.isAtLeast(fatal.length, 1)
        assert.include(fatal.map(({ text, cause }) => `${text} ${Cause.pretty(cause)}`).join(), "a bug of the backend")
      }
    )
  )
})
