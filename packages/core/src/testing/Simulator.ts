/**
 * Histories by chance: the runtime itself, in several workers over one in-memory log, under virtual time, while calls
 * fail, replies get lost and workers die or stand still. Each history is checked against the contract, and against what
 * you say must hold of your own handlers.
 *
 * A seed decides about everything: what goes wrong, where and when, and who runs next. So a history that breaks a promise
 * breaks it again, as often as it is run. It is made as small as it gets, and printed as a table of what happened.
 *
 * Handlers run as they are, with two limits. They wait by Effect's clock only, so what they call must be a stand-in that
 * answers without sockets and promises. And what outlives a worker, such as a database, is a value that the scenario makes.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Random from "effect/Random"
import { spelling } from "../internal/spelling.ts"
import * as MemoryTransport from "../MemoryTransport.ts"
import type { Topic } from "../Topic.ts"
import type { Transport } from "../Transport.ts"
import { Dice } from "./simulator/Dice.ts"
import type { Fault } from "./simulator/Faults.ts"
import * as one from "./simulator/History.ts"
import type { Event } from "./simulator/Ledger.ts"
import { mixed as mixedScenario } from "./simulator/Mixed.ts"
import type { Violation } from "./simulator/Model.ts"
import * as scenarios from "./simulator/Scenario.ts"
import { shrink } from "./simulator/Shrink.ts"
import * as tables from "./simulator/Table.ts"

// -----------------------------------------------------------------------------
// models
// -----------------------------------------------------------------------------

export type { Call, Fault, Kind } from "./simulator/Faults.ts"
export type { Plan } from "./simulator/History.ts"
export type { Event } from "./simulator/Ledger.ts"
export type { Violation } from "./simulator/Model.ts"
export type { Options as ScenarioOptions, Publication, Scenario } from "./simulator/Scenario.ts"

/**
 * How a history went.
 *
 * @category models
 * @since 0.1.0
 */
export interface History {
  /** With the faults that struck: what makes the same history again. */
  readonly plan: one.Plan & { readonly faults: ReadonlyArray<Fault> }
  /** None where every promise was kept. */
  readonly violation: Violation | undefined
  /** What happened, in order. */
  readonly events: ReadonlyArray<Event>
  /** How many subscriptions ran in each worker. */
  readonly subscriptions: number
  /** How many messages the log stored. */
  readonly messages: number
  /** How often a message was delivered, to any of them. */
  readonly deliveries: number
  /** How much virtual time passed, in milliseconds. */
  readonly millis: number
}

/**
 * What many histories had: the least, the median and the most of each.
 *
 * @category models
 * @since 0.1.0
 */
export interface Report {
  /** How many were run; all of them kept every promise. */
  readonly histories: number
  readonly workers: Spread
  readonly subscriptions: Spread
  readonly messages: Spread
  readonly faults: Spread
  readonly deliveries: Spread
  /** Virtual milliseconds. */
  readonly millis: Spread
}

/**
 * Of some numbers.
 *
 * @category models
 * @since 0.1.0
 */
export interface Spread {
  readonly least: number
  readonly median: number
  readonly most: number
}

/**
 * A history broke a promise. The message is the table of the smallest history that was found to do so, and its plan.
 *
 * @category errors
 * @since 0.1.0
 */
export class PromiseBroken extends Data.TaggedError("PromiseBroken")<{
  /** The smallest history found. */
  readonly history: History
  /** The seed of the history that failed first. */
  readonly seed: string
  /** How many histories had kept every promise before it. */
  readonly histories: number
}> {
  override get message(): string {
    return `after ${this.histories} histories, with seed "${this.seed}": ${tables.account(this.history)}`
  }
}

// -----------------------------------------------------------------------------
// scenarios
// -----------------------------------------------------------------------------

/**
 * What a history is about. Make it inside the Effect that `check` and `run` take, which is run anew for each history: so
 * every history has subscriptions, a database and an outcome of its own. The Effect's `Random` is seeded.
 *
 * @category constructors
 * @since 0.1.0
 */
export const scenario: typeof scenarios.make = scenarios.make

/**
 * A message to be published in a history.
 *
 * @category constructors
 * @since 0.1.0
 */
export const message = <A>(topic: Topic<A>, data: NoInfer<A>): scenarios.Publication => ({
  _tag: "Message",
  topic: topic as unknown as Topic<unknown>, // it is given data of its own only
  data
})

/**
 * An entry that nobody can decode, by its text. No handler may ever see it; every subscription must bury it.
 *
 * @category constructors
 * @since 0.1.0
 */
export const poison: <A>(topic: Topic<A>, text: string) => scenarios.Publication = scenarios.poison

export { remote } from "./simulator/Remote.ts"
export { stored } from "./simulator/Scenario.ts"

/**
 * The scenario that proves the runtime itself: two or three subscriptions with policies of any kind, and handlers that
 * succeed, fail, die, outlast their lease or settle by hand.
 *
 * @category constructors
 * @since 0.1.0
 */
export const mixed: Effect.Effect<scenarios.Scenario> = mixedScenario

// -----------------------------------------------------------------------------
// running
// -----------------------------------------------------------------------------

