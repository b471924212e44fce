/** What a caller from JavaScript gave where an Effect was asked for: it would end the fiber past all that is around it. */
import * as Effect from "effect/Effect"

export const anEffect = <A, E, R>(whose: string, given: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.isEffect(given) ? given : Effect.die(new TypeError(`${whose} gave no Effect`))
