/** The ledgers of all processes as one history, arranged for whoever judges it. */
import type { Delivered, Event, Settled } from "./ledger.ts"

export interface Published {
  readonly from: number
  readonly at: number
  readonly how: "confirmed" | "unknown" | "refused"
}

/** An event of one delivery to one subscription. */
interface Of {
  readonly by: string
  readonly at: number
  readonly sub: string
}
export interface Fetch extends Of, Delivered {}
export interface Start extends Of, Delivered {
  readonly original: string
  readonly partition?: number
  readonly fence?: number | undefined
}
export interface End extends Of, Delivered {
  readonly how: "succeeded" | "failed" | "interrupted"
}
export interface Settlement extends Of, Settled {
  readonly from: number
  readonly fence: number | undefined
}
export type Fault = Extract<Event, { readonly is: "fault" }>

/** What one subscription did with one message, each list in order of time. */
export interface Life {
  readonly sub: string
  readonly n: number
  readonly fetches: Array<Fetch>
  readonly starts: Array<Start>
  readonly ends: Array<End>
  readonly settlements: Array<Settlement>
}

export interface Letter {
  readonly sub: string
  readonly n: number
  readonly reason: string
  readonly attempts: number
}

/** What was left when everything had come to rest. */
export interface Rest {
  /** When it was looked at, by the ledgers' clock. */
  readonly at: number
  /** What is unsettled, by subscription and kind; empty where nothing is. */
  readonly unsettled: ReadonlyArray<string>
  readonly letters: ReadonlyArray<Letter>
  readonly keys: ReadonlyArray<string>
  /** Names of the consumers that groups or state still know. */
  readonly consumers: ReadonlyArray<string>
}

export interface History {
  readonly events: ReadonlyArray<Event>
  readonly published: ReadonlyMap<number, Published>
  /** Numbers that a publisher was about to publish. */
  readonly intended: ReadonlySet<number>
  readonly lives: ReadonlyArray<Life>
  readonly life: (sub: string, n: number) => Life | undefined
  /** The dead letters of one message. */
  readonly letters: (sub: string, n: number) => ReadonlyArray<Letter>
  readonly faults: ReadonlyArray<Fault>
  /** How long it took, after faults, until messages published from then on were handled; microseconds. */
  readonly healings: ReadonlyArray<number>
  /** Consumer names, and the process that had them. */
  readonly consumers: ReadonlyMap<string, string>
  /** Entries dropped from the topic, as publishers and faults counted them. */
  readonly trimmed: number
  readonly rest: Rest
}

export const make = (unordered: ReadonlyArray<Event>, rest: Rest): History => {
  const events = unordered.toSorted((a, b) => a.at - b.at)
  const published = new Map<number, Published>()
  const intended = new Set<number>()
  const lives = new Map<string, Life>()
  const faults: Array<Fault> = []
  const healings: Array<number> = []
  const consumers = new Map<string, string>()
  const trimmed = new Map<string, number>()
  const life = (sub: string, n: number): Life => {
    const key = `${sub} ${n}`
    let found = lives.get(key)
    if (found === undefined) lives.set(key, (found = { sub, n, fetches: [], starts: [], ends: [], settlements: [] }))
    return found
  }
  for (const event of events) {
    const { at, by } = event
    switch (event.is) {
      case "publishing":
        for (const n of event.ns) intended.add(n)
        break
      case "published":
        for (const n of event.ns) published.set(n, { from: event.from, at, how: event.how })
        trimmed.set(by, Math.max(trimmed.get(by) ?? 0, event.trimmed))
        break
      case "joined":
        consumers.set(event.consumer, by)
        break
      case "fetched":
        for (const one of event.entries) life(event.sub, one.n).fetches.push({ ...one, by, at, sub: event.sub })
        break
      case "started":
        life(event.sub, event.n).starts.push(event)
        break
      case "ended":
        life(event.sub, event.n).ends.push(event)
        break
      case "settled":
        for (const one of event.entries) {
          const { fence, from, sub } = event
          life(sub, one.n).settlements.push({ ...one, by, at, sub, from, fence })
        }
        break
      case "fault":
        faults.push(event)
        trimmed.set(`fault ${faults.length}`, event.trimmed ?? 0)
        break
      case "healed":
        healings.push(event.at - event.from)
    }
  }
  const letters = Map.groupBy(rest.letters, ({ n, sub }) => `${sub} ${n}`)
  return {
    events,
    published,
    intended,
    lives: [...lives.values()],
    life: (sub, n) => lives.get(`${sub} ${n}`),
    letters: (sub, n) => letters.get(`${sub} ${n}`) ?? [],
    faults,
    healings,
    consumers,
    trimmed: [...trimmed.values()].reduce((sum, one) => sum + one, 0),
    rest
  }
}

/** Everything about some messages, and the faults meanwhile, as lines to read. */
export const table = (history: History, ns: ReadonlySet<number>): string => {
  const lines = history.events.flatMap((event) => told(event, ns).map((text) => ({ ...event, text })))
  const theirs = lines.filter(({ is }) => is !== "fault")
  const first = theirs[0]?.at ?? 0
  const last = theirs.at(-1)?.at ?? 0
  return lines
    .filter(({ at }) => at >= first - 1e6 && at <= last + 1e6)
    .map(({ at, by, text }) => `${String(at - first).padStart(12)} µs  ${by.padEnd(12)} ${text}`)
    .join("\n")
}

const told = (event: Event, ns: ReadonlySet<number>): ReadonlyArray<string> => {
  const one = ({ attempt, entry, n }: Delivered): string => `${n} at ${entry}, attempt ${attempt}`
  const took = (from: number) => `(took ${event.at - from} µs)`
  switch (event.is) {
    case "publishing":
      return event.ns.filter((n) => ns.has(n)).map((n) => `publishing ${n}`)
    case "published":
      return event.ns.filter((n) => ns.has(n)).map((n) => `${event.how} ${n} ${took(event.from)}`)
    case "joined":
    case "healed":
      return []
    case "fetched":
      return event.entries.filter(({ n }) => ns.has(n)).map((entry) => `${event.sub}: fetched ${one(entry)}`)
    case "started":
      return ns.has(event.n) ? [`${event.sub}: started ${one(event)}`] : []
    case "ended":
      return ns.has(event.n) ? [`${event.sub}: ${event.how} ${one(event)}`] : []
    case "settled":
      return event.entries
        .filter(({ n }) => ns.has(n))
        .map((entry) => `${event.sub}: ${entry.outcome} is ${entry.how} ${one(entry)} ${took(event.from)}`)
    case "fault":
      return [`${event.what} ${event.to ?? ""} ${took(event.from)}`]
  }
}
