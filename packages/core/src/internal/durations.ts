/** Durations as users give them. */
import * as Duration from "effect/Duration"
import * as Option from "effect/Option"

/** A finite duration from 0; none for everything else, and for NaN, which `Duration.fromInput` takes for 0. */
export const finite = (input: Duration.Input): Option.Option<Duration.Duration> =>
  Number.isNaN(input)
    ? Option.none()
    : Option.filter(Duration.fromInput(input), (value) => Duration.isFinite(value) && !Duration.isNegative(value))
