/**
 * What a group knows of a message that it has begun to deliver, and those of them that wait for another consumer.
 *
 * @since 0.1.0
 */
import type * as Result from "effect/Result"
import type { Content, Entry } from "../Transport.ts"
import { Heap, type Identified, order, type Position } from "./memoryStructures.ts"

/** A message's bytes and what they mean. Made once, shared by all that refer to it, never changed. */
export interface Payload {
  readonly content: Result.Result<Content, string>
  readonly raw: Uint8Array
}

/** An entry of a topic's own log. */
export interface Stored extends Identified {
  readonly payload: Payload
}

/** What a member has started. */
export type Mark = Position | ReadonlySet<string>

/** A member of a group, as the group sees it. */
export class Member {
  readonly name: string
  visibility: number
  lastSeen: number
  /** Who goes by this name: the last one that took it. */
  seat: object | undefined
  /** It wants no share of an ordered group's logs. */
  rests = false
  /** How many of its fetches wait now: one that waits is alive. */
  waiting = 0
  /** What it holds, the lease that ends first in front. */
  readonly held = new Set<Tracked>()
  /** Behind a position, nothing that it holds has been started; or only what a set names; `undefined`: anything may have. */
  readonly marks: { main: Mark | undefined; retry: Mark | undefined } = { main: undefined, retry: undefined }

  constructor(name: string, visibility: number, now: number) {
    this.name = name
    this.visibility = visibility
    this.lastSeen = now
  }
}

/** An entry of one of a group's two logs, from its first delivery (in the retry log: from the start) until it is settled. */
export class Tracked implements Identified {
  readonly origin: "main" | "retry"
  readonly stream: string
  readonly ms: number
  readonly seq: number
  readonly id: string
  readonly original: Identified
  readonly payload: Payload
  /** Attempts counted before this entry was made. */
  readonly base: number
  /** Attempts of this entry, the running one included. */
  count = 0
  /** Which delivery of this entry is the last one: the fence. */
  delivery = 0
  owner: Member | undefined = undefined
  leaseFrom = 0
  firstDelivered: number | undefined
  readonly redriven: string | undefined
  readonly key: string | undefined
  settled = false

  constructor(
    origin: "main" | "retry",
    stream: string,
    at: Identified,
    options: {
      readonly original: Identified
      readonly payload: Payload
      readonly base: number
      readonly firstDelivered: number | undefined
      readonly redriven: string | undefined
      readonly key?: string | undefined
    }
  ) {
    this.origin = origin
    this.stream = stream
    this.ms = at.ms
    this.seq = at.seq
    this.id = at.id
    this.original = options.original
    this.payload = options.payload
    this.base = options.base
    this.firstDelivered = options.firstDelivered
    this.redriven = options.redriven
    this.key = options.key
  }

  deliver(member: Member, now: number): Delivered {
    this.owner = member
    this.count++
    this.delivery++
    this.leaseFrom = now
    member.held.add(this)
    return new Delivered(this, (this.firstDelivered ??= now))
  }

  /** Takes it from whoever holds it. */
  disown(): void {
    this.owner?.held.delete(this)
    this.owner = undefined
  }
}

/** The entry that a consumer is given. */
export class Delivered implements Entry {
  readonly origin: "main" | "retry"
  readonly stream: string
  readonly id: string
  readonly originalId: string
  readonly attempt: number
  readonly reclaims: number
  readonly firstDelivered: number
  readonly redriven: string | undefined
  readonly key: string | undefined
  readonly size: number
  readonly content: Result.Result<Content, string>
  readonly tracked: Tracked
  readonly delivery: number

  constructor(tracked: Tracked, firstDelivered: number) {
    this.origin = tracked.origin
    this.stream = tracked.stream
    this.id = tracked.id
    this.originalId = tracked.original.id
    this.attempt = tracked.base + tracked.count
    this.reclaims = tracked.count - 1
    this.firstDelivered = firstDelivered
    this.redriven = tracked.redriven
    this.key = tracked.key
    this.size = tracked.payload.raw.length
    this.content = tracked.payload.content
    this.tracked = tracked
    this.delivery = tracked.delivery
  }
}

/** Whether the entry came from this backend; a copy of one is as good as the object itself. */
export const isDelivered = (entry: Entry): entry is Entry & Pick<Delivered, "tracked" | "delivery"> =>
  "tracked" in entry && entry.tracked instanceof Tracked && "delivery" in entry && typeof entry.delivery === "number"

/** In this order what was given back is taken. */
export const byTurn = (self: Tracked, that: Tracked): number =>
  self.origin === that.origin ? order(self, that) : self.origin === "retry" ? -1 : 1

/**
 * Deliveries that were given back or taken from the dead, and belong to whoever comes next.
 *
 * Which of them must be taken alone depends on how many attempts the asking consumer allows. They are kept by the
 * greatest such number under which they are suspects, so that the others are found without looking at these.
 */
export class Returned {
  private readonly byThreshold = new Map<number, Heap<Tracked>>()
  size = 0

  add(tracked: Tracked): void {
    // its count is how many consumers died of it or beside it; releases have taken theirs back
    const threshold = tracked.count >= 2 ? Infinity : tracked.count === 1 ? tracked.base + 2 : 0
    let heap = this.byThreshold.get(threshold)
    if (heap === undefined) this.byThreshold.set(threshold, (heap = new Heap(byTurn)))
    heap.push(tracked)
    this.size++
  }

  /** Lets go of all but those of the retry log. */
  retainRetries(): void {
    this.size = 0
    for (const heap of this.byThreshold.values()) {
      heap.retain(({ origin }) => origin === "retry")
      this.size += heap.size
    }
  }

  hasSuspects(maxAttempts: number): boolean {
    return this.peek(maxAttempts, true) !== undefined
  }

  peek(maxAttempts: number, suspect: boolean): Tracked | undefined {
    return this.first(maxAttempts, suspect)?.[1].peek()
  }

  take(maxAttempts: number, suspect: boolean): Tracked | undefined {
    const found = this.first(maxAttempts, suspect)
    if (found === undefined) return undefined
    const [threshold, heap] = found
    const tracked = heap.pop()
    if (heap.size === 0) this.byThreshold.delete(threshold)
    this.size--
    return tracked
  }

  private first(maxAttempts: number, suspect: boolean): readonly [number, Heap<Tracked>] | undefined {
    if (this.size === 0) return undefined
    let found: readonly [number, Heap<Tracked>] | undefined
    for (const entry of this.byThreshold) {
      if (maxAttempts <= entry[0] !== suspect) continue
      const here = entry[1].peek()
      const best = found?.[1].peek()
      if (here !== undefined && (best === undefined || byTurn(here, best) < 0)) found = entry
    }
    return found
  }
}
