/** A delivery that is given back twice, since nobody knows whether the first time counted. */
import { MemoryTransport, Topic, Transport } from "@clutch/core"
import { assert, describe } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { as, shared, test, texts, worker } from "./kit.ts"

describe("a release repeated because its reply was lost", () => {
  for (const [system, layer] of [
    ["memory", undefined],
    ["redis", "shared"]
  ] as const) {
    test(`1. changes nothing, also where the same consumer has taken the delivery again meanwhile (${system})`, () =>
      Effect.gen(function* () {
        const context =
          layer === undefined
            ? yield* Layer.build(Layer.fresh(MemoryTransport.layer))
            : yield* Effect.flatMap(shared, ({ options }) => worker(options))
        const transport = Context.get(context, Transport)
        const topic = texts()
        yield* as(context)(Topic.publish(topic, "x"))
        const consumer = yield* transport.join({
          group: { topic: topic.topic, partition: 0, subscription: "billing" },
          consumer: "one",
          visibilityTimeout: Duration.seconds(30),
          from: "beginning",
          ownConnection: false
        })
        consumer.keep()
        const fetch = Effect.uninterruptible(consumer.fetch({ count: 1, bytes: 1 << 20, alone: false, maxAttempts: 6 }))
        const {
          entries: [first]
        } = yield* fetch
        if (first === undefined) return assert.fail("nothing was delivered")
        const release = { entry: first, outcome: { _tag: "Release" } } as const
        assert.deepStrictEqual(yield* consumer.settle([{ ...release, repeated: false }]), ["done"])
        const {
          entries: [second]
        } = yield* fetch
        if (second === undefined) return assert.fail("nothing was delivered again")
        assert.strictEqual(second.attempt, 1)
        const [repeated] = yield* consumer.settle([{ ...release, repeated: true }])
        assert.notStrictEqual(repeated, "done")
        // the delivery that runs now is still this consumer's
        assert.deepStrictEqual(yield* consumer.extend([second]), [])
        assert.deepStrictEqual(yield* consumer.settle([{ entry: second, outcome: { _tag: "Ack" }, repeated: false }]), [
          "done"
        ])
      }))
  }
})
