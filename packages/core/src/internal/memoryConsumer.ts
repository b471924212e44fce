/**
 * A consumer of the in-memory log: a member's view of its group.
 *
 * @since 0.1.0
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { DuplicateSubscription, InvalidOption, TransportError, Unavailable } from "../Errors.ts"
import type { Consumer, Fetched, FetchLimit, JoinOptions } from "../Transport.ts"
import type { Bells } from "./memoryBells.ts"
import { isDelivered, Member } from "./memoryDelivery.ts"
import type { Group } from "./memoryGroup.ts"
import { type Log, readStart, type Store } from "./memoryStore.ts"
import { parseId, type Position } from "./memoryStructures.ts"

/**
 * Takes a place, unless its name is not free; the Scope's end leaves it, or undoes the joining where nobody has kept it.
 */
export const sit = (
  store: Store,
  bells: Bells,
  options: Omit<JoinOptions, "ownConnection">,
  isFree: (now: number) => boolean = () => true
): Effect.Effect<Seat, TransportError, Scope.Scope> => {
  const from = readStart(options.from)
  if (from === undefined) {
    const problem = `${JSON.stringify(options.from)} holds no entry id: give one of the form "1700000000000-0"`
    return Effect.fail(
      new TransportError({ operation: "join", reason: new InvalidOption({ option: "from", problem }) })
    )
  }
  const free = bells.step((now) => (isFree(now) ? new Seat(store, bells, options, from, now) : undefined))
  return Effect.acquireRelease(
    Effect.flatMap(free, (seat) => (seat === undefined ? Effect.fail(duplicate(options)) : Effect.succeed(seat))),
    (seat) => bells.step((now) => seat.leave(now))
  )
}

/** Another that lives has the name. */
export const duplicate = ({ group }: Pick<JoinOptions, "group">): TransportError =>
  new TransportError({ operation: "join", reason: new DuplicateSubscription(group) })

/** Joins. */
export const join = (
  store: Store,
  bells: Bells,
  options: JoinOptions
): Effect.Effect<Consumer, TransportError, Scope.Scope> =>
  Effect.map(sit(store, bells, options), (seat): Consumer => ({
    name: seat.name,
    keep: () => seat.keep(),
    fetch: (limit) =>
      fetch<never>(bells, seat, {
        take: (now) => seat.take(limit, now),
        wait: seat.wait((group) => group.isReady())
      }),
    settle: (settlements) =>
      bells.step((now) => {
        seat.member.lastSeen = now
        return settlements.map((settlement) => seat.group.settle(seat.member, settlement, now))
      }),
    extend: (entries) =>
      bells.step((now) => {
        seat.member.lastSeen = now
        return seat.group.extend(seat.member, entries, now)
      }),
    mark: (origin, id) =>
      bells.step((now) => {
        seat.member.lastSeen = now
        seat.member.marks[origin] = id === undefined ? undefined : parseId(id)
      })
  }))

/**
 * Waits, then takes. The waiting can be interrupted, also where the caller cannot; what was taken reaches the caller, or
 * goes back to the group.
 */
export const fetch = <Lost extends string = never>(
  bells: Bells,
  seat: Seat,
  taking: {
    /** `undefined` where there is nothing to take. */
    readonly take: (now: number) => Fetched | Lost | undefined
    readonly wait: Effect.Effect<void>
  }
): Effect.Effect<Fetched | Lost, TransportError> =>
  Effect.uninterruptibleMask((restore) => {
    let inHand: Fetched | undefined
    const handOver = Effect.sync(() => {
      const fetched = inHand ?? nothing
      inHand = undefined
      return fetched
    })
    const attempt: Effect.Effect<Fetched | Lost, TransportError> = Effect.withFiber((fiber) => {
      if (seat.left) return Effect.fail(hasLeft)
      const taken = bells.stepUnsafe(fiber, taking.take)
      if (typeof taken === "string") return Effect.succeed(taken)
      inHand = taken
      // a fiber may be made to yield, and be interrupted, between a taking and the handing over, but not behind that: it
      // is a `sync`, whose value is with the caller before the fiber can yield again
      return inHand === undefined ? Effect.flatMap(Effect.interruptible(taking.wait), () => attempt) : handOver
    })
    return Effect.catchCause(restore(attempt), (cause) =>
      Effect.andThen(
        bells.step(() => {
          if (inHand !== undefined) seat.giveBack(inHand)
        }),
        Effect.failCause(cause)
      )
    )
  })

