/** One subscription at work: all of its partitions, or those that are its own, as one. */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as FiberSet from "effect/FiberSet"
import * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import { SubscriptionFailed, type TransportError } from "../Errors.ts"
import type { Consumer, Group, Transport } from "../Transport.ts"
import type { Groups } from "./address.ts"
import type { Definition } from "./definition.ts"
import { Dispatcher } from "./dispatcher.ts"
import * as Health from "./health.ts"
import * as lanes from "./lane.ts"
import * as observe from "./observe.ts"
import * as ownership from "./ownership.ts"
import type { Policy } from "./policy.ts"
import * as seats from "./seat.ts"
import { Turns } from "./turns.ts"

/** What a subscription has on each of its partitions: a place among competitors, or as a worker who may own it. */
export type Places =
  | {
      readonly _tag: "Competing"
      readonly joined: ReadonlyArray<{ readonly group: Group; readonly consumer: Consumer }>
    }
  | { readonly _tag: "Ordered"; readonly enrolled: ReadonlyArray<ownership.Enrolled> }

/** A subscription that has its places on the log, and has not begun to fetch. */
export interface Joined {
  readonly definition: Definition
  readonly policy: Policy
  readonly groups: Groups
  readonly transport: Transport["Service"]
  readonly places: Places
}

export interface Running {
  /** Lets joining stand, and begins to fetch. */
  readonly begin: Effect.Effect<void>
  readonly pause: Effect.Effect<void>
  readonly resume: Effect.Effect<void>
  readonly inFlight: () => number
  readonly problem: () => TransportError | SubscriptionFailed | undefined
  readonly state: () => "running" | "paused" | "draining" | "unhealthy"
  readonly join: Effect.Effect<never, SubscriptionFailed>
}

/** Makes a joined subscription ready to begin; closing the scope drains it. What can fail was done by joining. */
export const start: (
  joined: Joined,
  surroundings: Context.Context<never>
) => Effect.Effect<Running, never, Scope.Scope> = Effect.fnUntraced(function* (
  { definition, groups, places, policy, transport }: Joined,
  surroundings: Context.Context<never>
) {
  const context = observe.ownContext(surroundings)
  const [{ subscription, topic }] = groups
  const annotations = { topic, subscription }
  const health = Health.makeAll()
  const observer = observe.make(groups[0], transport.system, context)
  const failed = Deferred.makeUnsafe<never, SubscriptionFailed>()
  let dead: SubscriptionFailed | undefined
  let state: "running" | "paused" | "draining" = "running"
  const background = yield* FiberSet.makeRuntime()
  const run = (effect: Effect.Effect<void>) => void background(Effect.annotateLogs(effect, annotations))
  const died = (cause: unknown) => {
    dead = new SubscriptionFailed({ ...annotations, cause })
    Deferred.doneUnsafe(failed, Effect.fail(dead))
    run(Effect.logFatal("the loop of the subscription died", cause))
  }
  const dispatcher = new Dispatcher(
    lanes.concurrencyOf(definition, policy),
    Context.get(context, Clock.Clock),
    Context.get(context, Turns),
    run,
    died
  )
  const lane = (group: Group, seat: seats.Seat, lost: () => void) =>
    lanes.start({
      definition,
      policy,
      group,
      partitions: groups.length,
      transport,
      seat,
      dispatcher,
      health: health.of(group.partition),
      observer,
      context,
      run,
      died,
      isDead: () => dead !== undefined,
      lost
    })

  const parts = yield* places._tag === "Competing"
    ? compete(places.joined, lane)
    : ownership
        .make({
          enrolled: places.enrolled,
          visibilityTimeout: policy.visibilityTimeout,
          health: health.of,
          start: ({ group, worker }, owner, asked, lost) => lane(group, seats.owning(worker.name, owner, asked), lost),
          died
        })
        .pipe(Effect.annotateLogs(annotations))
  yield* Effect.addFinalizer(() =>
    Effect.sync(() => {
      state = "draining"
    })
  )
  const problem = () => dead ?? health.problem()
  // partitions are told in turn: overtaken by another, the last of them would do otherwise than the first
  const steering = Semaphore.makeUnsafe(1)
  const steer = (from: "running" | "paused", to: "running" | "paused", all: Effect.Effect<void>) =>
    steering.withPermit(
      Effect.suspend(() => {
        if (state !== from) return Effect.void
        state = to
        return all
      })
    )
  return {
    begin: Effect.annotateLogs(parts.begin, annotations),
    pause: steer("running", "paused", parts.pause),
    resume: steer("paused", "running", parts.resume),
    inFlight: () => dispatcher.busy,
    problem,
    state: () => (state === "running" && problem() !== undefined ? "unhealthy" : state),
    join: Deferred.await(failed)
  }
})

/** Reads every partition, as others do. */
const compete = Effect.fnUntraced(function* (
  joined: ReadonlyArray<{ readonly group: Group; readonly consumer: Consumer }>,
  lane: (group: Group, seat: seats.Seat, lost: () => void) => Effect.Effect<lanes.Running, never, Scope.Scope>
) {
  const scope = yield* Scope.fork(yield* Effect.scope, "parallel")
  const running = yield* Effect.forEach(joined, ({ consumer, group }) =>
    Effect.flatMap(Scope.fork(scope), (own) =>
      Scope.provide(
        lane(group, seats.competing(consumer), () => {}),
        own
      )
    )
  )
  const all = (f: (one: lanes.Running) => Effect.Effect<void>) => Effect.forEach(running, f, { discard: true })
  return {
    begin: Effect.suspend(() => {
      for (const { consumer } of joined) consumer.keep()
      return all(({ begin }) => begin)
    }),
    pause: all(({ pause }) => pause),
    resume: all(({ resume }) => resume)
  }
})
