/** The fetch loop: takes when there is room, alone what must be alone, and goes on trying where the log is out of reach. */
import type * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type { TransportError } from "../Errors.ts"
import type { Entry, OwnerLimit } from "../Transport.ts"
import * as Health from "./health.ts"
import type { Seat } from "./seat.ts"

/** A read that has not failed for so long works, though it has nothing to show. */
const quietlyWorking = Duration.seconds(1)

export interface Options {
  readonly seat: Seat
  readonly health: Health.Health
  /** How much to take now. */
  readonly limit: () => Omit<OwnerLimit, "alone">
  /** `asked` is when they were asked for: the log may have delivered them at any time since. */
  readonly accept: (entries: ReadonlyArray<Entry>, asked: number) => void
  /** The runtime's clock. */
  readonly clock: Pick<Clock.Clock, "currentTimeMillisUnsafe">
  /** Waits until there is room. */
  readonly room: Effect.Effect<void>
  /** Waits until new messages may be taken. */
  readonly unread: Effect.Effect<void>
  /** Waits until nothing of the partition is held here. */
  readonly nothingHeld: Effect.Effect<void>
  /** Runs while nothing else of the subscription is handled in this process. */
  readonly alone: (self: Effect.Effect<void, TransportError>) => Effect.Effect<void, TransportError>
  /** The partition is another worker's. */
  readonly lost: () => void
}

export const loop = ({
  accept,
  alone,
  clock,
  health,
  limit,
  lost,
  nothingHeld,
  room,
  seat,
  unread
}: Options): Effect.Effect<void> => {
  const take = (single: boolean) =>
    Effect.uninterruptible(
      Effect.suspend(() => {
        const asked = clock.currentTimeMillisUnsafe()
        return Effect.flatMap(seat.fetch({ ...limit(), ...(single ? { count: 1 } : {}), alone: single }), (fetched) => {
          if (fetched === "lost") {
            lost()
            // whoever is told closes this loop
            return Effect.interruptible(Effect.never)
          }
          accept(fetched.entries, asked)
          return Effect.succeed(fetched.suspects)
        })
      })
    )
  // what a process may have died of runs while nothing else of this subscription does
  const quarantine = alone(Effect.andThen(take(true), nothingHeld))
  // asked for before new messages might be taken, a read would wait on for what alone might be then
  const some = Effect.suspend(() =>
    limit().unread ? take(false) : Effect.raceFirst(take(false), Effect.as(unread, false))
  )
  const once = Effect.andThen(
    room,
    Effect.flatMap(some, (suspects) => (suspects ? quarantine : Effect.void))
  )
  let failures = 0
  const works = Effect.suspend(() => {
    failures = 0
    return health.worked("fetching")
  })
  const watched = Effect.flatMap(Effect.forkChild(Effect.andThen(Effect.sleep(quietlyWorking), works)), (watch) =>
    Effect.ensuring(once, Fiber.interrupt(watch))
  )
  return Effect.whileLoop({
    while: () => true,
    body: () =>
      Effect.matchEffect(failures === 0 ? once : watched, {
        onSuccess: () => (failures === 0 ? Effect.void : works),
        onFailure: (error) => {
          failures += 1
          return Effect.andThen(health.failed("fetching", error), Effect.sleep(Health.backoff(failures, error)))
        }
      }),
    step: () => {}
  })
}
