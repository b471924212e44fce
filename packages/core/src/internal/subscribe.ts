/** Starting subscriptions: all that were asked for, or none, with nothing left of the attempt. */
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Result from "effect/Result"
import * as Scope from "effect/Scope"
import type { SubscribeError } from "../Errors.ts"
import { Reclaimer } from "../Reclaimer.ts"
import { TypeId } from "../Source.ts"
import { Transport } from "../Transport.ts"
import * as address from "./address.ts"
import type { Definition } from "./definition.ts"
import * as engine from "./engine.ts"
import * as policies from "./policy.ts"
import * as registry from "./registry.ts"
import { subscribeError } from "./subscribeError.ts"

export interface Started {
  readonly running: engine.Running
  readonly joined: engine.Joined
  /** What the attempt owns; closing it drains. */
  readonly scope: Scope.Closeable
}

const join = (definition: Definition) =>
  Effect.gen(function* () {
    const fail = subscribeError(definition.source.topic, definition.name)
    const transport = yield* Transport
    const reclaimer = yield* Reclaimer
    const group = yield* Effect.fromResult(Result.mapError(address.check(definition), fail))
    const policy = yield* Effect.fromResult(Result.mapError(policies.make(definition.options), fail))
    yield* Effect.mapError(registry.reserve(transport, group, policy.consumer), fail)
    const { consumer: name, from, ownConnection, visibilityTimeout } = policy
    const joining = transport.join({ group, consumer: name, from, ownConnection, visibilityTimeout })
    const consumer = yield* Effect.mapError(joining, (error) => fail(error.reason))
    yield* Effect.mapError(reclaimer.register(group, definition.source[TypeId].acknowledged), (error) =>
      fail(error.reason)
    )
    return { definition, policy, group, transport, consumer }
  })

/**
 * Runs the attempt in a scope of its own, forked from the caller's: the caller's may live as long as the process, and
 * what failed must be gone now. `commit` runs when nothing can fail or be interrupted any more.
 */
const atomically = <A, E, R>(
  attempt: (scope: Scope.Closeable) => Effect.Effect<A, E, R>,
  commit: (a: A) => Effect.Effect<void>
): Effect.Effect<A, E, Exclude<R, Scope.Scope> | Scope.Scope> =>
  Effect.uninterruptibleMask((restore) =>
    Effect.gen(function* () {
      // in parallel: where the log is gone, each takes its time to give up
      const scope = yield* Scope.fork(yield* Effect.scope, "parallel")
      const started = yield* restore(Scope.provide(attempt(scope), scope)).pipe(
        Effect.onExit((exit) => (Exit.isFailure(exit) ? Scope.close(scope, exit) : Effect.void))
      )
      yield* commit(started)
      return started
    })
  )

/** No fetch begins before every group exists. */
export const subscribeAll = (
  definitions: ReadonlyArray<Definition>
): Effect.Effect<ReadonlyArray<Started>, SubscribeError, Transport | Reclaimer | Scope.Scope> =>
  Effect.contextWith((context: Context.Context<Transport | Reclaimer>) =>
    atomically(
      (attempt) =>
        Effect.gen(function* () {
          const joined = yield* Effect.forEach(definitions, (definition) =>
            Effect.gen(function* () {
              const scope = yield* Scope.fork(attempt)
              return { scope, joined: yield* Scope.provide(join(definition), scope) }
            })
          )
          return yield* Effect.forEach(joined, (one) =>
            Effect.map(Scope.provide(engine.start(one.joined, context), one.scope), (running) => ({ ...one, running }))
          )
        }),
      (started) => Effect.forEach(started, ({ running }) => running.begin, { discard: true })
    )
  )
