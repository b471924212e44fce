/**
 * The service that looks after groups between their deliveries: it moves retries that are due, rescues deliveries whose
 * consumer died, and clears dead consumers. Of topics with retention `"acknowledged"` it drops what every group has settled.
 * One fiber for each Transport, for every subscription registered with it.
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
import type * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import * as Layer from "effect/Layer"
import * as Metric from "effect/Metric"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import type * as Scope from "effect/Scope"
import type { Address } from "./Address.ts"
import type { SubscribeError, TransportError } from "./Errors.ts"
import * as address from "./internal/address.ts"
import { elapsed } from "./internal/elapsed.ts"
import * as Health from "./internal/health.ts"
import { tagsOf } from "./internal/observe.ts"
import { confirm } from "./internal/partitions.ts"
import { subscribeError } from "./internal/subscribeError.ts"
import * as Trimmer from "./internal/trimmer.ts"
import * as Metrics from "./Metrics.ts"
import { type Acknowledged, TypeId } from "./Source.ts"
import { type Group, Transport } from "./Transport.ts"

/** How soon a group is looked at again whose tending was a bug: rarely enough to be read in the log. */
const afterDefect = Duration.seconds(5)

/** What an answer takes anyway, in milliseconds: to count it would be to look too early each time. */
const roundTrip = 20

/** One group under care, or one log that is trimmed. */
interface Ward {
  /** As the log lines call it. */
  readonly loop: "reclaiming" | "trimming"
  readonly annotations: Readonly<Record<string, string>>
  readonly health: Health.Health
  /** One round; how long until the next at the latest, none where something has to change first. */
  readonly work: Effect.Effect<Option.Option<Duration.Duration>, TransportError>
  /** How soon after a change, in milliseconds. */
  readonly afterChange: number
  /** When to look again at the latest, on the runtime's clock; `undefined` until something changes. */
  next: number | undefined
  changed: boolean
  failures: number
}

/** A log that is trimmed, for as long as somebody here asks for it. */
interface Trimming {
  readonly asked: Set<Acknowledged>
  readonly key: string
  readonly ward: Ward
  readonly rung: () => void
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
    /**
     * Looks after a group until the scope closes. With `acknowledged`, also drops what every group on its log has settled.
     */
    readonly register: (group: Group, acknowledged?: Acknowledged) => Effect.Effect<void, TransportError, Scope.Scope>
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
      const trimmings = new Map<string, Trimming>()
      const changed = Latch.makeUnsafe(false)
      const clock = yield* Clock.Clock

      const again = (ward: Ward, pause: Duration.Duration, from = elapsed(clock)) =>
        soonest(ward, from + Duration.toMillis(pause))

      const look = (ward: Ward) =>
        Effect.suspend(() => {
          // cleared before looking: a change while the log is asked brings another look
          ward.next = undefined
          const asked = elapsed(clock)
          return Effect.matchEffect(ward.work, {
            onSuccess: (next) => {
              ward.failures = 0
              const now = elapsed(clock)
              // an answer that this process was too busy to hear is as old as that; the log counts on its being kept
              if (Option.isSome(next)) again(ward, next.value, now - asked > roundTrip ? asked : now)
              return ward.health.worked(ward.loop)
            },
            onFailure: (error) => {
              ward.failures += 1
              again(ward, Health.backoff(ward.failures, error))
              // one that was dropped meanwhile has no say any more
              return wards.has(ward) ? ward.health.failed(ward.loop, error) : Effect.void
            }
          })
        }).pipe(
          // one group's bug must not be the end of reclaiming for all
          Effect.catchDefect((defect) => {
            again(ward, afterDefect)
            return Effect.logFatal(`${ward.loop} died of a defect, and goes on`, defect)
          }),
          Effect.annotateLogs(ward.annotations)
        )

      /** Wakes the loop. One that comes too early does no harm, so it is only ever set to an earlier time. */
      const alarm: { at: number; fiber: Fiber.Fiber<void> | undefined } = { at: Infinity, fiber: undefined }
      const wake = (at: number) => {
        if (at >= alarm.at) return Effect.void
        alarm.fiber?.interruptUnsafe()
        alarm.at = at
        const rings = Effect.andThen(
          // counted from when it begins to sleep, which may be a freeze later
          Effect.suspend(() => Effect.sleep(Math.max(0, at - elapsed(clock)))),
          Effect.sync(() => {
            alarm.at = Infinity
            changed.openUnsafe()
          })
        )
        return Effect.map(Effect.forkChild(rings, { startImmediately: true }), (fiber) => {
          alarm.fiber = fiber
        })
      }

      const round = Effect.suspend(() => {
        changed.closeUnsafe()
        const now = elapsed(clock)
        const due: Array<Ward> = []
        let next = Infinity
        for (const ward of wards) {
          if (ward.changed) soonest(ward, now + ward.afterChange)
          ward.changed = false
          if (ward.next === undefined) continue
          if (ward.next <= now) due.push(ward)
          else next = Math.min(next, ward.next)
        }
        if (due.length > 0) return Effect.forEach(due, look, { discard: true })
        return Effect.andThen(wake(next), changed.await)
      })
      yield* Effect.forkScoped(Effect.whileLoop({ while: () => true, body: () => round, step: () => {} }))

