/** A history on paper. */
import type { Outcome, Plan } from "./History.ts"
import type { Event } from "./Ledger.ts"

/** What comes again and again, such as a heartbeat, is told at first and at last. */
const shortened = (events: ReadonlyArray<Event>): ReadonlyArray<Event> => {
  const lines: Array<Event> = []
  for (let from = 0; from < events.length;) {
    const [first, last, count] = repeated(events, from)
    from += count
    if (first !== undefined) lines.push(first)
    if (last !== undefined && count > 2) lines.push({ ...last, what: `${last.what}, ${count - 2} times between` })
    else if (last !== undefined && count > 1) lines.push(last)
  }
  return lines
}

/** How often the event at this place comes in a row: the first and the last of them. */
const repeated = (events: ReadonlyArray<Event>, from: number) => {
  const first = events[from]
  let count = 1
  while (events[from + count]?.who === first?.who && events[from + count]?.what === first?.what) count++
  return [first, events[from + count - 1], count] as const
}

/** Lines of a table at first, and at last: nobody reads the thousands between, of what goes round in circles. */
const most = { first: 400, last: 100 }

const bounded = (events: ReadonlyArray<Event>): ReadonlyArray<Event> => {
  const [next, left] = [events[most.first], events.length - most.first - most.last]
  if (next === undefined || left <= 1) return events
  return [
    ...events.slice(0, most.first),
    { at: next.at, who: "…", what: `${left} more lines, which the history's events have` },
    ...events.slice(-most.last)
  ]
}

/** What happened, a line each. */
export const table = (all: ReadonlyArray<Event>): string => {
  const events = bounded(shortened(all))
  const at = (event: Event) => `${event.at} ms`
  const [wide, wider] = [
    Math.max(4, ...events.map((event) => at(event).length)),
    Math.max(3, ...events.map(({ who }) => who.length))
  ]
  return [
    `${"at".padStart(wide)}  ${"who".padEnd(wider)}  what`,
    ...events.map((event) => `${at(event).padStart(wide)}  ${event.who.padEnd(wider)}  ${event.what}`)
  ].join("\n")
}

/** The plan as code, a fault a line. */
export const planAsCode = (plan: Plan): string => {
  const fields = Object.entries(plan)
    .filter(([key, value]) => value !== undefined && key !== "faults")
    .map(([key, value]) => `  ${key}: ${JSON.stringify(value)}`)
  const faults = (plan.faults ?? []).map(
    ({ call, kind, millis, nth, worker }) =>
      `    { worker: ${worker}, call: "${call}", nth: ${nth}, kind: "${kind}", millis: ${millis} }`
  )
  const list = faults.length === 0 ? "  faults: []" : `  faults: [\n${faults.join(",\n")}\n  ]`
  return `{\n${[...fields, list].join(",\n")}\n}`
}

/** All that somebody needs who has to find out why. */
export const account = ({ events, plan, violation }: Pick<Outcome, "events" | "plan" | "violation">): string =>
  violation === undefined
    ? table(events)
    : [
        `${violation.promise} is broken: ${violation.problem}`,
        "",
        table(events),
        "",
        "The same history again, with this plan for Simulator.run:",
        planAsCode(plan)
      ].join("\n")
