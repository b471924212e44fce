/**
 * A subscription's place on a log: what it has read, what is in flight, its retries, its dead letters.
 *
 * Plain state and plain functions of it; each call is one step, whole before anybody else runs. Times are given,
 * milliseconds since the epoch.
 *
 * @since 0.1.0
 */
import * as Duration from "effect/Duration"
import * as Option from "effect/Option"
import type {
  Entry,
  Fetched,
  FetchLimit,
  GroupStanding,
  Inspection,
  Outcome,
  OwnerLimit,
  Settled,
  Settlement
} from "../Transport.ts"
import { Bell, type Bells } from "./memoryBells.ts"
import type { DeadLetterBox } from "./memoryDeadLetters.ts"
import {
  byTurn,
  isDelivered,
  type Mark,
  type Member,
  type Payload,
  Returned,
  type Stored,
  Tracked
} from "./memoryDelivery.ts"
import { reaches, Retries, type Retry } from "./memoryRetries.ts"
import { Order } from "./memoryOrder.ts"
import { order, type Position, type Sequence } from "./memoryStructures.ts"

/** Where a group begins: at an index of the log, and behind a position that is still to come. */
export interface Start {
  readonly index: number
  readonly behind: Position | undefined
}

// moves and reclaims in one call of tend
const tendBatch = 1024
// a consumer that has given no sign of life for so long, and for ten visibility timeouts, is dead
const shortestDeath = 300_000

/** Whether one more fits into the bytes of the limit; a first one does, whatever its size. */
const fitting = ({ bytes }: FetchLimit, taken: ReadonlyArray<Entry>) => {
  let left = bytes
  return (payload: Payload): boolean => {
    left -= payload.raw.length
    return left >= 0 || taken.length === 0
  }
}

export class Group {
  readonly subscription: string
  readonly stream: string
  readonly retryStream: string
  readonly members = new Map<string, Member>()
  readonly deadLetters: DeadLetterBox
  /** Rings when there may be something to fetch. */
  readonly fetchers = new Bell()
  /** Rings when `outstanding` may answer differently. */
  readonly progress = new Bell()
  /** Grows with every ring of `progress`. */
  version = 0
  /** Which version a fiber knew when it asked what is outstanding. */
  readonly asked = new WeakMap<object, number>()
  /** Created by a join that nobody has kept: undone with the last of them. */
  provisional = true

  private readonly entries: Sequence<Stored>
  private readonly bells: Bells
  /** Rings when `tend` has something new to do or to wait for. */
  private readonly tenders: Bell
  private next: number
  private behind: Position | undefined
  private touched = false
  /** Dead letters of a former group of this name. */
  private readonly inherited: number
  /** When it was made, or when the last of its former members was heard of. */
  private seen: number
  /** Deliveries of the main log that are not settled, in the order of their ids. */
  private readonly main = new Set<Tracked>()
  /** Who owns the log, and what waits for the order of keys. */
  readonly order = new Order()
  private readonly returned = new Returned()
  private readonly retries: Retries
  /** When those who tend will be back at the latest. */
  private announced = Infinity

  constructor(
    names: { readonly subscription: string; readonly stream: string; readonly retryStream: string },
    entries: Sequence<Stored>,
    start: Start,
    deadLetters: DeadLetterBox,
    bells: Bells,
    tenders: Bell,
    now: number
  ) {
    this.deadLetters = deadLetters
    this.inherited = deadLetters.size
    this.seen = now
    this.subscription = names.subscription
    this.stream = names.stream
    this.retryStream = names.retryStream
    this.retries = new Retries(names.retryStream)
    this.entries = entries
    this.next = start.index
    this.behind = start.behind
    this.bells = bells
    this.tenders = tenders
  }

  /** Nothing was ever delivered, and nothing waits that is not in the topic's own log. */
  get isUntouched(): boolean {
    return !this.touched && this.retries.isUntouched && this.deadLetters.size === this.inherited
  }

  /** Something changed that may concern a waiter of `progress`. */
  touch(): void {
    this.version++
    this.bells.ring(this.progress)
  }

  // -----------------------------------------------------------------------------
  // taking
  // -----------------------------------------------------------------------------

  /** Whether a fetch would not have to wait. */
  isReady(unread = true): boolean {
    return this.returned.size > 0 || this.retries.peek() !== undefined || (unread && this.nextUnread() !== undefined)
  }

  private nextUnread(): Stored | undefined {
    if (this.next < this.entries.start) this.next = this.entries.start
    for (;;) {
      const stored = this.entries.at(this.next)
      if (stored === undefined || this.behind === undefined) return stored
      if (order(stored, this.behind) > 0) this.behind = undefined
      else this.next++
    }
  }

