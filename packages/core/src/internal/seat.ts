/** What a partition is read and settled through, be it competed for or owned. */
import * as Effect from "effect/Effect"
import type { TransportError } from "../Errors.ts"
import type { Consumer, Entry, Fetched, FetchLimit, Owner, OwnerLimit } from "../Transport.ts"
import { compareIds } from "./ids.ts"

/** What of a log may have been started: nothing behind an id. */
export class UpTo {
  readonly id: string

  constructor(id = "0-0") {
    this.id = id
  }

  covers(id: string): boolean {
    return compareIds(id, this.id) <= 0
  }

  and(ids: ReadonlyArray<string>): UpTo {
    return new UpTo(ids.reduce((last, id) => (compareIds(id, last) > 0 ? id : last), this.id))
  }
}

/** By key, messages do not start in the order of the log: these, and no others. */
export class Only {
  readonly ids: ReadonlySet<string>

  constructor(ids: ReadonlySet<string> = new Set()) {
    this.ids = ids
  }

  covers(id: string): boolean {
    return this.ids.has(id)
  }

  and(ids: ReadonlyArray<string>): Only {
    return new Only(new Set([...this.ids, ...ids]))
  }
}

export type Extent = UpTo | Only

export interface Seat {
  readonly name: string
  readonly fetch: (limit: OwnerLimit) => Effect.Effect<Fetched | "lost", TransportError>
  readonly settle: Consumer["settle"]
  readonly extend: (entries: ReadonlyArray<Entry>) => Effect.Effect<ReadonlyArray<Entry> | "lost", TransportError>
  /** `undefined`: anything may have been started. */
  readonly mark: (origin: Entry["origin"], extent: Extent | undefined) => Effect.Effect<"done" | "lost", TransportError>
  /** Where nothing has been started. */
  readonly unstarted: Extent
  /** Of an owner alone; `claimed` is when it claimed, by the runtime's clock. */
  readonly order: (Pick<Owner, "fence" | "heldBack" | "parked"> & { readonly claimed: number }) | undefined
}

export const competing = (consumer: Consumer): Seat => ({
  name: consumer.name,
  fetch: ({ alone, bytes, count, maxAttempts }: FetchLimit) => consumer.fetch({ alone, bytes, count, maxAttempts }),
  settle: consumer.settle,
  extend: ([first, ...others]) => (first === undefined ? Effect.succeed([]) : consumer.extend([first, ...others])),
  mark: (origin, extent) => Effect.as(consumer.mark(origin, extent instanceof UpTo ? extent.id : undefined), "done"),
  unstarted: new UpTo(),
  order: undefined
})

export const owning = (name: string, owner: Owner, claimed: number): Seat => ({
  name,
  fetch: owner.fetch,
  settle: owner.settle,
  extend: owner.extend,
  mark: (origin, extent) => owner.mark(origin, extent instanceof Only ? [...extent.ids] : undefined),
  unstarted: new Only(),
  order: { fence: owner.fence, heldBack: owner.heldBack, parked: owner.parked, claimed }
})
