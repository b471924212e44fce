/**
 * What must hold of a history, an invariant a function; each says what broke it, and for which messages.
 *
 * A history is only what processes saw. What is judged is sound on that: where two processes' views could have crossed,
 * an invariant says nothing. What a fault of the log itself may lose is excused, and counted.
 */
import type { History, Life } from "./history.ts"
import {
  type Broken,
  type Check,
  isAccepted,
  isFinal,
  isGivenAgain,
  isRefused,
  type Rules,
  taken,
  wasFrozen
} from "./judging.ts"
import { fence, order } from "./ordering.ts"

export interface Violation extends Broken {
  readonly invariant: Invariant
}

/** Microseconds that a consumer without a sign of life may be remembered: 5 minutes, and some for tending. */
const rememberedFor = 330_000_000

// -----------------------------------------------------------------------------
// invariants
// -----------------------------------------------------------------------------

/** Of each attempt that began, if any, the lease was lost: of an entry that was trimmed, nobody else has anything then. */
const isTaken = ({ settlements, starts }: Life): boolean =>
  starts.every(({ attempt, by }) =>
    settlements.some((one) => one.how === "lost" && one.attempt === attempt && one.by === by)
  )

/** Messages that were confirmed, and neither handled nor dead-lettered, by what explains it; none where nothing does. */
export const losses = (
  history: History,
  rules: Rules
): ReadonlyArray<{ readonly sub: string; readonly n: number; readonly excuse: "fault" | "trimmed" | undefined }> =>
  rules.subscriptions.flatMap((sub) => {
    return [...history.published].flatMap(([n, published]) => {
      if (published.how !== "confirmed" || history.letters(sub, n).length > 0) return []
      const life = history.life(sub, n)
      if (life?.ends.some(({ how }) => how === "succeeded")) return []
      const excuse =
        taken(history, published) !== undefined
          ? ("fault" as const)
          : rules.trims === true && (life === undefined || isTaken(life))
            ? ("trimmed" as const)
            : undefined
      return [{ sub, n, excuse }]
    })
  })

const perLife =
  (judge: (life: Life, history: History, rules: Rules) => string | undefined): Check =>
  (history, rules) =>
    history.lives.flatMap((life) => {
      const text = judge(life, history, rules)
      return text === undefined ? [] : [{ text: `${life.n} of ${life.sub}: ${text}`, ns: [life.n] }]
    })

const lost: Check = (history, rules) => {
  const all = losses(history, rules)
  const unexplained = all.filter(({ excuse }) => excuse === undefined)
  const trimmed = rules.subscriptions.map((sub) => all.filter((one) => one.sub === sub && one.excuse === "trimmed"))
  return [
    ...unexplained.map(({ n, sub }) => ({ text: `${n} was confirmed, and lost for ${sub}`, ns: [n] })),
    ...trimmed
      .filter(({ length }) => length > history.trimmed)
      .map((ones) => ({
        text: `${ones.length} of ${ones[0]?.sub} are gone, and only ${history.trimmed} were counted as trimmed`,
        ns: ones.slice(0, 3).map(({ n }) => n)
      }))
  ]
}

const phantom: Check = perLife(({ n, starts }, history) =>
  starts.length > 0 && !history.intended.has(n) ? "handled, and never published" : undefined
)

const ackedUnhandled: Check = perLife(({ ends, settlements }) => {
  const bad = settlements.find(
    ({ by, entry, from, how, outcome }) =>
      outcome === "Ack" &&
      how === "done" &&
      !ends.some((end) => end.how === "succeeded" && end.by === by && end.entry === entry && end.at <= from)
  )
  return bad === undefined ? undefined : `acked by ${bad.by}, where no handler had succeeded`
})

/** One delivery settled twice, or one message ended twice. */
const settledTwice: Check = perLife((life, history) => {
  const letters = history.letters(life.sub, life.n)
  const groups = [...Map.groupBy(life.settlements.filter(isAccepted), ({ entry }) => entry).values()]
  for (const group of [...groups, life.settlements.filter(isFinal)]) {
    for (const [i, second] of group.entries()) {
      const first = group[i - 1]
      if (first === undefined) continue
      // a server that lost its place may have answered last, and be the one whose settlement is gone
      if ([first, second].some((one) => taken(history, one, second.at) !== undefined)) continue
      return `${first.outcome} by ${first.by} was accepted, then ${second.outcome} by ${second.by}`
    }
  }
  const acked = life.settlements.find(({ how, outcome }) => how === "done" && outcome === "Ack")
  const settled = acked ?? life.starts[0]
  const excused = settled !== undefined && taken(history, { from: 0, at: settled.at }) !== undefined
  if (letters.length > 1 && !excused) return `${letters.length} dead letters`
  if (acked !== undefined && letters.length > 0 && !excused) return "acked, and a dead letter too"
  return undefined
})

