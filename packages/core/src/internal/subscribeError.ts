/** Whatever keeps a subscription from starting, as the one error that says which. */
import * as Inspectable from "effect/Inspectable"
import { SubscribeError, type TransportError, Unavailable } from "../Errors.ts"

export const subscribeError =
  (topic: string, subscription: string) =>
  (reason: SubscribeError["reason"] | TransportError["reason"]): SubscribeError =>
    new SubscribeError({
      // from untyped callers: what is refused as a name may be no text
      topic: Inspectable.toStringUnknown(topic),
      subscription: Inspectable.toStringUnknown(subscription),
      // joining creates what is missing: a backend that says so is out of order
      reason: reason._tag === "NoSubscription" ? new Unavailable({ detail: reason.message, cause: reason }) : reason
    })
