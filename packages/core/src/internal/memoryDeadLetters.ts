/**
 * A group's dead letters: found by id, read in order.
 *
 * @since 0.1.0
 */
import * as Option from "effect/Option"
import type { DeadEntry, DeadLetterReason, Outcome } from "../Transport.ts"
import type { Payload, Tracked } from "./memoryDelivery.ts"
import { IdSource, type Identified, order, type Position } from "./memoryStructures.ts"

export interface DeadLetter extends Identified {
  readonly original: Identified
  readonly payload: Payload
  readonly reason: DeadLetterReason
  readonly cause: string
  readonly attempts: number
  readonly firstDelivered: number | undefined
  readonly deadLettered: number
}

const toEntry = (letter: DeadLetter): DeadEntry => ({
  id: letter.id,
  originalId: letter.original.id,
  content: letter.payload.content,
  raw: letter.payload.raw.slice(),
  reason: letter.reason,
  cause: letter.cause,
  attempts: letter.attempts,
  firstDelivered: Option.fromUndefinedOr(letter.firstDelivered),
  deadLettered: letter.deadLettered
})

export class DeadLetterBox {
  private readonly ids = new IdSource()
  private readonly byId = new Map<string, DeadLetter>()
  /** By id, with those that are gone from `byId` until they are half of it. */
  private inOrder: Array<DeadLetter> = []

  get size(): number {
    return this.byId.size
  }

  add(tracked: Tracked, { attempts, cause, reason }: Outcome & { readonly _tag: "DeadLetter" }, now: number): string {
    const letter: DeadLetter = {
      ...this.ids.next(now),
      original: tracked.original,
      payload: tracked.payload,
      reason,
      cause,
      attempts,
      firstDelivered: tracked.firstDelivered,
      deadLettered: now
    }
    this.byId.set(letter.id, letter)
    this.inOrder.push(letter)
    return letter.id
  }

  remove(id: string): DeadLetter | undefined {
    const letter = this.byId.get(id)
    if (letter === undefined) return undefined
    this.byId.delete(id)
    if (this.inOrder.length > 64 && this.byId.size * 2 < this.inOrder.length) {
      this.inOrder = [...this.byId.values()]
    }
    return letter
  }

  get(id: string): Option.Option<DeadEntry> {
    return Option.map(Option.fromUndefinedOr(this.byId.get(id)), toEntry)
  }

  page(after: Position | undefined, limit: number): ReadonlyArray<DeadEntry> {
    const page: Array<DeadEntry> = []
    for (let at = after === undefined ? 0 : this.firstAfter(after); at < this.inOrder.length; at++) {
      const letter = this.inOrder[at]
      if (letter === undefined || page.length >= limit) break
      if (this.byId.has(letter.id)) page.push(toEntry(letter))
    }
    return page
  }

  private firstAfter(position: Position): number {
    let low = 0
    let high = this.inOrder.length
    while (low < high) {
      const middle = (low + high) >>> 1
      const letter = this.inOrder[middle]
      if (letter !== undefined && order(letter, position) > 0) high = middle
      else low = middle + 1
    }
    return low
  }
}
