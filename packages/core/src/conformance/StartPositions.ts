/**
 * Where a group begins, and that it begins there once.
 */
import { assert } from "@effect/vitest"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import { Subscription, Topic } from "../index.ts"
import type { StartPosition } from "../Transport.ts"
import { texts } from "./Collect.ts"
import { type Category, probe } from "./Kit.ts"

export const startPositions: Category = (kit) => {
  /** Publishes one by one, a tick apart. */
  const publish = (topic: Topic.Topic<string>, data: ReadonlyArray<string>) =>
    Effect.forEach(data, (one) => Effect.tap(Topic.publish(topic, one), () => kit.pass(1)))

  const handled = (topic: Topic.Topic<string>, from: StartPosition | undefined) =>
    Effect.gen(function* () {
      const seen = yield* probe()
      const subscription = Subscription.make("s", topic, seen.handler(), { from, concurrency: 1 })
      yield* kit.open(subscription)
      yield* Topic.publish(topic, "last")
      yield* kit.idle(subscription)
      return seen.data()
    })

  kit.test("9. new: a group begins after what is there; this is the default", () =>
    Effect.gen(function* () {
      for (const from of ["new", undefined] as const) {
        const topic = kit.topic()
        yield* publish(topic, texts(3))
        assert.deepStrictEqual(yield* handled(topic, from), ["last"])
      }
    })
  )

  kit.test("9. beginning: a group begins before what is there", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      yield* publish(topic, texts(5))
      assert.deepStrictEqual(yield* handled(topic, "beginning"), [...texts(5), "last"])
    })
  )

  kit.test("9. an entry id: a group begins after that entry", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const published = yield* publish(topic, texts(5))
      assert.deepStrictEqual(yield* handled(topic, { id: published[2]?.id ?? "" }), ["m3", "m4", "last"])
    })
  )

  kit.test("9. an entry id inside a batch published at one moment: a group begins just behind it", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const published = yield* Topic.publishAll(topic, texts(5))
      assert.deepStrictEqual(yield* handled(topic, { id: published[1]?.id ?? "" }), ["m2", "m3", "m4", "last"])
    })
  )

  kit.test("9. a time: a group begins with what was stored at it", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const published = yield* publish(topic, texts(5))
      const time = published[3]?.time ?? DateTime.makeUnsafe(0)
      assert.deepStrictEqual(yield* handled(topic, { time }), ["m3", "m4", "last"])
      const later = kit.topic()
      const again = yield* publish(later, texts(5))
      const behind = DateTime.add(again[3]?.time ?? DateTime.makeUnsafe(0), { milliseconds: 1 })
      assert.deepStrictEqual(yield* handled(later, { time: behind }), ["m4", "last"])
    })
  )

  kit.test("9. on a topic that nobody has published to, every position is the beginning", () =>
    Effect.gen(function* () {
      for (const from of ["new", "beginning", { time: DateTime.makeUnsafe(0) }] as const) {
        assert.deepStrictEqual(yield* handled(kit.topic(), from), ["last"])
      }
    })
  )

  kit.test("9. a group that exists goes on where it was, whatever is asked", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const seen = yield* probe()
      for (const [i, from] of (["beginning", "beginning", "new", { id: "0-0" }] as const).entries()) {
        const subscription = Subscription.make("s", topic, seen.handler(), { from, concurrency: 1 })
        const { close } = yield* kit.open(subscription)
        yield* kit.idle(subscription)
        yield* close
        yield* publish(topic, [`round ${i}`])
      }
      assert.deepStrictEqual(seen.data(), ["round 0", "round 1", "round 2"])
    })
  )

  kit.test("9. what is published while nobody is subscribed is delivered to the group that was there before", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const seen = yield* probe()
      const subscription = Subscription.make("s", topic, seen.handler(), { concurrency: 1 })
      yield* Effect.flatMap(kit.open(subscription), ({ close }) => close)
      yield* publish(topic, texts(10))
      yield* kit.open(subscription)
      yield* kit.idle(subscription)
      assert.deepStrictEqual(seen.data(), texts(10))
    })
  )

  kit.test("9. a message published right after subscribing returned is never missed", () =>
    Effect.gen(function* () {
      for (const data of texts(20)) {
        const topic = kit.topic()
        const seen = yield* probe()
        const { close } = yield* kit.open(Subscription.make("s", topic, seen.handler()))
        yield* Topic.publish(topic, data)
        assert.strictEqual((yield* kit.next(seen)).data, data)
        yield* close
      }
    })
  )
}
