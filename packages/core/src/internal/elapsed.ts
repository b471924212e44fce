/** Time as a clock that nobody sets counts it: what waits must not wait for a date that was set back. */
import type * as Clock from "effect/Clock"

/** Milliseconds since whenever, whole. */
export const elapsed = (clock: Clock.Clock): number => Number(clock.monotonicTimeNanosUnsafe() / 1_000_000n)
