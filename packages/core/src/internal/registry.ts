/**
 * Which subscriptions run on a Transport. Kept beside the Transport's own service value, so that it lives exactly as
 * long: two Transports know nothing of each other, and there is nothing global to reset.
 */
import * as Effect from "effect/Effect"
import type { Scope } from "effect/Scope"
import { DuplicateSubscription } from "../Errors.ts"
import type { Group, Transport } from "../Transport.ts"

const running = new WeakMap<Transport["Service"], Set<string>>()

/** Reserves the place of a subscription until the scope closes. */
export const reserve = (
  transport: Transport["Service"],
  group: Group,
  consumer: string | undefined
): Effect.Effect<void, DuplicateSubscription, Scope> => {
  const place = JSON.stringify([group.topic, group.partition, group.subscription, consumer ?? null])
  const places = () => {
    const known = running.get(transport) ?? new Set<string>()
    running.set(transport, known)
    return known
  }
  return Effect.acquireRelease(
    Effect.suspend(() => {
      if (places().has(place)) {
        return Effect.fail(new DuplicateSubscription({ topic: group.topic, subscription: group.subscription }))
      }
      places().add(place)
      return Effect.void
    }),
    () => Effect.sync(() => places().delete(place))
  )
}
