/** Dropping what every group on a log has settled: how often one looks, and what is told of those who hold it back. */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import * as Option from "effect/Option"
import type { TransportError } from "../Errors.ts"
import * as Metrics from "../Metrics.ts"
import type { GroupStanding, Log, Transport } from "../Transport.ts"
import { isAbandoned } from "./retention.ts"

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
  const trim = Effect.suspend(() => transport.trim(log))
  const standings = Effect.suspend(() => transport.groups(log))
  const reported = new Set<string>()
  let gap = soon
  let checked = Number.NEGATIVE_INFINITY

  /** A word where a group's state changes, however often one looks. */
  const tell = ({ holds, name, silent }: GroupStanding, abandoned: boolean) =>
    Effect.suspend(() => {
      if (abandoned === reported.has(name)) return Effect.void
      if (abandoned) reported.add(name)
      else reported.delete(name)
      const gauge = Metric.withAttributes(Metrics.abandoned, {
        ...tags,
        "messaging.consumer.group.name": name,
        "messaging.destination.partition.id": String(log.partition)
      })
      const line = abandoned
        ? Effect.logWarning(
            `the group is abandoned and holds back trimming: not heard of for ${Duration.format(silent)}, and it has ` +
              `not settled what is there from ${Option.getOrElse(holds, () => "0-0")} on. Start it again, or remove it ` +
              `with Topic.removeGroup`
          )
        : Effect.logInfo("the group holds nothing back any more: it is back, or was removed")
      return Effect.andThen(
        Metric.update(gauge, abandoned ? 1 : 0),
        Effect.annotateLogs(line, { topic: log.topic, partition: log.partition, subscription: name })
      )
    })

  const report = Effect.flatMap(standings, (groups) => {
    const limit = abandonedAfter()
    const gone = Array.from(reported).filter((name) => !groups.some((group) => group.name === name))
    return Effect.andThen(
      Effect.forEach(groups, (group) => tell(group, isAbandoned(group, limit)), { discard: true }),
      Effect.forEach(gone, (name) => tell({ ...removed, name }, false), { discard: true })
    )
  })

  /** How long until the next round, where this one came to the end; looks after the groups now and then. */
  const rest = (trimmed: number) =>
    Effect.flatMap(Clock.currentTimeMillis, (now) => {
      const next = trimmed > 0 ? soon : gap
      gap = trimmed > 0 ? soon : Duration.min(Duration.times(gap, 2), rarely)
      const period = Duration.clamp(Duration.divideUnsafe(abandonedAfter(), 4), { minimum: soon, maximum: rarely })
      const pause = Duration.min(next, period)
      if (now - checked < Duration.toMillis(period)) return Effect.succeed(pause)
      return Effect.map(report, () => {
        checked = now
        return pause
      })
    })

  return {
    rung: () => {
      gap = soon
    },
    work: Effect.flatMap(trim, ({ more, trimmed }) =>
      Effect.andThen(
        trimmed > 0 ? Metric.update(Metric.withAttributes(Metrics.cleared, tags), trimmed) : Effect.void,
        more ? Effect.succeed(Duration.zero) : rest(trimmed)
      )
    )
  }
}

const removed: Omit<GroupStanding, "name"> = {
  missing: true,
  consumers: 0,
  pending: 0,
  holds: Option.none(),
  silent: Duration.zero
}
