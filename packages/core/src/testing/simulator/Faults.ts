/**
 * What goes wrong in a history, and where: at a call that a worker makes to the log, or to another system.
 *
 * Faults are drawn while a history runs, and noted by where they struck. A note is enough to make the same history
 * again, and a note left out is how a failing history is made smaller.
 */
import type { Dice } from "./Dice.ts"

/**
 * What is asked of the log; `remote` is a call to another system. Of a topic with a key, workers `enroll` instead of
 * joining, look at the `roster`, `claim` partitions and `cede` them.
 *
 * @category models
 * @since 0.1.0
 */
export type Call =
  | "publish"
  | "join"
  | "leave"
  | "watch"
  | "fetch"
  | "settle"
  | "extend"
  | "mark"
  | "tend"
  | "trim"
  | "look"
  | "remote"
  | "enroll"
  | "roster"
  | "claim"
  | "cede"

/**
 * What happens at a call.
 *
 * | kind | what happens |
 * |---|---|
 * | `fails` | nothing is done; the error says so |
 * | `losesReply` | it is done; the error says that nobody knows |
 * | `isLate` | it is done `millis` later |
 * | `replyIsLate` | it is done; the answer comes `millis` later |
 * | `isDoubled` | it is done twice |
 * | `isHalfDone` | some settlements of a batch are stored, the others are refused |
 * | `crashesBefore`, `crashesAfter` | the worker dies before, or after it is done; another starts `millis` later |
 * | `freezesBefore`, `freezesAfter` | the worker stands still for `millis` before, or after it is done |
 * | `closes` | the worker is told to close, gracefully; another starts `millis` later |
 * | `pauses` | the worker's subscriptions are paused, and resumed `millis` later |
 * | `vanishes` | the group has disappeared, and is there again from the first message that it had not settled |
 *
 * @category models
 * @since 0.1.0
 */
export type Kind =
  | "fails"
  | "losesReply"
  | "isLate"
  | "replyIsLate"
  | "isDoubled"
  | "isHalfDone"
  | "crashesBefore"
  | "crashesAfter"
  | "freezesBefore"
  | "freezesAfter"
  | "closes"
  | "pauses"
  | "vanishes"

/**
 * A fault, by where it strikes: at the `nth` such call of a worker (0 is who publishes), counted through its restarts.
 *
 * @category models
 * @since 0.1.0
 */
export interface Fault {
  readonly worker: number
  readonly call: Call
  readonly nth: number
  readonly kind: Kind
  readonly millis: number
}

/** Decides about each call. */
export interface Chaos {
  readonly at: (worker: number, call: Call) => Fault | undefined
  /** Nothing goes wrong from here on. */
  readonly end: () => void
  /** What struck. */
  readonly struck: ReadonlyArray<Fault>
}

const errors = ["fails", "fails", "losesReply", "losesReply"] as const
const late = ["isLate", "replyIsLate"] as const
const deaths = ["crashesBefore", "crashesAfter", "freezesBefore", "freezesAfter", "closes"] as const
const anywhere = [...errors, ...late, ...deaths, "pauses"] as const

const kinds: Record<Call, readonly [Kind, ...ReadonlyArray<Kind>]> = {
  publish: ["fails", "losesReply", ...late],
  join: anywhere,
  leave: ["fails", ...late, "crashesBefore", "crashesAfter", "freezesBefore", "freezesAfter"],
  watch: ["fails", ...late, ...deaths],
  fetch: [...anywhere, "vanishes"],
  settle: [...anywhere, "isDoubled", "isHalfDone", "vanishes"],
  extend: [...anywhere, "isDoubled", "vanishes"],
  // a client sends no command twice, and an old mark that came again behind a newer one would say what is not so
  mark: anywhere,
  tend: [...anywhere, "isDoubled", "vanishes"],
  trim: [...anywhere, "isDoubled"],
  look: [...errors, ...late],
  enroll: anywhere,
  roster: anywhere,
  claim: anywhere,
  cede: ["fails", ...late, "crashesBefore", "crashesAfter", "freezesBefore", "freezesAfter"],
  remote: [...late, ...deaths]
}

/** What is worth waiting for: most calls of a history are fetches and looks after groups. */
const wishes: ReadonlyArray<Call | undefined> = [
  undefined,
  undefined,
  "settle",
  "settle",
  "extend",
  "extend",
  "fetch",
  "mark",
  "mark",
  "tend"
]

class Counter {
  /** By worker. */
  private readonly counts: Array<Map<Call, number> | undefined> = []

  next(worker: number, call: Call): number {
    const calls = (this.counts[worker] ??= new Map())
    const nth = (calls.get(call) ?? 0) + 1
    calls.set(call, nth)
    return nth
  }
}

/**
 * Faults by chance: at least `least` of them. `lease` is a visibility timeout of the history, so that what is late or
 * stands still can be so for less and for more than that.
 */
export const drawn = (dice: Dice, least: number, lease: number): Chaos => {
  const counter = new Counter()
  const struck: Array<Fault> = []
  const count = least + dice.pick(0, 0, 1, 1, 2, 3, 5)
  // some early, so that every history has them; the others wherever a history may still be
  const turns = Array.from({ length: count }, (_, i) => dice.below(i < least ? 30 : 260)).toSorted((a, b) => a - b)
  let calls = 0
  let wish = 0
  let wanted: Call | undefined
  let patience = 0
  let ended = false
  const draw = () => {
    wanted = wishes[dice.below(wishes.length)]
    patience = wish < least ? 4 : 40
  }
  draw()
  return {
    struck,
    end: () => {
      ended = true
    },
    at: (worker, call) => {
      const nth = counter.next(worker, call)
      calls++
      const turn = turns[wish]
      if (ended || turn === undefined || calls <= turn) return undefined
      // another system is always worth it: it is the user's own
      if (wanted !== undefined && wanted !== call && call !== "remote" && patience-- > 0) return undefined
      wish++
      draw()
      const kind = dice.pick(...kinds[call])
      const fault: Fault = { worker, call, nth, kind, millis: millisOf(dice, kind, lease) }
      struck.push(fault)
      return fault
    }
  }
}

const millisOf = (dice: Dice, kind: Kind, lease: number): number => {
  switch (kind) {
    case "isLate":
    case "replyIsLate":
      return Math.round(dice.pick(3, 20, lease / 4, lease / 2, lease * 1.2, lease * 3))
    case "freezesBefore":
    case "freezesAfter":
      return Math.round(dice.pick(5, lease / 2, lease * 1.1, lease * 2, lease * 5))
    case "crashesBefore":
    case "crashesAfter":
    case "closes":
    case "pauses":
      return Math.round(dice.pick(1, lease / 2, lease * 2))
    default:
      return 0
  }
}

/** The faults that were noted, and no others. */
export const noted = (faults: ReadonlyArray<Fault>): Chaos => {
  const counter = new Counter()
  const struck: Array<Fault> = []
  const known = new Map(faults.map((fault) => [`${fault.worker} ${fault.call} ${fault.nth}`, fault]))
  let ended = false
  return {
    struck,
    end: () => {
      ended = true
    },
    at: (worker, call) => {
      const nth = counter.next(worker, call)
      const fault = ended || known.size === 0 ? undefined : known.get(`${worker} ${call} ${nth}`)
      if (fault !== undefined) struck.push(fault)
      return fault
    }
  }
}
