import * as MemoryTransport from "@clutch/core/MemoryTransport"
import { Reclaimer } from "@clutch/core/Reclaimer"
import * as Subscription from "@clutch/core/Subscription"
import * as Topic from "@clutch/core/Topic"
import { Transport } from "@clutch/core/Transport"
import { assert, describe, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import { DrainAtOnce } from "../../packages/core/src/internal/drain.ts"
import { given, layerWith, Lines, open, pass, run, settled, unavailable } from "./support.ts"

const topic = (abandonedAfter?: Duration.Input) =>
  Topic.make("cleared", { schema: Schema.String, retention: "acknowledged", abandonedAfter })
const log = { topic: "cleared", partition: 0 }

/** A log whose calls of `trim` are recorded, and may be replaced. */
const recording = (
  fault: (n: number) => Effect.Effect<never, ReturnType<typeof unavailable>> | undefined = () => undefined
) => {
  const at: Array<number> = []
  const layer = layerWith((self) => ({
    ...self,
    trim: (log) =>
      Effect.flatMap(Clock.currentTimeMillis, (now) => {
        at.push(now)
        return fault(at.length) ?? self.trim(log)
      })
  }))
  return { at, layer }
}

const length = Effect.map(MemoryTransport.snapshot, ({ logs }) => logs[0]?.length)
const done = Subscription.make("s", topic(), () => Effect.void)
const linesOf = (text: string) => Effect.map(Lines, (lines) => lines.filter((line) => line.text.includes(text)))

/** Makes a group that reads nothing, and whose member has left. */
const abandon = (name: string) =>
  Effect.scoped(
    Effect.gen(function* () {
      const options = {
        consumer: name,
        visibilityTimeout: Duration.seconds(30),
        from: "beginning",
        ownConnection: false
      } as const
      const consumer = yield* (yield* Transport).join({ group: { ...log, subscription: name }, ...options })
      consumer.keep()
    })
  )

describe("Reclaimer, retention acknowledged", () => {
  it.effect("12. trims a second after something was published, and rarely where nothing happens", () => {
    const { at, layer } = recording()
    return run(layer, function* () {
      yield* open(done)
      yield* pass("10 minutes")
      const idle = at.length
      assert.isAtMost(idle, 20)
      yield* Topic.publish(topic(), "x")
      yield* pass("999 millis")
      assert.strictEqual(yield* length, 1)
      yield* pass(1)
      assert.strictEqual(yield* length, 0)
      yield* pass("1 hour")
      const gaps = at.slice(1).map((time, i) => time - (at[i] ?? 0))
      assert.isAtLeast(gaps.at(-1) ?? 0, 59_000)
      assert.isAtMost(Math.max(...gaps), 60_000)
    })
  })

  it.effect("12. what takes long to settle is dropped within a minute, with nothing published meanwhile", () => {
    const { layer } = recording()
    return run(layer, function* () {
      yield* open(
        Subscription.make("slow", topic(), () => Effect.sleep("7 minutes"), { visibilityTimeout: "10 minutes" })
      )
      yield* Topic.publish(topic(), "x")
      yield* pass("7 minutes")
      yield* pass("1 minute")
      assert.strictEqual(yield* length, 0)
    })
  })

  it.effect(
    "12. a log is trimmed once, however many subscriptions share it, and no more when the last has closed",
    () => {
      const { at, layer } = recording()
      return run(layer, function* () {
        const one = yield* open(Subscription.make("one", topic(), () => Effect.void))
        const two = yield* open(Subscription.make("two", topic(), () => Effect.void))
        yield* pass("10 minutes")
        assert.isAtMost(at.length, 20)
        yield* one.close
        const before = at.length
        yield* pass("10 minutes")
        assert.isAtLeast(at.length, before + 9)
        yield* two.close
        const after = at.length
        yield* pass("1 hour")
        assert.strictEqual(at.length, after)
        assert.strictEqual((yield* MemoryTransport.snapshot).watchers, 0)
      })
    }
  )

  it.effect("12. a topic without the option is never trimmed", () => {
    const { at, layer } = recording()
    return run(layer, function* () {
      yield* open(Subscription.make("s", Topic.make("kept", { schema: Schema.String }), () => Effect.void))
      yield* pass("1 hour")
      assert.deepStrictEqual(at, [])
    })
  })

  it.effect("12. where much is to be dropped, rounds follow at once", () => {
    let left = 50
    const layer = layerWith((self) => ({
      ...self,
      trim: (log) => (left-- > 0 ? Effect.succeed({ trimmed: 1, more: true }) : self.trim(log))
    }))
    return run(layer, function* () {
      yield* open(done)
      yield* settled
      assert.isBelow(left, 0)
    })
  })

  it.effect("12. however soon a group counts as abandoned, nobody is asked more than once a second", () => {
    const { at, layer } = recording()
    return run(layer, function* () {
      yield* open(Subscription.make("s", topic("1 nano"), () => Effect.void))
      yield* pass("1 minute")
      assert.isAtMost(at.length, 61)
    })
  })

  it.effect("12. a round that is under way when the last subscription closes ends without a word", () => {
    const asked = Latch.makeUnsafe()
    const layer = layerWith((self) => ({
      ...self,
      trim: (log) => Effect.flatMap(self.trim(log), (found) => Effect.as(asked.await, found))
    }))
    return run(layer, function* () {
      const { close } = yield* open(done)
      yield* pass("1 second")
      yield* close
      yield* asked.open
      yield* settled
      assert.deepStrictEqual(yield* linesOf("trimming"), [])
    })
  })

  it.effect("12. one that watches trims, for workers that reclaim nothing", () =>
    run(
      Layer.mergeAll(Reclaimer.layerElsewhere, MemoryTransport.layerTransport, Layer.succeed(DrainAtOnce, true)),
      function* () {
        yield* open(done)
        yield* Topic.publish(topic(), "x")
        yield* pass("5 minutes")
        assert.strictEqual(yield* length, 1)
        yield* Layer.build(
          Reclaimer.watch([Subscription.address("s", topic())]).pipe(Layer.provide(Layer.fresh(Reclaimer.layer)))
        )
        yield* pass("1 minute")
        assert.strictEqual(yield* length, 0)
      }
    )
  )

  it.effect("12. a log that cannot be trimmed is tried again with backoff, and logged once each way", () => {
    const { at, layer } = recording((n) => (n > 1 && n < 20 ? Effect.fail(unavailable("trim")) : undefined))
    return run(layer, function* () {
      yield* open(done)
      yield* Topic.publish(topic(), "x")
      yield* pass("1 minute")
      assert.isAtLeast(at.length, 20)
      assert.strictEqual(yield* length, 0)
      const lines = yield* linesOf("trimming")
      assert.deepStrictEqual(
        lines.map(({ annotations, level }) => [level, annotations["topic"]]),
        [
          ["Warn", "cleared"],
          ["Info", "cleared"]
        ]
      )
    })
  })

  it.effect("a defect of trimming is logged, and ends neither trimming nor reclaiming", () => {
    const { layer } = recording((n) => (n === 1 ? Effect.die(new Error("a bug of the backend")) : undefined))
    return run(layer, function* () {
      yield* open(done)
      yield* Topic.publish(topic(), "x")
      yield* pass("1 minute")
      assert.strictEqual(yield* length, 0)
      assert.deepStrictEqual(
        (yield* linesOf("trimming died of a defect")).map(({ level }) => level),
        ["Fatal"]
      )
    })
  })

  it.effect(
    "12. an abandoned group is one warning that names it and the way out, and one word when it is back",
    given(function* () {
      yield* abandon("old")
      yield* open(Subscription.make("s", topic("1 hour"), () => Effect.void))
      yield* Topic.publish(topic(), "x")
      yield* pass("59 minutes")
      assert.deepStrictEqual(yield* linesOf("abandoned"), [])
      yield* pass("3 hours")
      const lines = yield* linesOf("the group is abandoned")
      assert.deepStrictEqual(
        lines.map(({ annotations, level }) => [level, annotations["topic"], annotations["subscription"]]),
        [["Warn", "cleared", "old"]]
      )
      assert.include(lines[0]?.text, "Topic.removeGroup")
      assert.strictEqual(yield* length, 1)
      yield* open(Subscription.make("old", topic("1 hour"), () => Effect.void))
      yield* pass("2 minutes")
      assert.strictEqual(yield* length, 0)
      assert.strictEqual((yield* linesOf("holds nothing back any more")).length, 1)
    })
  )

  it.effect(
    "12. where subscriptions of one topic differ, the shortest time to be abandoned counts, while its subscription runs",
    given(function* () {
      yield* abandon("old")
      yield* Topic.publish(topic(), "x")
      yield* open(Subscription.make("one", topic("30 days"), () => Effect.void))
      const two = yield* open(Subscription.make("two", topic("2 hours"), () => Effect.void))
      yield* pass("1 hour")
      yield* two.close
      yield* pass("5 hours")
      assert.deepStrictEqual(yield* linesOf("the group is abandoned"), [])
      yield* open(Subscription.make("two", topic("2 hours"), () => Effect.void))
      yield* pass("2 minutes")
      assert.strictEqual((yield* linesOf("the group is abandoned")).length, 1)
    })
  )
})
