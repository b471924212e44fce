/** What tells how long quick handlers have run without a break. Simulated processes bring their own, as it decides who runs. */
import * as Context from "effect/Context"

/** Milliseconds from any beginning. */
export const SliceClock: Context.Reference<() => number> = Context.Reference<() => number>(
  "@clutch/core/internal/SliceClock",
  { defaultValue: () => () => performance.now() }
)
