/** The owner of an ordered log, once it is another's. */
import { Transport } from "@clutch/core/Transport"
import { assert, describe, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { TestClock } from "effect/testing"
import { billing, free, given, publish } from "./MemoryTransport.support.ts"

const enroll = (consumer: string) =>
  Effect.gen(function* () {
    const transport = yield* Transport
    const worker = yield* transport.enroll({
      group: billing,
      consumer,
      visibilityTimeout: Duration.seconds(30),
      from: "beginning"
    })
    worker.keep()
    return worker
  })

const limit = { ...free, unread: true }

describe("MemoryTransport", () => {
  describe("an owner", () => {
    it.effect(
      "10. whose lease ended is refused everything once another has claimed, and reads nothing of what is new",
      given(function* () {
        const [first, second] = [yield* enroll("a"), yield* enroll("b")]
        const former = Option.getOrThrow(yield* first.claim)
        yield* publish("1")
        const held = yield* former.fetch(limit)
        if (held === "lost" || held.entries[0] === undefined) return assert.fail("nothing was fetched")
        const [entry] = held.entries
        yield* TestClock.adjust("30 seconds")
        const present = Option.getOrThrow(yield* second.claim)
        assert.isAbove(present.fence, former.fence)
        yield* publish("2")
        assert.strictEqual(yield* former.fetch(limit), "lost")
        assert.strictEqual(yield* former.extend([entry]), "lost")
        assert.deepStrictEqual(yield* former.settle([{ entry, outcome: { _tag: "Ack" }, repeated: false }]), ["lost"])
        const taken = yield* present.fetch(limit)
        if (taken === "lost") return assert.fail("the present owner lost its log")
        assert.deepStrictEqual(
          taken.entries.map(({ attempt, id }) => [attempt, id === entry.id]),
          [
            [2, true],
            [1, false]
          ]
        )
      })
    )

    // a sign of life of the worker was taken for one of the owner, and nobody was given what he had had before
    it.effect(
      "10. is one no longer where it only looks who is there, and may claim anew under a greater fence",
      given(function* () {
        const worker = yield* enroll("a")
        const before = Option.getOrThrow(yield* worker.claim)
        for (let i = 0; i < 3; i++) {
          yield* TestClock.adjust("10 seconds")
          assert.strictEqual(Option.isSome((yield* worker.roster).owner), i < 2)
        }
        const after = Option.getOrThrow(yield* worker.claim)
        assert.isAbove(after.fence, before.fence)
        assert.strictEqual(yield* before.extend([]), "lost")
        assert.deepStrictEqual(yield* after.extend([]), [])
      })
    )
  })
})
