/** Retention `"acknowledged"`, as a topic's options ask for it. */
import * as Duration from "effect/Duration"
import * as Option from "effect/Option"
import { InvalidOption } from "../Errors.ts"
import type { Acknowledged } from "../Source.ts"
import type { GroupStanding } from "../Transport.ts"
import * as durations from "./durations.ts"

/** When a group counts as abandoned unless the topic says otherwise: a week, so that a long holiday is none. */
export const abandonedAfter: Duration.Duration = /* @__PURE__ */ Duration.days(7)

export interface RawRetention {
  readonly retention?: string | undefined
  readonly abandonedAfter?: Duration.Input | undefined
}

export const problem = (options: RawRetention): InvalidOption | undefined => {
  const { abandonedAfter, retention } = options
  if (retention !== undefined && retention !== "acknowledged") {
    const text = `${JSON.stringify(retention)} is no retention: give "acknowledged", or leave it out to keep all`
    return new InvalidOption({ option: "retention", problem: text })
  }
  if (abandonedAfter === undefined) return undefined
  const refuse = (problem: string) => new InvalidOption({ option: "abandonedAfter", problem })
  if (retention === undefined)
    return refuse(`it counts only beside retention "acknowledged": add that, or leave it out`)
  const valid = Option.exists(durations.finite(abandonedAfter), Duration.isPositive)
  return valid ? undefined : refuse("give a finite duration above 0, or leave it out")
}

/** What the options ask for; meaningless where they have a problem. */
export const acknowledged = (options: RawRetention): Acknowledged | undefined =>
  options.retention === undefined
    ? undefined
    : {
        abandonedAfter: Option.getOrElse(
          durations.finite(options.abandonedAfter ?? abandonedAfter),
          () => abandonedAfter
        )
      }

/** It holds something back, and nothing was heard of it for longer than that. */
export const isAbandoned = ({ holds, silent }: GroupStanding, after: Duration.Duration): boolean =>
  Option.isSome(holds) && Duration.isGreaterThan(silent, after)
