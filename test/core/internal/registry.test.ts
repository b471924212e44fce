import { Transport } from "@clutch/core/Transport"
import * as MemoryTransport from "@clutch/core/MemoryTransport"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { reserve } from "../../../packages/core/src/internal/registry.ts"

const orders = { topic: "orders", partition: 0, subscription: "billing" }

const reserved = (place: Effect.Effect<void, unknown>) =>
  Effect.match(place, { onSuccess: () => true, onFailure: () => false })

describe("registry", () => {
  it.effect("a place is taken until its scope closes, on its own Transport only", () =>
    Effect.gen(function* () {
      const transport = yield* Transport
      const other = yield* MemoryTransport.make
      const now = (group: typeof orders, consumer?: string, at = transport) =>
        reserved(Effect.scoped(reserve(at, group, consumer)))

      yield* Effect.scoped(
        Effect.gen(function* () {
          yield* reserve(transport, orders, undefined)
          assert.isFalse(yield* now(orders))
          assert.isTrue(yield* now(orders, "w-2"))
          assert.isTrue(yield* now(orders, undefined, other))
          assert.isTrue(yield* now({ ...orders, subscription: "shipping" }))
          assert.isTrue(yield* now({ ...orders, topic: "returns" }))
          assert.isTrue(yield* now({ ...orders, partition: 1 }))
          // refused attempts, and places that were given back, leave the first one where it is
          assert.isFalse(yield* now(orders))
        })
      )
      assert.isTrue(yield* now(orders))
    }).pipe(Effect.provide(MemoryTransport.layerTransport))
  )

  it.effect("names cannot be put together so that two places look like one", () =>
    Effect.scoped(
      Effect.gen(function* () {
        const transport = yield* MemoryTransport.make
        yield* reserve(transport, { topic: "a", partition: 0, subscription: 'b",null' }, undefined)
        yield* reserve(transport, { topic: 'a",0,"b', partition: 0, subscription: "c" }, undefined)
        yield* reserve(transport, { topic: "a", partition: 0, subscription: "b" }, "null")
        yield* reserve(transport, { topic: "a", partition: 0, subscription: "b" }, undefined)
      })
    )
  )
})
