/** Whatever keeps a subscription from starting, as the one error that says which. */
import { SubscribeError, type TransportError, Unavailable } from "../Errors.ts"

export const subscribeError =
  (topic: string, subscription: string) =>
  (reason: SubscribeError["reason"] | TransportError["reason"]): SubscribeError =>
    new SubscribeError({
      topic,
      subscription,
      // joining creates what is missing: a backend that says so is out of order
      reason: reason._tag === "NoSubscription" ? new Unavailable({ detail: reason.message, cause: reason }) : reason
    })