  /** Takes what there is; `undefined` where the consumer has to wait. */
  take(member: Member, limit: FetchLimit, now: number, unread = true): Fetched | undefined {
    const taken: Array<Entry> = []
    if (limit.alone) {
      const suspect = this.returned.take(limit.maxAttempts, true)
      if (suspect !== undefined) taken.push(suspect.deliver(member, now))
    } else {
      this.takeMany(member, limit, now, taken, unread)
    }
    const suspects = this.returned.hasSuspects(limit.maxAttempts)
    if (taken.length > 0) this.announce(now + member.visibility)
    return taken.length > 0 || suspects || limit.alone ? { entries: taken, suspects } : undefined
  }

  /** As `take`; but nothing is taken from behind what must be taken alone, and that not before what lies in front of it. */
  draw(member: Member, limit: OwnerLimit, now: number): Fetched | undefined {
    const suspect = this.returned.peek(limit.maxAttempts, true)
    const other = this.returned.peek(limit.maxAttempts, false)
    const isFirst = suspect !== undefined && (other === undefined || byTurn(suspect, other) < 0)
    if (suspect === undefined || (limit.alone && isFirst)) return this.take(member, limit, now, limit.unread)
    const taken: Array<Entry> = []
    if (!limit.alone) this.takeReturned(member, limit, now, taken, fitting(limit, taken), suspect)
    if (taken.length > 0) this.announce(now + member.visibility)
    return { entries: taken, suspects: !limit.alone }
  }

  /** Up to this one, if it is given; whether there was room for all. */
  private takeReturned(
    member: Member,
    { count, maxAttempts }: FetchLimit,
    now: number,
    taken: Array<Entry>,
    fits: (payload: Payload) => boolean,
    until?: Tracked
  ): boolean {
    while (taken.length < Math.max(1, count)) {
      const tracked = this.returned.peek(maxAttempts, false)
      if (tracked === undefined || (until !== undefined && byTurn(until, tracked) < 0)) break
      if (!fits(tracked.payload)) return false
      this.returned.take(maxAttempts, false)
      taken.push(tracked.deliver(member, now))
    }
    return true
  }

  private takeMany(member: Member, limit: FetchLimit, now: number, taken: Array<Entry>, unread: boolean): void {
    const count = Math.max(1, limit.count)
    const fits = fitting(limit, taken)
    if (!this.takeReturned(member, limit, now, taken, fits)) return
    while (taken.length < count) {
      const tracked = this.retries.peek()
      if (tracked === undefined) break
      if (!fits(tracked.payload)) return
      this.retries.take()
      taken.push(tracked.deliver(member, now))
    }
    if (!unread) return
    while (taken.length < count) {
      const stored = this.nextUnread()
      if (stored === undefined || !fits(stored.payload)) return
      this.next++
      this.touched = true
      const tracked = new Tracked("main", this.stream, stored, {
        original: stored,
        payload: stored.payload,
        base: 0,
        firstDelivered: undefined,
        redriven: undefined
      })
      this.main.add(tracked)
      taken.push(tracked.deliver(member, now))
    }
  }

  // -----------------------------------------------------------------------------
  // settling
  // -----------------------------------------------------------------------------

  settle(member: Member, { entry, key: known, outcome, repeated }: Settlement, now: number): Settled {
    if (!isDelivered(entry)) return "lost"
    const tracked = entry.tracked
    // whoever knows of no key, since the topic has none any more, lets come what waits behind it all the same
    const key = known ?? tracked.key
    if (tracked.owner !== member || tracked.delivery !== entry.delivery) {
      return this.refusal({ entry, repeated })
    }
    switch (outcome._tag) {
      case "Ack":
        this.finish(tracked)
        return this.passOn(tracked, key, now) ? "freed" : "done"
      case "Release":
        this.giveBack(tracked)
        break
      case "Retry":
        if (key !== undefined) this.order.holdBack(key, tracked.original)
        this.schedule(now + Duration.toMillis(outcome.delay), retryOf(tracked, tracked.count, key))
        this.finish(tracked)
        break
      case "Park":
        this.park(retryOf(tracked, tracked.count - 1, key), now)
        this.finish(tracked)
        break
      case "DeadLetter": {
        const id = this.bury(tracked, outcome, now)
        return this.passOn(tracked, key, now) ? { _tag: "DeadLettered", id, freed: true } : { _tag: "DeadLettered", id }
      }
    }
    return "done"
  }

  /** Why nothing is settled: where nobody holds it, an earlier call of the same worker may have settled it. */
  refusal({ entry, repeated }: Pick<Settlement, "entry" | "repeated">): "unknown" | "lost" {
    return repeated && isDelivered(entry) && entry.tracked.owner === undefined ? "unknown" : "lost"
  }

