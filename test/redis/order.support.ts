/** The words of the tests of ordered groups. */
import type { TransportError } from "@clutch/core/Errors"
import type { Entry, Outcome, Owner, OwnerLimit, Settled, Transport, Worker } from "@clutch/core/Transport"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import * as S from "./support.ts"

/** Enrols, and stays. */
export const enroll = (
  self: Transport["Service"],
  options: Partial<Parameters<typeof self.enroll>[0]> = {}
): Effect.Effect<Worker, TransportError, Scope.Scope> =>
  Effect.map(
    self.enroll({
      group: S.group(),
      consumer: undefined,
      visibilityTimeout: Duration.seconds(30),
      from: "beginning",
      ...options
    }),
    (worker) => {
      worker.keep()
      return worker
    }
  )

export interface Claimed {
  readonly owner: Owner
  /** Closes the claim's scope. */
  readonly cede: Effect.Effect<void>
}

/** Claims in a scope of its own, which closes with the caller's at the latest. */
export const claim = (worker: Worker): Effect.Effect<Claimed, TransportError, Scope.Scope> =>
  Effect.gen(function* () {
    const scope = yield* Scope.fork(yield* Effect.scope)
    const owner = yield* Scope.provide(worker.claim, scope)
    if (Option.isNone(owner)) return yield* Effect.die(new Error("the log belongs to another"))
    return { owner: owner.value, cede: Scope.close(scope, Exit.void) }
  })

/** Claims as soon as nobody else owns the log. */
export const claimSoon = (worker: Worker): Effect.Effect<Claimed, TransportError, Scope.Scope> =>
  Effect.gen(function* () {
    yield* S.until("the log is free", () =>
      Effect.runPromise(Effect.map(worker.roster, ({ owner }) => Option.isNone(owner)))
    )
    return yield* claim(worker)
  })

export const limit = (options: Partial<OwnerLimit> = {}): OwnerLimit => ({ ...S.limit(), unread: true, ...options })

/** What is fetched; fails where the lease is lost, or nothing comes for ten seconds. */
export const fetch = (
  owner: Owner,
  options?: Partial<OwnerLimit>
): Effect.Effect<ReadonlyArray<Entry>, TransportError> =>
  owner.fetch(limit(options)).pipe(
    Effect.flatMap((fetched) =>
      fetched === "lost" ? Effect.die(new Error("the lease is lost")) : Effect.succeed(fetched.entries)
    ),
    Effect.timeoutOrElse({ duration: 10_000, orElse: () => Effect.die(new Error("nothing was fetched")) })
  )

/** The one entry that is fetched. */
export const one = (owner: Owner, options?: Partial<OwnerLimit>) =>
  Effect.map(fetch(owner, { count: 1, ...options }), ([entry]) => {
    if (entry === undefined) throw new Error("nothing was fetched")
    return entry
  })

export const ack: Outcome = { _tag: "Ack" }
export const park: Outcome = { _tag: "Park" }
export const release: Outcome = { _tag: "Release" }
export const retry = (delay: Duration.Input): Outcome => ({
  _tag: "Retry",
  delay: Duration.fromInputUnsafe(delay),
  cause: "no"
})
export const dead: Outcome = { _tag: "DeadLetter", reason: "exhausted", cause: "no", attempts: 1 }

export const settle = (
  owner: Owner,
  entry: Entry,
  outcome: Outcome,
  key?: string,
  repeated = false
): Effect.Effect<Settled | undefined, TransportError> =>
  Effect.map(owner.settle([{ entry, outcome, repeated, key }]), ([settled]) => settled)
