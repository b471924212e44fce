/** What publishing keeps beside a Transport. */
import * as MemoryTransport from "@clutch/core/MemoryTransport"
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { outletOf } from "../../../packages/core/src/internal/sending.ts"

/** All that is reached by properties. */
const reached = (from: unknown, met = new Set<unknown>()): ReadonlySet<unknown> => {
  if (typeof from !== "object" || from === null || met.has(from)) return met
  met.add(from)
  for (const key of Reflect.ownKeys(from)) reached(Reflect.get(from, key), met)
  return met
}

it.effect("a Transport is not held by what is kept under it, which the engine lets go of late", () =>
  Effect.gen(function* () {
    const transport = yield* MemoryTransport.make
    const outlet = outletOf(transport, "orders", 1)
    outlet.place(0)
    const kept = reached(outlet)
    assert.isTrue(kept.has(outlet.place(0).log))
    assert.isFalse(kept.has(transport))
  })
)