  private park(retry: Retry, now: number): void {
    if (this.order.park(retry)) return
    this.retries.come(retry, now)
    this.retriesCame()
  }

  /** Of a key that is held back, lets the next one come; whether it is held back no longer. */
  private passOn({ origin }: Tracked, key: string | undefined, now: number): boolean {
    if (origin !== "retry" || key === undefined || !this.order.isHeldBack(key)) return false
    const next = this.order.pass(key)
    if (next === undefined) return true
    this.retries.come(next, now)
    this.retriesCame()
    return false
  }

  private bury(tracked: Tracked, outcome: Outcome & { readonly _tag: "DeadLetter" }, now: number): string {
    const id = this.deadLetters.add(tracked, outcome, now)
    this.finish(tracked)
    return id
  }

  private finish(tracked: Tracked): void {
    tracked.disown()
    tracked.settled = true
    if (tracked.origin === "main") this.main.delete(tracked)
    else this.retries.inFlight--
    this.touch()
  }

  /** Gives a delivery back, at no cost of an attempt. */
  giveBack(tracked: Tracked): void {
    tracked.disown()
    tracked.count--
    this.put(tracked)
  }

  private put(tracked: Tracked): void {
    this.returned.add(tracked)
    this.bells.ring(this.fetchers)
    this.touch()
  }

  private schedule(due: number, retry: Retry): void {
    this.retries.schedule(due, retry)
    this.announce(due)
  }

  /** Returns those that are not this member's any more. */
  extend(member: Member, entries: ReadonlyArray<Entry>, now: number): ReadonlyArray<Entry> {
    return entries.filter((entry) => {
      if (!isDelivered(entry) || entry.tracked.owner !== member || entry.tracked.delivery !== entry.delivery)
        return true
      entry.tracked.leaseFrom = now
      // to the end: what is held stays in the order in which its leases end
      member.held.delete(entry.tracked)
      member.held.add(entry.tracked)
      return false
    })
  }

  // -----------------------------------------------------------------------------
  // tending
  // -----------------------------------------------------------------------------

  private announce(at: number): void {
    if (at >= this.announced) return
    this.announced = at
    this.bells.ring(this.tenders)
  }

  /** A member whose visibility timeout changed: what it holds may fall due earlier. */
  announceLease(member: Member): void {
    const first = firstOf(member.held)
    if (first !== undefined) this.announce(first.leaseFrom + member.visibility)
  }

  tend(now: number) {
    const moved = this.retries.moveDue(now, tendBatch)
    if (moved > 0) this.retriesCame()
    const { reclaimed, dropped } = this.reclaim(now)
    const removed = this.removeDead(now)
    let next = this.retries.nextDue
    for (const member of this.members.values()) {
      const first = firstOf(member.held)
      if (first !== undefined) next = Math.min(next, first.leaseFrom + member.visibility)
    }
    this.announced = next
    const wait = next === Infinity ? Option.none() : Option.some(Duration.millis(Math.max(0, next - now)))
    return { tended: { moved, reclaimed, removed, poison: 0, next: wait }, dropped }
  }

  private retriesCame(): void {
    this.bells.ring(this.fetchers)
    this.touch()
  }

  /** Appends to the retry log what no failure has put there. */
  appendRaw(payload: Payload, now: number): string {
    const { id } = this.retries.append(payload, now)
    this.retriesCame()
    return id
  }

  private reclaim(now: number): { readonly reclaimed: number; readonly dropped: number } {
    let reclaimed = 0
    let dropped = 0
    for (const member of this.members.values()) {
      for (const tracked of member.held) {
        if (tracked.leaseFrom + member.visibility > now || reclaimed + dropped >= tendBatch) break
        if (tracked.origin === "main" && this.isTrimmed(tracked)) {
          this.finish(tracked)
          dropped++
          continue
        }
        this.takeBack(member, tracked)
        // one step of its own later, it would put messages before those that were taken from it
        if (this.order.owner === member) this.endClaim()
        reclaimed++
      }
    }
    return { reclaimed, dropped }
  }

  private endClaim(): void {
    this.order.owner = undefined
    this.bells.ring(this.order.changes)
    // whoever waits as its owner is to hear of it
    this.bells.ring(this.fetchers)
  }

  /** Takes from everybody what they hold. */
  seize(): void {
    for (const member of this.members.values()) {
      for (const tracked of member.held) this.takeBack(member, tracked)
    }
  }

