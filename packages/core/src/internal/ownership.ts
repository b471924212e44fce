/**
 * A worker of an ordered subscription: it claims its share of the partitions, gives up what is more than that, and claims
 * anew what it lost. Each partition is read in a Scope of its own, so giving one up is closing it, which drains.
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as FiberHandle from "effect/FiberHandle"
import * as Latch from "effect/Latch"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import type { TransportError } from "../Errors.ts"
import type { Group, Owner, Roster, Worker } from "../Transport.ts"
import { plan, type Seen } from "./assignment.ts"
import * as Health from "./health.ts"
import type { Running } from "./lane.ts"

/** A worker's place on each of the partitions. */
export interface Enrolled {
  readonly group: Group
  readonly worker: Worker
}

export interface Options {
  readonly enrolled: ReadonlyArray<Enrolled>
  readonly visibilityTimeout: Duration.Duration
  readonly health: (partition: number) => Health.Health
  /**
   * Reads a partition until the scope closes; `asked` is when it was claimed, `lost` is called where it must be claimed anew.
   */
  readonly start: (
    at: Enrolled,
    owner: Owner,
    asked: number,
    lost: () => void
  ) => Effect.Effect<Running, never, Scope.Scope>
  readonly died: (cause: unknown) => void
}

export interface Ownership {
  readonly begin: Effect.Effect<void>
  readonly pause: Effect.Effect<void>
  readonly resume: Effect.Effect<void>
}

/** Changes come in swarms, as when many workers start. */
const settle = Duration.millis(20)

/** Looks a visibility timeout: being seen is what keeps a worker's share. */
const looks = 3

/** With what is said of its health, asked for once. */
interface Place extends Enrolled {
  readonly health: Health.Health
}

interface Owned {
  readonly scope: Scope.Closeable
  readonly running: Running
  closing: boolean
  /** Paused: gives it up when no handler of it runs any more. */
  leaving: Fiber.Fiber<void> | undefined
}

