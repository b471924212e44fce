/**
 * From answers to a report: medians, ratios, and which targets are met.
 */
import type { Answer, Contestant, Figure, Figures, Task } from "./job.ts"
import type { Measurement } from "./measurements.ts"
import type { Options } from "./options.ts"
import type { Machine, Rounds } from "./rounds.ts"
import type { Scenario, Target } from "./scenarios.ts"

export interface Measured {
  readonly id: string
  readonly contestant: Contestant
  readonly task: Task
  readonly messages: number
  /** Of the rounds; empty where there is none. */
  readonly median: Figures
  readonly rounds: ReadonlyArray<Figures>
  /** Why it could not be measured. */
  readonly unavailable?: string
  /** What went wrong. */
  readonly failed?: string
}

export interface Judged {
  readonly scenario: string
  readonly what: string
  readonly bound: string
  /** The figure, or the median of the rounds' ratios; none where it was not measured. */
  readonly value?: number
  readonly unit: string
  /** The same ratio of CPU a message, Node's and Redis's together: what other load on the machine changes least. */
  readonly byCpu?: number
  readonly met?: boolean
}

export interface Report {
  readonly date: string
  readonly machine: Machine
  readonly rounds: number
  readonly share: number
  readonly seconds: number
  readonly scenarios: ReadonlyArray<{
    readonly name: string
    readonly title: string
    readonly measurements: ReadonlyArray<string>
  }>
  readonly targets: ReadonlyArray<Judged>
  readonly measurements: ReadonlyArray<Measured>
}

const median = (values: ReadonlyArray<number>): number => {
  const half = (values.length - 1) / 2
  const sorted = values.toSorted((a, b) => a - b)
  return ((sorted[Math.floor(half)] ?? Number.NaN) + (sorted[Math.ceil(half)] ?? Number.NaN)) / 2
}

const measured = (one: Measurement, answers: ReadonlyArray<Answer>): Measured => {
  const rounds = answers.flatMap((answer) => ("figures" in answer ? [answer.figures] : []))
  const names = new Set(rounds.flatMap((figures) => Object.keys(figures) as Array<Figure>)) // the keys of Figures
  const problem = answers.find((answer) => !("figures" in answer))
  return {
    id: one.id,
    contestant: one.contestant,
    task: one.task,
    messages: one.messages,
    median: Object.fromEntries(
      Array.from(names, (name) => [name, median(rounds.flatMap((figures) => figures[name] ?? []))])
    ),
    rounds,
    ...problem
  }
}

/** A ratio is taken round by round, since what drifts between rounds does not show in it. */
const ratio = (
  of: ReadonlyArray<Figures>,
  over: ReadonlyArray<Figures> | undefined,
  figure: (figures: Figures) => number | undefined
): number | undefined => {
  const values = of.flatMap((figures, round) => {
    const value = figure(figures)
    const base = over?.[round]
    const divisor = over === undefined ? 1 : base === undefined ? undefined : figure(base)
    return value === undefined || divisor === undefined ? [] : [value / divisor]
  })
  return values.length === 0 ? undefined : median(values)
}

/** Messages that a second of CPU is enough for. */
const perCpu = ({ node, redis }: Figures) =>
  node === undefined || redis === undefined ? undefined : 1e6 / (node + redis)

const judge = (scenario: Scenario, target: Target, all: ReadonlyMap<string, Measured>): Judged => {
  const { atLeast, bound, figure, over, unit } = target
  const suffix = unit ?? (over === undefined ? "" : "×")
  const of = all.get(target.of.id)?.rounds ?? []
  const base = over === undefined ? undefined : (all.get(over.id)?.rounds ?? [])
  const judged = {
    scenario: scenario.name,
    what: target.what,
    bound: `${atLeast ? "≥" : "≤"} ${bound} ${suffix}`.trim(),
    unit: suffix
  }
  const value = ratio(of, base, (figures) => figures[figure])
  if (value === undefined) return judged
  const byCpu = figure === "rate" && base !== undefined ? ratio(of, base, perCpu) : undefined
  return {
    ...judged,
    value,
    ...(byCpu === undefined ? {} : { byCpu }),
    met: atLeast ? value >= bound : value <= bound
  }
}

export const evaluate = (options: Options, rounds: Rounds): Report => {
  const measurements = Array.from(rounds.answers, ([one, answers]) => measured(one, answers))
  const byId = new Map(measurements.map((one) => [one.id, one]))
  return {
    date: new Date().toISOString().slice(0, 10),
    machine: rounds.machine,
    rounds: options.rounds,
    share: options.share,
    seconds: Math.round(rounds.seconds),
    scenarios: options.scenarios.map(({ measurements, name, title }) => ({
      name,
      title,
      measurements: measurements.map(({ id }) => id).filter((id) => byId.has(id))
    })),
    targets: options.scenarios.flatMap((scenario) => scenario.targets.map((target) => judge(scenario, target, byId))),
    measurements
  }
}
