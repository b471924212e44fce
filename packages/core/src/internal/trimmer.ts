/** Dropping what every group on a log has settled: how often one looks, and what is told of those who hold it back. */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import * as Option from "effect/Option"
import type { TransportError } from "../Errors.ts"
import * as Metrics from "../Metrics.ts"
import type { GroupStanding, Log, Transport } from "../Transport.ts"

/** After something was published or dropped; what is published now is settled soon. */
export const soon: Duration.Duration = /* @__PURE__ */ Duration.seconds(1)

/** Where nothing happens, and between two looks at the groups. */
const rarely = Duration.minutes(1)

export interface Trimmer {
  /** One round; how long until the next at the latest. */
  readonly work: Effect.Effect<Duration.Duration, TransportError>
  /** Something was published. */
  readonly rung: () => void
}

export const make = (transport: Transport["Service"], log: Log, abandonedAfter: () => Duration.Duration): Trimmer => {
  const tags = { "messaging.system": transport.system, "messaging.destination.name": log.topic }
  const reported = new Set<string>()
  let gap = soon
  let checked = Number.NEGATIVE_INFINITY

  /** A word where a group's state changes, however often one looks. */
  const tell = ({ holds, name, silent }: GroupStanding, abandoned: boolean) =>
    Effect.gen(function* () {
      if (abandoned === reported.has(name)) return
      if (abandoned) reported.add(name)
      else reported.delete(name)
      const gauge = Metric.withAttributes(Metrics.abandoned, {
        ...tags,
        "messaging.consumer.group.name": name,
        "messaging.destination.partition.id": String(log.partition)
      })
      yield* Metric.update(gauge, abandoned ? 1 : 0)
      yield* (
        abandoned
          ? Effect.logWarning(
              `the group is abandoned and holds back trimming: not heard of for ${Duration.format(silent)}, and it has ` +
                `not settled what is there from ${Option.getOrElse(holds, () => "0-0")} on. Start it again, or remove it ` +
                `with Topic.removeGroup`
            )
          : Effect.logInfo("the group holds nothing back any more: it is back, or was removed")
      ).pipe(Effect.annotateLogs({ topic: log.topic, partition: log.partition, subscription: name }))
    })

  const report = Effect.gen(function* () {
    const groups = yield* transport.groups(log)
    const limit = abandonedAfter()
    for (const group of groups) yield* tell(group, isAbandoned(group, limit))
    for (const name of Array.from(reported)) {
      if (!groups.some((group) => group.name === name)) yield* tell({ ...removed, name }, false)
    }
  })

  return {
    rung: () => {
      gap = soon
    },
    work: Effect.gen(function* () {
      const { more, trimmed } = yield* transport.trim(log)
      if (trimmed > 0) yield* Metric.update(Metric.withAttributes(Metrics.cleared, tags), trimmed)
      if (more) return Duration.zero
      const next = gap
      gap = trimmed > 0 ? soon : Duration.min(Duration.times(gap, 2), rarely)
      const now = yield* Clock.currentTimeMillis
      const period = Duration.min(rarely, Duration.divideUnsafe(abandonedAfter(), 4))
      if (now - checked >= Duration.toMillis(period)) {
        yield* report
        checked = now
      }
      return Duration.min(trimmed > 0 ? soon : next, period)
    })
  }
}

const removed: Omit<GroupStanding, "name"> = {
  missing: true,
  consumers: 0,
  pending: 0,
  holds: Option.none(),
  silent: Duration.zero
}

/** It holds something back, and nothing was heard of it for longer than that. */
export const isAbandoned = ({ holds, silent }: GroupStanding, after: Duration.Duration): boolean =>
  Option.isSome(holds) && Duration.isGreaterThan(silent, after)
