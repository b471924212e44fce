/**
 * For tests of your own: the in-memory log under virtual time, and histories by chance over it.
 *
 * @since 0.1.0
 */
import * as Layer from "effect/Layer"
import { DrainAtOnce } from "../internal/drain.ts"
import { timeless, Turns } from "../internal/turns.ts"
import * as MemoryTransport from "../MemoryTransport.ts"
import type { Reclaimer } from "../Reclaimer.ts"
import type { Transport } from "../Transport.ts"

/**
 * `MemoryTransport.layer` for tests under `TestClock`: a scope that closes does not wait for virtual time, which nobody
 * moves any more; handlers in flight are released at once. The same program takes the same steps on any machine.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerTest: Layer.Layer<Transport | Reclaimer> = /* @__PURE__ */ Layer.mergeAll(
  MemoryTransport.layer,
  /* @__PURE__ */ Layer.succeed(DrainAtOnce, true),
  /* @__PURE__ */ Layer.succeed(Turns, timeless)
)

export * as Simulator from "./Simulator.ts"
