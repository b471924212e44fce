/** What a partition is read and settled through, be it competed for or owned. */
import * as Effect from "effect/Effect"
import type { TransportError } from "../Errors.ts"
import type { Consumer, Entry, Fetched, FetchLimit, Owner, OwnerLimit } from "../Transport.ts"

export interface Seat {
  readonly name: string
  readonly fetch: (limit: OwnerLimit) => Effect.Effect<Fetched | "lost", TransportError>
  readonly settle: Consumer["settle"]
  readonly extend: (entries: ReadonlyArray<Entry>) => Effect.Effect<ReadonlyArray<Entry> | "lost", TransportError>
  readonly mark: Owner["mark"]
  /** Of an owner alone; `claimed` is when it claimed, by the runtime's clock. */
  readonly order: (Pick<Owner, "fence" | "heldBack" | "parked"> & { readonly claimed: number }) | undefined
}

export const competing = (consumer: Consumer): Seat => ({
  name: consumer.name,
  fetch: ({ alone, bytes, count, maxAttempts }: FetchLimit) => consumer.fetch({ alone, bytes, count, maxAttempts }),
  settle: consumer.settle,
  extend: ([first, ...others]) => (first === undefined ? Effect.succeed([]) : consumer.extend([first, ...others])),
  mark: (origin, id) => Effect.as(consumer.mark(origin, id), "done"),
  order: undefined
})

export const owning = (name: string, owner: Owner, claimed: number): Seat => ({
  name,
  fetch: owner.fetch,
  settle: owner.settle,
  extend: owner.extend,
  mark: owner.mark,
  order: { fence: owner.fence, heldBack: owner.heldBack, parked: owner.parked, claimed }
})
