/** What invariants are judged by: the rules of a scenario, what faults excuse, and what settlements mean. */
import type { Fault, History, Life, Settlement, Start } from "./history.ts"

export interface Rules {
  readonly subscriptions: ReadonlyArray<string>
  readonly maxRetries: number
  /** Whether every attempt fails: such a message ends among the dead letters. */
  readonly fails: (sub: string, n: number) => boolean
  /** Keys that may be there at the end. */
  readonly keys: ReadonlyArray<string>
  /** Workers are killed or frozen: a message whose processes died too often is dead-lettered though no handler failed. */
  readonly deaths?: boolean
  /** The topic's retention drops messages: as many may be lost as publishers counted, of those that nobody started. */
  readonly trims?: boolean
  /** The key of a message, where order by key is promised. */
  readonly keyOf?: (n: number) => string
}

/** What broke an invariant, and for which messages. */
export interface Broken {
  readonly text: string
  readonly ns: ReadonlyArray<number>
}

export type Check = (history: History, rules: Rules) => ReadonlyArray<Broken>

/** The fault that may have taken what was asked for at `from` and confirmed at `at`, if one did so before `until`. */
export const taken = (history: History, what: { readonly from: number; readonly at: number }, until = Infinity) =>
  history.faults.find(
    ({ at, from, loses }: Fault) =>
      loses !== undefined && from <= until && at >= what.from && (loses === "all" || what.at >= from - loses * 1000)
  )

export const wasFrozen = (history: History, { at, by }: Start): boolean =>
  history.faults.some((fault) => fault.what === "SIGSTOP" && fault.to === by && fault.at >= at - 1_000_000)

/** Its settlement found that another one has the message, or that there is nothing to settle: it had begun late. */
export const isRefused = (life: Life, { at, by, entry }: Start): boolean =>
  life.settlements.some(
    (one) => (one.how === "lost" || one.how === "unknown") && one.by === by && one.entry === entry && one.at >= at
  )

/** A worker that was cut off began late what it had lost, not marked as begun; and it was given that again. */
export const isGivenAgain = ({ fetches }: Life, first: Start, second: Start): boolean =>
  first.by === second.by &&
  fetches.some(
    ({ at, attempt, by, entry }) =>
      by === first.by && entry === first.entry && entry === second.entry && attempt === first.attempt && at > first.at
  )

export const isAccepted = ({ how, outcome }: Settlement): boolean => how === "done" && outcome !== "Release"
export const isFinal = ({ how, outcome }: Settlement): boolean =>
  how === "done" && (outcome === "Ack" || outcome === "DeadLetter")
