/** Logs that break one promise each, for the simulator to find. */
import * as MemoryTransport from "@clutch/core/MemoryTransport"
import type { Consumer, Owner, Settled, Settlement, Transport } from "@clutch/core/Transport"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import type { NonEmptyReadonlyArray } from "effect/Array"
import * as support from "../core/support.ts"

const withLog = (change: (log: Transport["Service"]) => Partial<Transport["Service"]>) =>
  Effect.map(MemoryTransport.make, (log) => ({ ...log, ...change(log) }))

const withConsumers = (change: (consumer: Consumer) => Partial<Consumer>) =>
  Effect.map(MemoryTransport.make, support.withConsumers(change))

const withOwners = (change: (owner: Owner) => Partial<Owner>) =>
  Effect.map(MemoryTransport.make, support.withOwners(change))

/** Answers `done` where `isLie` says so, and does nothing. */
const lying = (isLie: (settlement: Settlement) => boolean) =>
  withConsumers(({ settle }) => ({
    settle: (settlements) =>
      Effect.gen(function* () {
        const honest = settlements.filter((settlement) => !isLie(settlement))
        const results = isNonEmpty(honest) ? [...(yield* settle(honest))] : []
        return settlements.map((settlement): Settled => (isLie(settlement) ? "done" : (results.shift() ?? "unknown")))
      })
  }))

const isNonEmpty = <A>(list: ReadonlyArray<A>): list is NonEmptyReadonlyArray<A> => list.length > 0

/** Settles with other outcomes than it was asked for. */
const otherwise = (change: (settlement: Settlement) => Settlement["outcome"]) =>
  withConsumers(({ settle }) => ({
    settle: ([first, ...rest]) => settle([changed(change, first), ...rest.map((one) => changed(change, one))])
  }))

const changed = (change: (settlement: Settlement) => Settlement["outcome"], settlement: Settlement): Settlement => ({
  ...settlement,
  outcome: change(settlement)
})

/** Settles otherwise than an owner has asked for. */
const ownersOtherwise = (change: (settlement: Settlement) => Settlement) =>
  withOwners(({ settle }) => ({ settle: ([first, ...rest]) => settle([change(first), ...rest.map(change)]) }))

const isRetry = ({ outcome }: Settlement) => outcome._tag === "Retry"

/** What each breaks, and which promise the simulator may say it is: some break two, and chance decides which shows first. */
export const logs: Record<
  string,
  { readonly seed?: string; readonly promise: RegExp; readonly log: Effect.Effect<Transport["Service"]> }
