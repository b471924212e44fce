/**
 * A worker of an ordered group on the in-memory log, and the owner that it becomes.
 *
 * @since 0.1.0
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import type { TransportError } from "../Errors.ts"
import type { EnrollOptions, Owner, OwnerLimit, Roster, Worker } from "../Transport.ts"
import type { Bells } from "./memoryBells.ts"
import { duplicate, fetch, type Seat, sit } from "./memoryConsumer.ts"
import type { Member } from "./memoryDelivery.ts"
import type { Order } from "./memoryOrder.ts"
import type { Store } from "./memoryStore.ts"

/** Enrols; the Scope's end leaves, or undoes it where nobody has kept it. */
export const enroll: (
  store: Store,
  bells: Bells,
  options: EnrollOptions
) => Effect.Effect<Worker, TransportError, Scope.Scope> = Effect.fnUntraced(function* (
  store: Store,
  bells: Bells,
  options: EnrollOptions
) {
  const { consumer, group } = options
  // opened first, so closed last: whoever hears of it finds the seat empty
  let taken: Seat | undefined
  yield* Effect.addFinalizer(() => bells.step(() => taken && bells.ring(taken.group.order.changes)))
  const seat = yield* sit(store, bells, options, (now) => {
    const other = consumer === undefined ? undefined : store.group(group)?.members.get(consumer)
    return other === undefined || !isThere(other, now)
  })
  taken = seat
  yield* bells.step(() => succeed(bells, seat))
  return {
    name: seat.name,
    keep: () => seat.keep(),
    roster: Effect.flatMap(
      bells.step((now) => {
        if (!hasName(bells, seat, now)) return undefined
        seat.member.lastSeen = now
        setRests(bells, seat, false)
        return rosterOf(seat, now)
      }),
      (roster) => (roster === undefined ? Effect.fail(duplicate(options)) : Effect.succeed(roster))
    ),
    rest: bells.step(() => {
      if (seat.member.seat === seat) setRests(bells, seat, true)
    }),
    watch: (changed) =>
      Effect.acquireRelease(
        Effect.sync(() => {
          // a function of its own, so that one callback registered twice is two
          const listener = () => changed()
          seat.group.order.changes.listeners.add(listener)
          return listener
        }),
        (listener) => Effect.sync(() => seat.group.order.changes.listeners.delete(listener))
      ),
    claim: Effect.map(
      Effect.acquireRelease(
        bells.step((now) => claim(bells, seat, now)),
        (claimed) =>
          bells.step(() => {
            if (claimed !== undefined) cede(bells, seat, claimed)
          })
      ),
      (fence) => (fence === undefined ? Option.none() : Option.some(ownerOf(bells, seat, fence)))
    )
  }
})

const isThere = (member: Member, now: number): boolean => member.lastSeen + member.visibility > now

/** Whoever went by its name owns nothing any more: by its own signs of life it would for ever. */
const succeed = (bells: Bells, { group: { order }, member }: Seat): void => {
  if (order.owner === member) order.owner = undefined
  bells.ring(order.changes)
}

/** Whether it goes by its name still, or again: another that lives may have taken it while this one was silent. */
const hasName = (bells: Bells, seat: Seat, now: number): boolean => {
  seat.sit(now)
  const { member } = seat
  if (member.seat === seat) return true
  if (isThere(member, now)) return false
  member.seat = seat
  succeed(bells, seat)
  return true
}

const setRests = (bells: Bells, { group, member }: Seat, rests: boolean): void => {
  if (member.rests === rests) return
  member.rests = rests
  bells.ring(group.order.changes)
}

/** When the lease of the log ends. */
const leaseOf = ({ owner, renewed }: Order): number => (owner === undefined ? 0 : renewed + owner.visibility)

const rosterOf = ({ group }: Seat, now: number): Roster => {
  const { order } = group
  const owner = leaseOf(order) > now ? order.owner : undefined
  return {
    workers: [...group.members.values()]
      .filter((member) => isThere(member, now) && !member.rests)
      .map(({ name }) => name),
    owner: Option.map(Option.fromUndefinedOr(owner), ({ name }) => name),
    expires: Option.map(Option.fromUndefinedOr(owner), () => Duration.millis(leaseOf(order) - now))
  }
}

/** The fence of a new owner; `undefined` where there is one. */
const claim = (bells: Bells, seat: Seat, now: number): number | undefined => {
  if (!hasName(bells, seat, now)) return undefined
  const { group, member } = seat
  const { order } = group
  if (leaseOf(order) > now) return undefined
  member.lastSeen = now
  order.renewed = now
  group.seize()
  member.marks.main = undefined
  member.marks.retry = undefined
  order.owner = member
  order.fence += 1
  bells.ring(order.changes)
  return order.fence
}

const owns = ({ group, member }: Seat, fence: number): boolean =>
  group.order.owner === member && group.order.fence === fence

const renew = ({ group, member }: Seat, now: number): void => {
  member.lastSeen = now
  group.order.renewed = now
}

const cede = (bells: Bells, seat: Seat, fence: number): void => {
  if (!owns(seat, fence)) return
  const { group, member } = seat
  for (const tracked of member.held) group.giveBack(tracked)
  group.order.owner = undefined
  bells.ring(group.order.changes)
}

const ownerOf = (bells: Bells, seat: Seat, fence: number): Owner => {
  const { order } = seat.group
  /** One step of who still owns it. */
  const step = <A, B>(other: (now: number) => B, own: (now: number) => A): Effect.Effect<A | B> =>
    bells.step((now) => {
      if (!owns(seat, fence)) return other(now)
      renew(seat, now)
      return own(now)
    })
  const lost = () => "lost" as const
  const take = (limit: OwnerLimit) => (now: number) => {
    if (!owns(seat, fence)) return lost()
    renew(seat, now)
    return seat.group.draw(seat.member, limit, now)
  }
  return {
    fence,
    heldBack: [...order.heldBack].map(([key, since]) => ({ key, since })),
    parked: order.parked,
    fetch: (limit) =>
      fetch<"lost">(bells, seat, {
        take: take(limit),
        wait: seat.wait((group) => !owns(seat, fence) || group.isReady(limit.unread))
      }),
    settle: (settlements) =>
      step(
        () => settlements.map((settlement) => seat.group.refusal(settlement)),
        (now) => settlements.map((settlement) => seat.group.settle(seat.member, settlement, now))
      ),
    extend: (entries) => step(lost, (now) => seat.group.extend(seat.member, entries, now)),
    mark: (origin, ids) =>
      step(lost, () => {
        seat.member.marks[origin] = ids && new Set(ids)
        return "done"
      })
  }
}