  private takeBack(member: Member, tracked: Tracked): void {
    const mark = member.marks[tracked.origin]
    // what was known not to have started costs no attempt
    if (mark !== undefined && !covers(mark, tracked)) tracked.count--
    tracked.disown()
    this.put(tracked)
  }

  private isTrimmed(tracked: Tracked): boolean {
    const first = this.entries.at(this.entries.start)
    return first === undefined || order(tracked, first) < 0
  }

  /** Index in the log of the first entry that is not settled; `end` of the log where all there is was settled. */
  get unsettled(): number {
    this.nextUnread()
    const first = firstOf(this.main)
    return first === undefined ? this.next : this.entries.search((stored) => order(stored, first) >= 0)
  }

  /**
   * It has disappeared, and was created again from the first entry that it had not settled: what was delivered from there on
   * comes again, as never delivered. Retries are in a log of their own, and stay. Returns the ids of what comes again.
   */
  disappear(): ReadonlyArray<string> {
    const from = this.unsettled
    const again: Array<string> = []
    for (let index = from; index < this.next; index++) {
      const stored = this.entries.at(index)
      if (stored !== undefined) again.push(stored.id)
    }
    for (const tracked of this.main) tracked.disown()
    this.main.clear()
    this.returned.retainRetries()
    this.next = from
    this.bells.ring(this.fetchers)
    this.touch()
    return again
  }

  standing(now: number): GroupStanding {
    const first = this.entries.at(this.unsettled)
    let seen = this.seen
    let waits = false
    for (const member of this.members.values()) {
      seen = Math.max(seen, member.lastSeen)
      waits ||= member.waiting > 0
    }
    return {
      name: this.subscription,
      missing: false,
      consumers: this.members.size,
      pending: this.main.size,
      holds: Option.map(Option.fromUndefinedOr(first), ({ id }) => id),
      silent: Duration.millis(waits ? 0 : now - seen)
    }
  }

  /** How many members are not dead, whatever they hold. */
  living(now: number): number {
    return Array.from(this.members.values()).filter((member) => !isDead(member, now)).length
  }

  removeMember(member: Member): void {
    this.seen = Math.max(this.seen, member.lastSeen)
    this.members.delete(member.name)
  }

  private removeDead(now: number): number {
    let removed = 0
    for (const member of this.members.values()) {
      if (member.held.size > 0 || !isDead(member, now)) continue
      this.removeMember(member)
      removed++
    }
    return removed
  }

  // -----------------------------------------------------------------------------
  // looking
  // -----------------------------------------------------------------------------

  inspect(): Inspection {
    this.nextUnread()
    return {
      waiting: Option.some(this.entries.end - this.next),
      pending: this.main.size + this.retries.inFlight,
      due: this.retries.scheduled + this.retries.unread,
      deadLetters: this.deadLetters.size,
      heldBack: this.order.heldBack.size,
      parked: this.order.parked,
      oldestHeldBack: Option.fromUndefinedOr(this.order.oldest)
    }
  }

  /** What was given back and waits for a consumer; a part of what is pending. */
  get released(): number {
    return this.returned.size
  }

  /** Retries that nobody has moved to the retry log yet. */
  get scheduled(): number {
    return this.retries.scheduled
  }

  outstanding(through: Position, due: "wait" | "ignore", now: number): boolean {
    return (
      reaches(this.nextUnread(), through) ||
      reaches(firstOf(this.main), through) ||
      this.retries.outstanding(through, due === "wait" ? Infinity : now)
    )
  }

  redrive(ids: ReadonlyArray<string>, delay: Duration.Duration, now: number): number {
    let redriven = 0
    for (const id of ids) {
      const letter = this.deadLetters.remove(id)
      if (letter === undefined) continue
      redriven++
      this.schedule(now + Duration.toMillis(delay), {
        original: letter.original,
        payload: letter.payload,
        base: 0,
        firstDelivered: letter.firstDelivered,
        redriven: id
      })
    }
    if (redriven > 0) this.touch()
    return redriven
  }
}

const covers = (mark: Mark, tracked: Tracked): boolean =>
  "ms" in mark ? order(tracked, mark) <= 0 : mark.has(tracked.id)

const isDead = ({ lastSeen, visibility, waiting }: Member, now: number): boolean =>
  waiting === 0 && now - lastSeen >= Math.max(10 * visibility, shortestDeath)

const retryOf = (tracked: Tracked, counted: number, key: string | undefined): Retry => ({
  original: tracked.original,
  payload: tracked.payload,
  base: tracked.base + counted,
  firstDelivered: tracked.firstDelivered,
  redriven: tracked.redriven,
  key
})

const firstOf = <A>(items: ReadonlySet<A>): A | undefined => {
  for (const item of items) return item
  return undefined
}