/**
 * A settlement was accepted though, before it was asked for, somebody else had been given the entry. That it was given
 * later is told by its attempt: of one entry, the log never counts down by more than it counts up next.
 */
const stale: Check = perLife(({ fetches, settlements }, history) => {
  for (const one of settlements.filter(isAccepted)) {
    const heir = fetches.find(
      ({ at, attempt, by, entry }) => entry === one.entry && by !== one.by && attempt > one.attempt && at < one.from
    )
    if (heir === undefined || taken(history, { from: 0, at: one.at }, heir.at) !== undefined) continue
    return `${one.outcome} of attempt ${one.attempt} by ${one.by} was accepted, and ${heir.by} had attempt ${heir.attempt}`
  }
  return undefined
})

const attempts: Check = (history, { maxRetries }) => [
  ...perLife(({ settlements, starts }) => {
    const most = Math.max(0, ...starts.map(({ attempt }) => attempt))
    if (most > maxRetries + 1) return `attempt ${most} was started`
    const retries = settlements.filter(({ how, outcome }) => how === "done" && outcome === "Retry")
    const [first] = retries
    return first !== undefined && retries.length > maxRetries && taken(history, first) === undefined
      ? `${retries.length} retries were accepted`
      : undefined
  })(history, { subscriptions: [], maxRetries, fails: () => false, keys: [] }),
  ...history.rest.letters
    .filter(({ attempts, reason }) => attempts > maxRetries + 1 || (reason === "exhausted" && attempts <= maxRetries))
    .map(({ attempts, n, reason, sub }) => ({ text: `${n} of ${sub}: ${reason} after ${attempts} attempts`, ns: [n] }))
]

/** An attempt that was begun counts: the next one has another number, unless it was given back. */
const uncounted: Check = perLife((life, history) => {
  for (const [i, second] of life.starts.entries()) {
    const first = life.starts.slice(0, i).find(({ attempt }) => attempt === second.attempt)
    if (first === undefined) continue
    const released = life.settlements.some(
      ({ attempt, outcome }) => outcome === "Release" && attempt === second.attempt
    )
    const late =
      [first, second].some((start) => isRefused(life, start) || wasFrozen(history, start)) ||
      isGivenAgain(life, first, second)
    if (released || late || taken(history, { from: first.at, at: second.at }, second.at) !== undefined) continue
    return `attempt ${second.attempt} was started by ${first.by}, and again by ${second.by}`
  }
  return undefined
})

const deadLetters: Check = (history, { deaths, fails, subscriptions }) => [
  ...history.rest.letters
    .filter(({ n, sub }) => deaths !== true && !fails(sub, n))
    .map(({ n, sub }) => ({ text: `${n} of ${sub} is a dead letter, and nothing explains it`, ns: [n] })),
  ...history.rest.letters
    .filter(({ sub }) => !subscriptions.includes(sub))
    .map(({ n, sub }) => ({ text: `${n} is a dead letter of ${sub}, which has no handler`, ns: [n] }))
]

const rest: Check = ({ rest }, { keys }) => [
  ...rest.unsettled.map((text) => ({ text: `left at the end: ${text}`, ns: [] })),
  ...rest.keys.filter((key) => !keys.includes(key)).map((key) => ({ text: `a key leaked: ${key}`, ns: [] }))
]

/** Who left is forgotten; who was killed is forgotten after five minutes without a sign of life. */
const consumers: Check = ({ consumers, events, faults, rest }) =>
  rest.consumers.flatMap((name) => {
    const by = consumers.get(name)
    const killed = faults.some(({ at, to, what }) => what === "SIGKILL" && to === by && rest.at - at < rememberedFor)
    // a process that was killed before it could write that it had joined
    const silent = by === undefined && faults.some(({ at, what }) => what === "SIGKILL" && rest.at - at < rememberedFor)
    if (killed || silent) return []
    const last = events.findLast((event) => event.by === by)
    return [{ text: `consumer ${name} of ${by ?? "nobody"} is still known (${last?.is ?? "no event"})`, ns: [] }]
  })

export const invariants = {
  lost,
  phantom,
  ackedUnhandled,
  settledTwice,
  stale,
  attempts,
  uncounted,
  deadLetters,
  order,
  fence,
  rest,
  consumers
} as const satisfies Record<string, Check>

export type Invariant = keyof typeof invariants

/** All that is wrong with a history; nothing where all invariants hold. */
export const check = (history: History, rules: Rules): ReadonlyArray<Violation> =>
  Object.entries(invariants).flatMap(
    ([invariant, judge]) =>
      judge(history, rules).map((one): Violation => ({ invariant: invariant as Invariant, ...one })) // a key of the table above
  )
