/** Effects that end when they are called back, and that can be waited for without a fiber. */
import * as Effect from "effect/Effect"

/** Begins, and answers with what to do where nobody waits any longer. */
export type Register<A, E> = (resume: (effect: Effect.Effect<A, E>) => void) => Effect.Effect<void> | void

const Begin: unique symbol = Symbol.for("~@clutch/core/callback")

/**
 * What ends when it is called back, as `Effect.callback`: `register` is given whom to call, and returns what to do where it
 * is interrupted. A backend's `publish` that is made by it, and by nothing around it, is waited for without a fiber of its
 * own, which is a good part of what one message costs.
 *
 * @category constructors
 * @since 0.1.0
 */
export const callback = <A, E>(register: Register<A, E>): Effect.Effect<A, E> => {
  const effect: Begun<A, E> = Effect.callback<A, E>(register)
  effect[Begin] = register
  return effect
}

interface Begun<A, E> extends Effect.Effect<A, E> {
  [Begin]?: Register<A, E>
}

/** How to begin what was made by `callback`; nothing for any other effect. */
export const registerOf = <A, E>(effect: Begun<A, E>): Register<A, E> | undefined => effect[Begin]