const nothing: Fetched = { entries: [], suspects: false }

const hasLeft = new TransportError({
  operation: "fetch",
  reason: new Unavailable({ detail: "this consumer has left its group: join again" })
})

/** A name's place in a group. */
export class Seat {
  readonly name: string
  readonly log: Log
  group: Group
  member: Member
  left = false
  private kept = false
  /** How the name was, which was somebody's before. */
  private readonly before: Pick<Member, "seat" | "visibility" | "lastSeen"> | undefined
  private readonly store: Store
  private readonly bells: Bells

  constructor(
    store: Store,
    bells: Bells,
    options: Omit<JoinOptions, "ownConnection">,
    from: "new" | "beginning" | Position,
    now: number
  ) {
    this.store = store
    this.bells = bells
    this.name = options.consumer ?? store.nextConsumer()
    this.log = store.ensureLog(options.group, true)
    this.group =
      this.log.groups.get(options.group.subscription) ??
      store.createGroup(this.log, options.group.subscription, this.log.start(from), now)
    const visibility = Duration.toMillis(options.visibilityTimeout)
    const member = this.group.members.get(this.name)
    if (member === undefined) {
      this.member = new Member(this.name, visibility, now)
      this.group.members.set(this.name, this.member)
    } else {
      this.before = { seat: member.seat, visibility: member.visibility, lastSeen: member.lastSeen }
      // what its predecessor holds stays with the name, by the newcomer's timeout, and counts as started
      this.member = member
      member.visibility = visibility
      member.lastSeen = now
      member.marks.main = undefined
      member.marks.retry = undefined
      this.group.announceLease(member)
    }
    this.member.seat = this
  }

  keep(): void {
    this.kept = true
    this.group.provisional = false
    this.log.provisional = false
  }

  take(limit: FetchLimit, now: number): Fetched | undefined {
    this.sit(now)
    this.member.lastSeen = now
    return this.group.take(this.member, limit, now)
  }

  /** Takes its place again, where group or member were removed in the meantime. */
  sit(now: number): void {
    this.group = this.store.restore(this.log, this.group, now)
    const there = this.group.members.get(this.name)
    if (there !== undefined) this.member = there
    else {
      this.group.members.set(this.name, this.member)
      this.member.seat = this
    }
  }

  wait(isReady: (group: Group) => boolean): Effect.Effect<void> {
    return Effect.suspend(() => {
      const { group, member } = this
      member.waiting++
      return Effect.onExit(
        this.bells.wait(group.fetchers, () => this.left || isReady(group)),
        () =>
          this.bells.step((now) => {
            member.waiting--
            member.lastSeen = now
          })
      )
    })
  }

  giveBack({ entries }: Fetched): void {
    for (const entry of entries) {
      if (isDelivered(entry) && entry.tracked.owner === this.member) this.group.giveBack(entry.tracked)
    }
  }

  leave(now: number): void {
    this.left = true
    const isOurs = this.member.seat === this
    if (isOurs && this.before !== undefined && !this.kept) Object.assign(this.member, this.before)
    else if (isOurs && this.group.members.get(this.name) === this.member) {
      for (const tracked of this.member.held) this.group.giveBack(tracked)
      this.member.lastSeen = now
      this.group.removeMember(this.member)
    }
    if (!this.kept) this.store.rollback(this.log, this.group)
    this.bells.ring(this.group.fetchers)
  }
}
