/**
 * The suite that a backend must pass, as a function: memory, Redis, and whatever log comes next run the same lines.
 *
 * ```ts
 * import { MemoryTransport } from "@clutch/core"
 * import { Conformance } from "@clutch/core/conformance"
 * import { TestClock } from "effect/testing"
 *
 * Conformance.suite("memory", { layer: MemoryTransport.layer, time: "virtual", pass: TestClock.adjust, tick: "1 second" })
 * ```
 *
 * A case's name begins with the clause of the delivery contract that it guards.
 *
 * @since 0.1.0
 */

/**
 * @since 0.1.0
 */
export * as Conformance from "./Conformance.ts"
/**
 * @since 0.1.0
 */
export * as Faults from "./Faults.ts"
