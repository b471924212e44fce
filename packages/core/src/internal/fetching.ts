/** The fetch loop: takes when there is room, alone what must be alone, and goes on trying where the log is out of reach. */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type { Consumer, Entry, FetchLimit } from "../Transport.ts"
import * as Health from "./health.ts"

/** A read that has not failed for so long works, though it has nothing to show. */
const quietlyWorking = Duration.seconds(1)

export interface Options {
  readonly consumer: Consumer
  readonly health: Health.Health
  /** How much to take now. */
  readonly limit: () => Omit<FetchLimit, "alone">
  readonly accept: (entries: ReadonlyArray<Entry>) => void
  /** Waits until there is room. */
  readonly room: Effect.Effect<void>
  /** Waits until nothing of the subscription is held here, and no handler of it runs. */
  readonly alone: Effect.Effect<void>
}

export const loop = ({ accept, alone, consumer, health, limit, room }: Options): Effect.Effect<void> => {
  const take = (isAlone: boolean) =>
    Effect.uninterruptible(
      Effect.suspend(() =>
        Effect.map(
          consumer.fetch({ ...limit(), ...(isAlone ? { count: 1 } : {}), alone: isAlone }),
          ({ entries, suspects }) => {
            accept(entries)
            return suspects
          }
        )
      )
    )
  // what a process may have died of runs while nothing else of this subscription does
  const quarantine = Effect.andThen(alone, Effect.andThen(take(true), alone))
  const once = Effect.andThen(
    room,
    Effect.flatMap(take(false), (suspects) => (suspects ? Effect.asVoid(quarantine) : Effect.void))
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