/** A generator at the top of a module, as `lane.start` is. */
export const make: (options: Options) => Effect.Effect<Ownership, never, Scope.Scope> = Effect.fnUntraced(function* (
  options: Options
) {
  const enrolled = options.enrolled.map((at): Place => ({ ...at, health: options.health(at.group.partition) }))
  const clock = yield* Clock.Clock
  const me = enrolled[0]?.worker.name ?? ""
  // partitions drain side by side
  const scope = yield* Scope.fork(yield* Effect.scope, "parallel")
  // ends before what it looks after
  const loop = yield* FiberHandle.make()
  const fork = Effect.runForkWith(yield* Effect.context<never>())
  const owned = new Map<number, Owned>()
  const changed = Latch.makeUnsafe(true)
  const wanted = Latch.makeUnsafe(true)
  let losses = 0

  const watched = (self: Effect.Effect<void>) =>
    Effect.tapDefect(self, (defect) => Effect.sync(() => options.died(defect)))

  /** Drains it, and then it is free. */
  const giveUp = (partition: number) =>
    Effect.suspend(() => {
      const one = owned.get(partition)
      if (one === undefined || one.closing) return Effect.void
      one.closing = true
      const closed = Effect.andThen(
        Scope.close(one.scope, Exit.void),
        Effect.sync(() => {
          owned.delete(partition)
          changed.openUnsafe()
        })
      )
      return Effect.asVoid(Effect.forkIn(watched(Effect.uninterruptible(closed)), scope))
    })

  const claim = (at: Enrolled) =>
    Effect.uninterruptibleMask((restore) =>
      Effect.flatMap(Scope.fork(scope), (own) => {
        // not when the answer was heard: a freeze may lie between the two
        const asked = clock.currentTimeMillisUnsafe()
        return restore(Scope.provide(at.worker.claim, own)).pipe(
          Effect.onExit((exit) => (Exit.isFailure(exit) ? Scope.close(own, exit) : Effect.void)),
          Effect.flatMap((owner) =>
            Option.isNone(owner) ? Scope.close(own, Exit.void) : take(at, owner.value, asked, own)
          )
        )
      })
    )

  const take = (at: Enrolled, owner: Owner, asked: number, own: Scope.Closeable) => {
    const { partition } = at.group
    let lost = false
    const lose = () => {
      if (lost) return
      lost = true
      losses += 1
      fork(giveUp(partition))
    }
    return Effect.flatMap(Scope.provide(options.start(at, owner, asked, lose), own), (running) => {
      owned.set(partition, { scope: own, running, closing: false, leaving: undefined })
      // it may have been paused while it claimed
      return wanted.isOpen() ? running.begin : giveUp(partition)
    })
  }

  const each = <A>({ health }: Place, loop: Health.Loop, self: Effect.Effect<A, TransportError>) =>
    Effect.matchEffect(self, {
      onFailure: (error) => Effect.as(health.failed(loop, error), undefined),
      onSuccess: (found) => Effect.as(health.worked(loop), found)
    })

  const unwatched = new Set(enrolled)
  const watch = Effect.forEach(
    unwatched,
    (at) => {
      const watching = at.worker.watch(() => changed.openUnsafe()).pipe(Scope.provide(scope))
      const done = Effect.sync(() => unwatched.delete(at))
      return each(at, "watching", Effect.andThen(watching, done))
    },
    { discard: true }
  )

  const rosters = Effect.forEach(
    enrolled,
    (at) => Effect.map(each(at, "looking for workers", at.worker.roster), (roster) => ({ at, roster })),
    // all at once; one alone needs no fiber of its own
    { concurrency: enrolled.length }
  )
  // watched before it looks: what changes meanwhile is looked at next
  const watchful = Effect.suspend(() => (unwatched.size === 0 ? rosters : Effect.andThen(watch, rosters)))
  const look = Effect.flatMap(watchful, (all) => {
    const seen = all.flatMap(({ at, roster }) => (roster === undefined ? [] : [{ at, roster }]))
    const workers = [...new Set(seen.flatMap(({ roster }) => roster.workers))]
    const { claim: free, surplus } = plan(me, workers, seen.map(partitionOf))
    const mine = [...owned].filter(([, { closing }]) => !closing).map(([partition]) => partition)
    const excess = mine.slice(0, Math.max(0, surplus - (owned.size - mine.length)))
    const claiming = Effect.suspend(() => {
      const missing = enrolled.filter(({ group }) => free.includes(group.partition) && !owned.has(group.partition))
      // what another worker has now is nothing to claim
      for (const { at } of seen) if (!missing.includes(at)) at.health.over("claiming")
      if (missing.length === 0) return Effect.void
      return Effect.forEach(missing, (at) => each(at, "claiming", claim(at)), {
        concurrency: "unbounded",
        discard: true
      })
    })
    const again =
      seen.length < all.length || unwatched.size > 0
        ? Duration.millis(500)
        : soonest(
            me,
            seen.map(({ roster }) => roster)
          )
    const given = Effect.forEach(excess, (partition) => giveUp(partition), { discard: true })
    return Effect.as(excess.length === 0 ? claiming : Effect.andThen(given, claiming), again)
  })

  const atMost = Duration.divideUnsafe(options.visibilityTimeout, looks)
  /** Until something changes, for so long at most. The alarm is the one fiber that this takes; it ends with its parent. */
  const rest = (lease: Duration.Duration) => {
    const alarm = Effect.andThen(
      Effect.sleep(Duration.min(lease, atMost)),
      Effect.sync(() => changed.openUnsafe())
    )
    return Effect.flatMap(Effect.forkChild(alarm, { startImmediately: true }), (alarm) =>
      Effect.map(changed.await, () => alarm.interruptUnsafe())
    )
  }
  // a partition that is lost again and again is claimed more and more slowly
  const settled = Effect.suspend(() =>
    Effect.sleep(losses === 0 ? settle : Duration.millis(Math.min(50 * 2 ** Math.min(losses, 6), 2000)))
  )
  /** Nobody waits for one that is paused; where that cannot be said, they will when it has been silent for long enough. */
  const resting = Effect.forEach(enrolled, ({ worker }) => Effect.ignore(worker.rest), {
    concurrency: enrolled.length,
    discard: true
  })
  const rested = Effect.suspend(() => (wanted.isOpen() ? Effect.void : Effect.raceFirst(resting, wanted.await)))
  const round = rested.pipe(
    Effect.andThen(wanted.await),
    Effect.andThen(
      Effect.suspend(() => {
        changed.closeUnsafe()
        return look
      })
    ),
    Effect.flatMap(rest),
    Effect.andThen(settled)
  )
  const rounds = Effect.whileLoop({
    while: () => true,
    body: () => round,
    step: () => {
      losses = Math.max(0, losses - 1)
    }
  })
  const stop = ([partition, one]: readonly [number, Owned]) =>
    Effect.flatMap(one.running.pause, () => {
      if (one.leaving !== undefined) return Effect.void
      const left = Effect.andThen(one.running.idle, giveUp(partition))
      return Effect.map(Effect.forkIn(watched(left), scope), (fiber) => {
        one.leaving = fiber
      })
    })
  const goOn = (one: Owned) =>
    Effect.suspend(() => {
      const { leaving } = one
      one.leaving = undefined
      const interrupted = leaving === undefined ? Effect.void : Fiber.interrupt(leaving)
      return Effect.andThen(
        interrupted,
        Effect.suspend(() => (one.closing ? Effect.void : one.running.resume))
      )
    })

  return {
    begin: Effect.suspend(() => {
      for (const { worker } of enrolled) worker.keep()
      return Effect.asVoid(FiberHandle.run(loop, watched(rounds)))
    }),
    pause: Effect.suspend(() => {
      wanted.closeUnsafe()
      changed.openUnsafe()
      return Effect.forEach([...owned], stop, { discard: true })
    }),
    resume: Effect.suspend(() => {
      wanted.openUnsafe()
      changed.openUnsafe()
      return Effect.forEach([...owned.values()], goOn, { discard: true })
    })
  }
})

const partitionOf = ({ at, roster }: { readonly at: Enrolled; readonly roster: Roster }): Seen => ({
  partition: at.group.partition,
  owner: Option.getOrUndefined(roster.owner)
})

/** When the first lease of another worker ends, unless it is renewed. */
const soonest = (me: string, rosters: ReadonlyArray<Roster>): Duration.Duration => {
  const ends = rosters.flatMap(({ expires, owner }) =>
    Option.isSome(owner) && owner.value !== me && Option.isSome(expires) ? [Duration.toMillis(expires.value)] : []
  )
  return ends.length === 0 ? Duration.infinity : Duration.millis(Math.min(...ends) + 1)
}