> = {
  "forgets acks": { promise: /^contract [18]$/, log: lying(({ outcome }) => outcome._tag === "Ack") },
  "forgets retries": {
    promise: /^contract 1$/,
    log: otherwise((one) => (isRetry(one) ? { _tag: "Ack" } : one.outcome))
  },
  "retries at once": {
    promise: /^contract 5$/,
    log: otherwise((one) => (one.outcome._tag === "Retry" ? { ...one.outcome, delay: Duration.zero } : one.outcome))
  },
  "retries an hour late": {
    promise: /^contract 1$/,
    log: otherwise((one) => (one.outcome._tag === "Retry" ? { ...one.outcome, delay: Duration.hours(1) } : one.outcome))
  },
  "releases what is to be retried": {
    promise: /^contract [34]$/,
    log: otherwise((one) => (isRetry(one) ? { _tag: "Release" } : one.outcome))
  },
  "drops dead letters": {
    promise: /^contract (1|12)$/,
    log: otherwise((one) => (one.outcome._tag === "DeadLetter" ? { _tag: "Ack" } : one.outcome))
  },
  "takes settlements of former owners": {
    promise: /^contract [18]$/,
    log: withConsumers(({ settle }) => ({
      settle: (settlements) =>
        Effect.map(settle(settlements), (results) => results.map((result) => (result === "lost" ? "done" : result)))
    }))
  },
  "refuses settlements of owners": {
    promise: /^contract [18]$/,
    log: withConsumers(({ settle }) => ({
      settle: (settlements) =>
        Effect.map(settle(settlements), (results) => results.map((result) => (result === "done" ? "lost" : result)))
    }))
  },
  "extends no lease": { promise: /^contract [78]$/, log: withConsumers(() => ({ extend: () => Effect.succeed([]) })) },
  "reclaims after half of a lease": {
    promise: /^contract [78]$/,
    log: withLog(({ join }) => ({
      join: (options) => join({ ...options, visibilityTimeout: Duration.times(options.visibilityTimeout, 0.5) })
    }))
  },
  "takes suspects beside others": {
    promise: /^contract 7$/,
    log: withConsumers(({ fetch }) => ({ fetch: (limit) => fetch({ ...limit, maxAttempts: Infinity }) }))
  },
  "takes more than it is asked for": {
    promise: /^contract 11$/,
    log: withConsumers(({ fetch }) => ({ fetch: (limit) => fetch({ ...limit, count: limit.alone ? 1 : 100 }) }))
  },
  "stores each message twice": {
    promise: /^contract (2|13)$/,
    log: withLog(({ publish }) => ({
      publish: (log, messages, retention) =>
        Effect.andThen(publish(log, messages, retention), publish(log, messages, retention))
    }))
  },
  "confirms what it does not store": {
    promise: /^contract (1|13)$/,
    log: withLog(() => ({
      publish: (_, messages) => Effect.succeed({ ids: messages.map((_, i) => `1-${i}`), trimmed: 0 })
    }))
  },
  "moves no retry that is due": {
    promise: /^contract 1$/,
    log: withLog(() => ({
      tend: () => Effect.succeed({ moved: 0, reclaimed: 0, removed: 0, poison: 0, next: Option.none() })
    }))
  },
  "hands out partitions before their leases end": {
    promise: /^contract (7|8|10)$/,
    log: withLog(({ enroll }) => ({
      enroll: (options) => enroll({ ...options, visibilityTimeout: Duration.times(options.visibilityTimeout, 0.5) })
    }))
  },
  "has one fence for all": { promise: /^contract 10$/, log: withOwners(() => ({ fence: 1 })) },
  "holds no key back": {
    promise: /^contract 10$/,
    log: ownersOtherwise(({ entry, outcome, repeated }) => ({ entry, outcome, repeated }))
  },
  "gives back what is to be parked": {
    promise: /^contract (1|10)$/,
    log: ownersOtherwise((one) => (one.outcome._tag === "Park" ? { ...one, outcome: { _tag: "Release" } } : one))
  },
  "forgets what is to be parked": {
    promise: /^contract (1|10)$/,
    log: ownersOtherwise((one) => (one.outcome._tag === "Park" ? { ...one, outcome: { _tag: "Ack" } } : one))
  },
  "counts an attempt of what it parks": {
    promise: /^contract (1|10)$/,
    log: ownersOtherwise((one) =>
      one.outcome._tag === "Park" ? { ...one, outcome: { _tag: "Retry", delay: Duration.zero, cause: "" } } : one
    )
  },
  "tells former owners that all is done": {
    // by others, the first lie that is found is told of a delivery that had ended
    seed: "f",
    promise: /^contract (8|10)$/,
    log: withOwners(({ settle }) => ({
      settle: (settlements) =>
        Effect.map(settle(settlements), (results) => results.map((result) => (result === "lost" ? "done" : result)))
    }))
  },
  "renews no lease of a partition": {
    promise: /^contract (7|8|10)$/,
    log: withOwners(() => ({ extend: () => Effect.succeed([]) }))
  },
  "never hangs up": {
    promise: /^runtime$/,
    log: withLog(({ watch }) => ({
      watch: (log, changed) => Scope.provide(watch(log, changed), Scope.makeUnsafe())
    }))
  }
}
