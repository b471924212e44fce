/** Deliveries of which only place and origin matter. */
import * as DateTime from "effect/DateTime"
import * as Result from "effect/Result"
import { type Desk, Handling } from "../../../packages/core/src/internal/handling.ts"

const desk: Desk = {
  group: { topic: "t", partition: 0, subscription: "s" },
  consumer: "c",
  fence: undefined,
  settle: () => {},
  settledTwice: () => {},
  retry: () => ({ _tag: "Ack" })
}

export const handling = (n: number, origin: "main" | "retry" = "main", partitionkey?: string) =>
  new Handling(
    desk,
    {
      origin,
      stream: origin,
      id: `${n}-0`,
      originalId: `${n}-0`,
      attempt: 1,
      reclaims: 0,
      firstDelivered: 0,
      size: 1,
      content: Result.fail("unread")
    },
    { id: "", source: "", type: "", time: DateTime.makeUnsafe(0), data: n, headers: {}, partitionkey },
    0
  )
