import * as MemoryTransport from "@clutch/core/MemoryTransport"
import { Reclaimer } from "@clutch/core/Reclaimer"
import { Transport } from "@clutch/core/Transport"
import { assert, describe, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Result from "effect/Result"
import { TestClock } from "effect/testing"
import {
  billing,
  dataOf,
  deadLetter,
  deadLetters,
  given,
  join,
  orders,
  publish,
  release,
  retry,
  settle,
  shipping,
  take,
  takeOne
} from "./MemoryTransport.support.ts"

describe("MemoryTransport", () => {
  describe("what tests may do", () => {
    it.effect(
      "append what cannot be read, to the topic's log and to a retry log",
      given(function* () {
        const consumer = yield* join()
        const poison = { content: Result.fail("no JSON"), raw: Uint8Array.of(0xff, 0x00) }
        const id = yield* MemoryTransport.appendRaw(orders, poison)
        const retryId = yield* MemoryTransport.appendRaw(billing, poison)
        yield* publish("behind")
        const entries = yield* take(consumer)
        assert.deepStrictEqual(
          entries.map((entry) => [entry.origin, entry.id, entry.originalId, entry.attempt, dataOf(entry)]),
          [
            ["retry", retryId, retryId, 1, "unreadable: no JSON"],
            ["main", id, id, 1, "unreadable: no JSON"],
            ["main", "0-2", "0-2", 1, "behind"]
          ]
        )
        yield* settle(consumer, entries[1] ?? assert.fail(), {
          _tag: "DeadLetter",
          reason: "poison",
          cause: "no JSON",
          attempts: 1
        })
        assert.deepStrictEqual((yield* deadLetters)[0]?.raw, Uint8Array.of(0xff, 0x00))
        const error = yield* Effect.flip(MemoryTransport.appendRaw(shipping, poison))
        assert.strictEqual(error.reason._tag, "NoSubscription")
      })
    )

    it.effect(
      "look inside a Transport made of its fields, and of no other",
      given(function* () {
        const transport = yield* Transport
        yield* publish("1")
        const wrapped = Transport.of({ ...transport, join: () => Effect.never })
        const seen = yield* Effect.provideService(MemoryTransport.snapshot, Transport, wrapped)
        assert.deepStrictEqual(seen.keys, ["orders"])
        const { namespace, system, stream, publish: send, join, enroll, tend, watch, inspect } = transport
        const { lastId, outstanding, progress, deadLetters, partitions, repartition, trim, groups, removeGroup } =
          transport
        const foreign = Transport.of({
          namespace,
          system,
          stream,
          publish: send,
          join,
          enroll,
          partitions,
          repartition,
          tend,
          watch,
          trim,
          groups,
          removeGroup,
          inspect,
          lastId,
          outstanding,
          progress,
          deadLetters
        })
        const exit = yield* Effect.exit(Effect.provideService(MemoryTransport.snapshot, Transport, foreign))
        assert.isTrue(Exit.hasDies(exit))
      })
    )

    it.effect(
      "see what each log and group holds",
      given(function* () {
        const consumer = yield* join({ consumer: "one" })
        yield* publish("1", "2", "3", "4")
        const [a, b, c] = yield* take(consumer, { count: 3 })
        yield* settle(consumer, a ?? assert.fail(), release)
        yield* settle(consumer, b ?? assert.fail(), retry("1 second"))
        yield* settle(consumer, c ?? assert.fail(), deadLetter)
        assert.deepStrictEqual(yield* MemoryTransport.snapshot, {
          keys: ["orders", "orders:billing:deadLetters", "orders:billing:due", "orders:billing:retry"],
          logs: [
            {
              topic: "orders",
              partition: 0,
              length: 4,
              lastId: "0-4",
              groups: [
                {
                  subscription: "billing",
                  consumers: [{ name: "one", pending: 0, fetching: 0 }],
                  waiting: 1,
                  pending: 1,
                  released: 1,
                  due: 1,
                  deadLetters: 1
                }
              ]
            }
          ],
          watchers: 0
        })
      })
    )
  })

  describe("layer", () => {
    it.effect("moves retries and rescues deliveries by itself, exactly when due", () =>
      Effect.gen(function* () {
        const transport = yield* Transport
        assert.deepStrictEqual([transport.namespace, transport.system], ["clutch", "memory"])
        const reclaimer = yield* Reclaimer
        yield* reclaimer.register(billing)
        const consumer = yield* join({ visibilityTimeout: Duration.minutes(1) })
        yield* publish("1")
        yield* settle(consumer, yield* takeOne(consumer), retry("3 hours"))
        const retried = yield* Effect.forkChild(takeOne(consumer))
        yield* TestClock.adjust(3 * 3_600_000 - 1)
        assert.isUndefined(retried.pollUnsafe())
        yield* TestClock.adjust(1)
        assert.strictEqual((retried.pollUnsafe() ?? assert.fail())._tag, "Success")
        const rescued = yield* Effect.forkChild(takeOne(yield* join()))
        yield* TestClock.adjust(59_999)
        assert.isUndefined(rescued.pollUnsafe())
        yield* TestClock.adjust(1)
        const entry = yield* Fiber.join(rescued)
        assert.deepStrictEqual([entry.attempt, entry.reclaims], [3, 1])
      }).pipe(Effect.provide(MemoryTransport.layer))
    )
  })
})
