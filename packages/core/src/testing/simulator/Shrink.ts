/** Makes a failing history smaller: fewer faults, messages, subscriptions and workers, and earlier faults, while it fails. */
import type { Fault } from "./Faults.ts"
import type { Outcome, Plan } from "./History.ts"

/** Runs of histories, at most, and steps of all of them: some seconds' work. */
const mostRuns = 1500
const mostSteps = 6_000_000

/** The promise that the scenario's author makes, as `Violation` calls it. */
const atRest = "scenario"

/**
 * Leaving something out also moves what is left; another order may bring the failure back. Few are tried at first, and more
 * where nothing that is left out leaves a failure.
 */
const orders = [4, 16, 64]

type Complete = Plan & {
  readonly subscriptions: ReadonlyArray<number>
  readonly messages: ReadonlyArray<number>
  readonly faults: ReadonlyArray<Fault>
}

/** All that the plan leaves open, said. */
const complete = (outcome: Outcome, messages: number): Complete => ({
  seed: outcome.plan.seed,
  workers: outcome.plan.workers,
  order: outcome.plan.order,
  subscriptions: outcome.plan.subscriptions ?? range(outcome.subscriptions),
  messages: outcome.plan.messages ?? range(messages),
  faults: outcome.plan.faults
})

const range = (n: number): ReadonlyArray<number> => Array.from({ length: n }, (_, i) => i + 1)

/** The list without some: first without halves of it, at last without single ones. */
function* without<A>(list: ReadonlyArray<A>): Generator<ReadonlyArray<A>> {
  for (let size = Math.ceil(list.length / 2); size >= 1; size = size === 1 ? 0 : Math.ceil(size / 2)) {
    for (let from = 0; from < list.length; from += size) yield [...list.slice(0, from), ...list.slice(from + size)]
  }
}

function* smaller(plan: Complete): Generator<Complete> {
  for (const faults of without<Fault>(plan.faults)) yield { ...plan, faults }
  for (const messages of without(plan.messages)) if (messages.length > 0) yield { ...plan, messages }
  for (const subscriptions of without(plan.subscriptions)) {
    if (subscriptions.length > 0) yield { ...plan, subscriptions }
  }
  if (plan.workers > 1) yield { ...plan, workers: plan.workers - 1 }
  // what strikes late needs much to go before it
  for (const [i, fault] of plan.faults.entries()) {
    for (const nth of new Set([1, Math.ceil(fault.nth / 2), fault.nth - 1])) {
      if (nth > 0 && nth < fault.nth) yield { ...plan, faults: plan.faults.with(i, { ...fault, nth }) }
    }
  }
}

/** The smallest history that was found on the way down to break the same promise. */
export const shrink = (failed: Outcome, messages: number, run: (plan: Plan) => Outcome): Outcome => {
  let smallest = failed
  let runs = 0
  let steps = 0
  const hasTime = () => runs < mostRuns && steps < mostSteps
  const again = (plan: Plan): Outcome => {
    const outcome = run(plan)
    runs++
    steps += outcome.steps
    return outcome
  }
  const breaks = (outcome: Outcome) => outcome.violation?.promise === failed.violation?.promise
  /** What must hold at rest may be told of the whole: where it takes faults to break it, a part that needs none is beside it. */
  const isBeside = (plan: Complete): boolean => {
    const whole = complete(smallest, messages)
    const isPart =
      plan.messages.length < whole.messages.length || plan.subscriptions.length < whole.subscriptions.length
    if (failed.violation?.promise !== atRest || whole.faults.length === 0 || !isPart) return false
    return breaks(again({ ...plan, faults: [] }))
  }
  const fails = (plan: Complete, most: number): Outcome | undefined => {
    for (let i = 0; i < most && hasTime(); i++) {
      const outcome = again({ ...plan, order: (plan.order ?? 0) + i })
      if (breaks(outcome)) return isBeside(complete(outcome, messages)) ? undefined : outcome
    }
    return undefined
  }
  const step = (most: number): boolean => {
    for (const plan of smaller(complete(smallest, messages))) {
      const outcome = fails(plan, most)
      if (outcome === undefined) continue
      smallest = outcome
      return true
    }
    return false
  }
  // what its plan does not make again cannot be made smaller
  if (breaks(again(complete(failed, messages)))) while (orders.some(step));
  return smallest
}
