/**
 * The service that looks after groups between their deliveries: it moves retries that are due, rescues deliveries whose
 * consumer died, and clears dead consumers. One fiber for each Transport, for every subscription registered with it.
 *
 * It wakes when something falls due, not at fixed intervals. Any process may do it for any group, at the same time as
 * others: each move is one atomic step on the log.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import * as Layer from "effect/Layer"
import * as Metric from "effect/Metric"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import type * as Scope from "effect/Scope"
import type { Address } from "./Address.ts"
import type { SubscribeError, TransportError } from "./Errors.ts"
import * as address from "./internal/address.ts"
import * as Health from "./internal/health.ts"
import { tagsOf } from "./internal/observe.ts"
import { subscribeError } from "./internal/subscribeError.ts"
import * as Metrics from "./Metrics.ts"
import { type Group, type Tended, Transport } from "./Transport.ts"

/** How soon a group is looked at again whose tending was a bug: rarely enough to be read in the log. */
const afterDefect = Duration.seconds(5)

/** One group under care. */
interface Ward {
  readonly group: Group
  readonly health: Health.Health
  /** When to look again at the latest, on the runtime's clock; `undefined` until something changes. */
  next: number | undefined
  failures: number
}

/**
 * Whoever looks after the groups that are registered with it.
 *
 * @category services
 * @since 0.1.0
 */
export class Reclaimer extends Context.Service<
  Reclaimer,
  {
    /** Looks after a group until the scope closes. */
    readonly register: (group: Group) => Effect.Effect<void, TransportError, Scope.Scope>
  }
>()("@clutch/core/Reclaimer") {
  /**
   * Reclaims in this process.
   *
   * @category layers
   * @since 0.1.0
   */
  static readonly layer: Layer.Layer<Reclaimer, never, Transport> = /* @__PURE__ */ Layer.effect(
    Reclaimer,
    /* @__PURE__ */ Effect.gen(function* () {
      const transport = yield* Transport
      const wards = new Set<Ward>()
      const changed = Latch.makeUnsafe(false)

      const again = (ward: Ward, pause: Duration.Duration) =>
        Effect.map(Clock.currentTimeMillis, (now) => soonest(ward, now + Duration.toMillis(pause)))

      const done = (ward: Ward, { next, poison, reclaimed }: Tended) =>
        Effect.gen(function* () {
          ward.failures = 0
          if (Option.isSome(next)) yield* again(ward, next.value)
          yield* ward.health.worked("reclaiming")
          const tags = tagsOf(ward.group, transport.system)
          if (poison > 0) yield* Metric.update(Metric.withAttributes(Metrics.poison, tags), poison)
          if (reclaimed > 0) {
            yield* Metric.update(Metric.withAttributes(Metrics.reclaimed, tags), reclaimed)
            yield* Effect.logWarning(`took ${reclaimed} deliveries from consumers that died`)
          }
        })

      const tend = (ward: Ward) =>
        Effect.suspend(() => {
          // cleared before looking: a change while the log is asked brings another look
          ward.next = undefined
          return Effect.matchEffect(transport.tend(ward.group), {
            onSuccess: (tended) => done(ward, tended),
            onFailure: (error) => {
              ward.failures += 1
              return Effect.andThen(
                again(ward, Health.backoff(ward.failures, error)),
                ward.health.failed("reclaiming", error)
              )
            }
          })
        }).pipe(
          // one group's bug must not be the end of reclaiming for all
          Effect.catchDefect((defect) =>
            Effect.andThen(
              again(ward, afterDefect),
              Effect.logFatal("reclaiming died of a defect, and goes on", defect)
            )
          ),
          Effect.annotateLogs({ topic: ward.group.topic, subscription: ward.group.subscription })
        )

      const round = Effect.gen(function* () {
        changed.closeUnsafe()
        const now = yield* Clock.currentTimeMillis
        const due = [...wards].filter(({ next }) => next !== undefined && next <= now)
        if (due.length > 0) return yield* Effect.forEach(due, tend, { discard: true })
        const next = Math.min(...[...wards].map((ward) => ward.next ?? Number.POSITIVE_INFINITY))
        yield* next === Number.POSITIVE_INFINITY
          ? changed.await
          : Effect.raceFirst(changed.await, Effect.sleep(next - now))
      })
      yield* Effect.forkScoped(Effect.whileLoop({ while: () => true, body: () => round, step: () => {} }))

      return Reclaimer.of({
        register: (group) =>
          Effect.gen(function* () {
            const ward = yield* Effect.acquireRelease(
              Effect.sync((): Ward => {
                const ward: Ward = { group, health: Health.make(), next: undefined, failures: 0 }
                wards.add(ward)
                return ward
              }),
              (ward) =>
                Effect.sync(() => {
                  wards.delete(ward)
                  // nothing sleeps until a time that is nobody's any more
                  changed.openUnsafe()
                })
            )
            const look = () => {
              ward.next = 0
              changed.openUnsafe()
            }
            yield* transport.watch(group, look)
            look()
          })
      })
    })
  )

  /**
   * Another process reclaims, with `Reclaimer.watch`. An explicit choice, so that forgetting it does not compile.
   *
   * @category layers
   * @since 0.1.0
   */
  static readonly layerElsewhere: Layer.Layer<Reclaimer> = /* @__PURE__ */ Layer.succeed(Reclaimer, {
    register: () => Effect.void
  })

  /**
   * Reclaims for subscriptions that run in other processes; needs no handler. Fails where a name is refused or the log
   * cannot be reached.
   *
   * @category layers
   * @since 0.1.0
   */
  static readonly watch = (
    subscriptions: ReadonlyArray<Address>
  ): Layer.Layer<never, SubscribeError, Transport | Reclaimer> =>
    Layer.effectDiscard(
      Effect.forEach(subscriptions, (subscription) =>
        Effect.gen(function* () {
          const reclaimer = yield* Reclaimer
          const fail = subscribeError(subscription.source.topic, subscription.name)
          const group = yield* Effect.fromResult(Result.mapError(address.check(subscription), fail))
          yield* Effect.mapError(reclaimer.register(group), (error) => fail(error.reason))
        })
      )
    )
}

const soonest = (ward: Ward, at: number) => {
  ward.next = Math.min(ward.next ?? Number.POSITIVE_INFINITY, at)
}