/**
 * What `run` and `check` have in common.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /** Run anew for each history, synchronously. */
  readonly scenario: Effect.Effect<scenarios.Scenario>
  /** Faults at least, in a history whose faults are drawn. Default 3. */
  readonly faults?: number | undefined
  /** The log. Default: `MemoryTransport.make`. One that misbehaves shows that a promise is watched. */
  readonly log?: Effect.Effect<Transport["Service"]> | undefined
}

/**
 * Runs one history. The same plan makes the same history.
 *
 * @category running
 * @since 0.1.0
 */
export const run = (options: Options & { readonly plan: one.Plan }): Effect.Effect<History> =>
  Effect.sync(() => {
    const { faults = defaultFaults, plan } = options
    refuseMisspelt("run", options, ["plan"])
    refuse("run", { workers: [plan.workers, 1], faults: [faults, 0] })
    return recorded(setup(options), plan)
  })

const recorded = (base: ReturnType<typeof setup>, plan: one.Plan): History => {
  const { steps: _, ...history } = one.run({ ...base, plan, recording: true })
  return history
}

const defaultFaults = 3

/** Of a misspelt option, the default would be checked. */
const refuseMisspelt = (what: string, options: object, others: ReadonlyArray<string>) => {
  const problem = spelling(new Set(["scenario", "faults", "log", ...others]), options)
  if (problem !== undefined) throw new TypeError(`Simulator.${what}: ${problem.message}`)
}

/** Whole numbers, from the least that proves something: a check of nothing would find nothing wrong. */
const refuse = (what: string, numbers: Readonly<Record<string, readonly [value: number, least: number]>>) => {
  for (const [name, [value, least]] of Object.entries(numbers)) {
    if (Number.isSafeInteger(value) && value >= least) continue
    throw new TypeError(`Simulator.${what}: ${name}: ${value} is refused: give a whole number from ${least}`)
  }
}

const setup = ({ faults = defaultFaults, log = MemoryTransport.make, scenario }: Options) => ({
  scenario,
  leastFaults: faults,
  log
})

/**
 * Runs many histories, and fails with the smallest one that breaks a promise.
 *
 * The process is given back to others now and then, so a test's timeout is what ends it; ten thousand histories take
 * about a minute of one core.
 *
 * @category running
 * @since 0.1.0
 */
export const check = (
  options: Options & {
    /** How many. Default 1000. */
    readonly histories?: number | undefined
    /** Another seed makes other histories. Default `"clutch"`. */
    readonly seed?: string | undefined
    /** Workers at once. Default 3. */
    readonly workers?: number | undefined
  }
): Effect.Effect<Report, PromiseBroken> =>
  Effect.gen(function* () {
    const { faults = defaultFaults, histories = 1000, seed = "clutch", workers = 3 } = options
    refuseMisspelt("check", options, ["histories", "seed", "workers"])
    refuse("check", { histories: [histories, 1], workers: [workers, 1], faults: [faults, 0] })
    const base = setup(options)
    const outcomes: Array<one.Outcome> = []
    for (let i = 0; i < histories; i++) {
      // others wait for the event loop: a reporter, a signal, a timeout
      if (i % 20 === 19) yield* Effect.yieldNow
      const plan: one.Plan = { seed: `${seed}/${i}`, workers }
      const outcome = one.run({ ...base, plan, recording: false })
      if (outcome.violation !== undefined) return yield* broken(base, outcome, i)
      outcomes.push(outcome)
    }
    return reportOf(outcomes)
  })

const broken = (base: ReturnType<typeof setup>, first: one.Outcome, histories: number) => {
  const again = (plan: one.Plan) => one.run({ ...base, plan, recording: false })
  const { messages } = Effect.runSyncWith(Context.make(Random.Random, new Dice(`${first.plan.seed}/scenario`)))(
    base.scenario
  )
  const smallest = shrink(first, messages.length, again)
  const history = recorded(base, smallest.plan)
  return Effect.fail(new PromiseBroken({ history: repeated(smallest, history), seed: first.plan.seed, histories }))
}

/** The history again; where it is another one by now, what it was made of is to be told, and what it broke. */
const repeated = ({ violation }: one.Outcome, history: History): History => {
  if (violation === undefined || history.violation?.promise === violation.promise) return history
  const why = "a variable that outlives a history, or time or chance that are not Effect's, decide about it"
  const problem = `${violation.problem}. The same plan has made another history since, the one below: ${why}`
  return { ...history, violation: { ...violation, problem } }
}

const reportOf = (outcomes: ReadonlyArray<one.Outcome>): Report => {
  const spread = (of: (outcome: one.Outcome) => number): Spread => {
    const sorted = outcomes.map(of).toSorted((a, b) => a - b)
    const at = (share: number) => sorted[Math.floor((sorted.length - 1) * share)] ?? 0
    return { least: at(0), median: at(0.5), most: at(1) }
  }
  return {
    histories: outcomes.length,
    workers: spread(({ plan }) => plan.workers),
    subscriptions: spread(({ subscriptions }) => subscriptions),
    messages: spread(({ messages }) => messages),
    faults: spread(({ plan }) => plan.faults.length),
    deliveries: spread(({ deliveries }) => deliveries),
    millis: spread(({ millis }) => millis)
  }
}

// -----------------------------------------------------------------------------
// printing
// -----------------------------------------------------------------------------

/**
 * A history as text: what was broken, a line for each thing that happened, and the plan that makes it again.
 *
 * @category printing
 * @since 0.1.0
 */
export const print = (history: History): string => tables.account(history)