      /** Of all partitions together, as it is one line that says how they are. */
      const healths = new Map<string, { readonly all: Health.All; wards: number }>()
      const keyOf = ({ annotations, loop }: Pick<Ward, "annotations" | "loop">) =>
        [loop, ...Object.values(annotations)].join("/")
      const take = (
        loop: Ward["loop"],
        annotations: Ward["annotations"],
        work: Ward["work"],
        afterChange = 0
      ): Ward => {
        const key = keyOf({ loop, annotations })
        const health = healths.get(key) ?? { all: Health.makeAll(), wards: 0 }
        health.wards += 1
        healths.set(key, health)
        const ward: Ward = {
          loop,
          annotations,
          health: health.all.of({}),
          work,
          afterChange,
          next: undefined,
          changed: false,
          failures: 0
        }
        wards.add(ward)
        return ward
      }

      const change = (ward: Ward) => {
        ward.changed = true
        changed.openUnsafe()
      }
      const drop = (ward: Ward) => {
        wards.delete(ward)
        ward.health.over(ward.loop)
        const key = keyOf(ward)
        const health = healths.get(key)
        if (health !== undefined && --health.wards === 0) healths.delete(key)
        // nothing sleeps until a time that is nobody's any more
        changed.openUnsafe()
      }

      const tending = (group: Group) =>
        Effect.acquireRelease(
          Effect.sync(() => {
            const annotations = { topic: group.topic, subscription: group.subscription }
            return take("reclaiming", annotations, tend(transport, group))
          }),
          (ward) => Effect.sync(() => drop(ward))
        )

      const trimming = ({ partition, topic }: Group, acknowledged: Acknowledged) =>
        Effect.acquireRelease(
          Effect.sync(() => {
            const key = `${partition}/${topic}`
            const known = trimmings.get(key)
            if (known !== undefined) {
              known.asked.add(acknowledged)
              return known
            }
            const asked = new Set([acknowledged])
            // the shortest: a report too many does no harm; a round may outlive the last who asked
            const abandonedAfter = () =>
              Array.from(asked.size === 0 ? [acknowledged] : asked, (one) => one.abandonedAfter).reduce((a, b) =>
                Duration.min(a, b)
              )
            const trimmer = Trimmer.make(transport, { topic, partition }, abandonedAfter)
            const work = Effect.asSome(trimmer.work)
            const ward = take("trimming", { topic }, work, Duration.toMillis(Trimmer.soon))
            ward.next = 0
            const trimming: Trimming = { key, asked, ward, rung: trimmer.rung }
            trimmings.set(key, trimming)
            return trimming
          }),
          ({ asked, key, ward }) =>
            Effect.sync(() => {
              asked.delete(acknowledged)
              if (asked.size > 0) return
              trimmings.delete(key)
              drop(ward)
            })
        )

      return Reclaimer.of({
        register: (group, acknowledged) => {
          const tended = Effect.flatMap(tending(group), (ward) =>
            Effect.map(
              transport.watch(group, () => change(ward)),
              () => change(ward)
            )
          )
          if (acknowledged === undefined) return tended
          // a registration of its own, also where two share one topic value
          const trimmed = Effect.flatMap(trimming(group, { ...acknowledged }), ({ rung, ward }) =>
            transport.watch(group, () => {
              rung()
              change(ward)
            })
          )
          return Effect.map(Effect.andThen(tended, trimmed), () => {
            changed.openUnsafe()
          })
        }
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
          const transport = yield* Transport
          const reclaimer = yield* Reclaimer
          const fail = subscribeError(subscription.source.topic, subscription.name)
          const groups = yield* Effect.fromResult(Result.mapError(address.check(subscription), fail))
          const { topic } = subscription.source
          const { acknowledged } = subscription.source[TypeId]
          const whole = Effect.gen(function* () {
            yield* confirm(transport, topic, groups.length, "watch")
            for (const group of groups) yield* reclaimer.register(group, acknowledged)
          })
          yield* Effect.mapError(whole, (error) => fail(error.reason))
        })
      )
    )
}

const tend = (transport: Transport["Service"], group: Group): Ward["work"] => {
  const tags = tagsOf(group, transport.system)
  const poisons = Metric.withAttributes(Metrics.poison, tags)
  const reclaims = Metric.withAttributes(Metrics.reclaimed, tags)
  const once = Effect.suspend(() => transport.tend(group))
  return Effect.flatMap(once, ({ next, poison, reclaimed }) => {
    const told = Effect.logWarning(`took ${reclaimed} deliveries from consumers that died`)
    const counted = [
      ...(poison > 0 ? [Metric.update(poisons, poison)] : []),
      ...(reclaimed > 0 ? [Metric.update(reclaims, reclaimed), told] : [])
    ]
    return counted.length === 0 ? Effect.succeed(next) : Effect.as(Effect.all(counted, { discard: true }), next)
  })
}

const soonest = (ward: Ward, at: number) => {
  ward.next = Math.min(ward.next ?? Number.POSITIVE_INFINITY, at)
}
