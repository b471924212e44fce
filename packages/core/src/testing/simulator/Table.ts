/** A history on paper. */
import type { Outcome, Plan } from "./History.ts"
import type { Event } from "./Ledger.ts"

/** What happened, a line each. */
export const table = (events: ReadonlyArray<Event>): string => {
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
export const account = ({ events, plan, violation }: Outcome): string =>
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
