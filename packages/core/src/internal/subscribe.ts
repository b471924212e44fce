/** Starting subscriptions: all that were asked for, or none, with nothing left of the attempt. */
import type * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Result from "effect/Result"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import type { SubscribeError, TransportError } from "../Errors.ts"
import { Reclaimer } from "../Reclaimer.ts"
import { TypeId } from "../Source.ts"
import { type Consumer, type EnrollOptions, type Group, Transport, type Worker } from "../Transport.ts"
import * as address from "./address.ts"
import type { Definition } from "./definition.ts"
import * as engine from "./engine.ts"
import { confirm } from "./partitions.ts"
import type { Policy } from "./policy.ts"
import * as policies from "./policy.ts"
import * as registry from "./registry.ts"
import { subscribeError } from "./subscribeError.ts"

export interface Started {
  readonly running: engine.Running
  readonly joined: engine.Joined
  /** What the attempt owns; closing it drains. */
  readonly scope: Scope.Closeable
}

const join = Effect.fnUntraced(function* (definition: Definition) {
  const fail = subscribeError(definition.source.topic, definition.name)
  const transport = yield* Transport
  const reclaimer = yield* Reclaimer
  const { acknowledged, ordered } = definition.source[TypeId]
  const groups = yield* Effect.fromResult(Result.mapError(address.check(definition), fail))
  const policy = yield* Effect.fromResult(Result.mapError(policies.make(definition.options, definition.kind), fail))
  yield* Effect.fromResult(Result.mapError(policies.fits(policy, definition.options, groups.length, ordered), fail))
  yield* Effect.mapError(registry.reserve(transport, groups[0], policy.consumer), fail)
  const placed = Effect.suspend(() =>
    ordered ? enroll(transport, groups, policy) : compete(transport, groups, policy)
  )
  const registered = Effect.forEach(groups, (group) => reclaimer.register(group, acknowledged), { discard: true })
  const whole = confirm(transport, definition.source.topic, groups.length, "subscribe").pipe(
    Effect.andThen(placed),
    Effect.tap(registered)
  )
  const places = yield* Effect.mapError(whole, (error) => fail(error.reason))
  return { definition, policy, groups, transport, places }
})

/** Runs in a scope of its own, forked from the caller's: it ends with that, or at once where this fails. */
const apart = <A, E, R>(
  attempt: (scope: Scope.Closeable) => Effect.Effect<A, E, R>,
  strategy: "sequential" | "parallel"
): Effect.Effect<A, E, Exclude<R, Scope.Scope> | Scope.Scope> =>
  Effect.uninterruptibleMask((restore) =>
    Effect.flatMap(
      Effect.flatMap(Effect.scope, (parent) => Scope.fork(parent, strategy)),
      (scope) =>
        restore(Scope.provide(attempt(scope), scope)).pipe(
          Effect.onExit((exit) => (Exit.isFailure(exit) ? Scope.close(scope, exit) : Effect.void))
        )
    )
  )

/** A place on every partition, under one name. */
const everywhere = Effect.fnUntraced(function* <A>(
  groups: address.Groups,
  policy: Policy,
  place: (options: EnrollOptions) => Effect.Effect<A & { readonly name: string }, TransportError, Scope.Scope>
) {
  const { from, visibilityTimeout } = policy
  const places: Array<{ readonly group: Group; readonly place: A }> = []
  let consumer = policy.consumer
  for (const group of groups) {
    const one = yield* place({ group, consumer, from, visibilityTimeout })
    consumer = one.name
    places.push({ group, place: one })
  }
  return places
})

const compete = (transport: Transport["Service"], groups: address.Groups, policy: Policy) =>
  Effect.map(
    everywhere<Consumer>(groups, policy, (options) =>
      transport.join({ ...options, ownConnection: policy.ownConnection })
    ),
    (places): engine.Places => ({
      _tag: "Competing",
      joined: places.map(({ group, place }) => ({ group, consumer: place }))
    })
  )

/** For how long and how often it is tried to take the name of a worker that may have died. */
const untilGone = ({ visibilityTimeout }: Policy) =>
  Schedule.upTo(Schedule.spaced("250 millis"), { duration: Duration.sum(visibilityTimeout, Duration.seconds(1)) })

const isDuplicate = ({ reason }: TransportError) => reason._tag === "DuplicateSubscription"

/** A worker of this name that died keeps it for its visibility timeout; one that lives, for good. */
const patiently = <A>(
  policy: Policy,
  { subscription, topic }: Group,
  enrolling: Effect.Effect<A, TransportError, Scope.Scope>
): Effect.Effect<A, TransportError, Scope.Scope> =>
  Effect.suspend(() => {
    let told = false
    const tell = Effect.suspend(() => {
      if (told) return Effect.void
      told = true
      return Effect.logWarning(
        `another worker goes by the name "${policy.consumer}": this one starts when that has left, or has been silent ` +
          `for its visibility timeout`
      ).pipe(Effect.annotateLogs({ topic, subscription }))
    })
    // each attempt is gone when it fails, not when the subscription closes
    return apart(() => enrolling, "sequential").pipe(
      Effect.tapError((error) => (isDuplicate(error) ? tell : Effect.void)),
      Effect.retry({ while: isDuplicate, schedule: untilGone(policy) })
    )
  })

const enroll = (transport: Transport["Service"], groups: address.Groups, policy: Policy) =>
  Effect.map(
    everywhere<Worker>(groups, policy, (options) => patiently(policy, options.group, transport.enroll(options))),
    (places): engine.Places => ({
      _tag: "Ordered",
      enrolled: places.map(({ group, place }) => ({ group, worker: place }))
    })
  )

/**
 * Runs the attempt in a scope of its own, forked from the caller's: the caller's may live as long as the process, and
 * what failed must be gone now. `commit` runs when nothing can fail or be interrupted any more.
 */
const atomically = <A, E, R>(
  attempt: (scope: Scope.Closeable) => Effect.Effect<A, E, R>,
  commit: (a: A) => Effect.Effect<void>
): Effect.Effect<A, E, Exclude<R, Scope.Scope> | Scope.Scope> =>
  Effect.uninterruptibleMask((restore) =>
    // in parallel: where the log is gone, each takes its time to give up
    Effect.tap(
      apart((scope) => restore(attempt(scope)), "parallel"),
      commit
    )
  )

/** No fetch begins before every group exists. */
export const subscribeAll = (
  definitions: ReadonlyArray<Definition>
): Effect.Effect<ReadonlyArray<Started>, SubscribeError, Transport | Reclaimer | Scope.Scope> =>
  Effect.contextWith((context: Context.Context<Transport | Reclaimer>) =>
    atomically(
      (attempt) => {
        const joining = Effect.forEach(definitions, (definition) =>
          Effect.flatMap(Scope.fork(attempt), (scope) =>
            Effect.map(Scope.provide(join(definition), scope), (joined) => ({ scope, joined }))
          )
        )
        return Effect.flatMap(joining, (all) =>
          Effect.forEach(all, (one) =>
            Effect.map(Scope.provide(engine.start(one.joined, context), one.scope), (running) => ({ ...one, running }))
          )
        )
      },
      (started) => Effect.forEach(started, ({ running }) => running.begin, { discard: true })
    )
  )
