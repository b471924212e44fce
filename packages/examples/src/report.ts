/**
 * What people see of the demo: a line of progress while it runs, and a table at its end.
 *
 * The table puts two independent counts side by side: what the handlers saw (the ledger), and the dead letters that the
 * log holds. They must add up to what was published, and the demo says so, or says what is missing.
 */
import { DeadLetters, Metrics, type Subscription, type Topic, type Transport, type TransportError } from "@clutch/core"
import { Effect, Metric, Result, Schedule, Stream, Terminal } from "effect"
import { TerminalCapabilities } from "effect/cli"
import type { Row } from "./data.ts"
import { Findings } from "./findings.ts"
import { Ledger, type Line } from "./ledger.ts"

const number = (n: number): string => n.toLocaleString("en-US")

// -----------------------------------------------------------------------------
// while it runs
// -----------------------------------------------------------------------------

/** Rewrites one line ten times a second on a terminal; elsewhere prints one every second. Ends with its scope. */
export const progress = (
  subscriptions: ReadonlyArray<Subscription.Address>,
  feeds: ReadonlyArray<{ readonly topic: Topic.Topic<Row>; readonly rows: ReadonlyArray<Row> }>
) =>
  Effect.gen(function* () {
    const ledger = yield* Ledger
    const terminal = yield* Terminal.Terminal
    const { canAnimate } = yield* TerminalCapabilities.TerminalCapabilities
    const total = feeds.reduce((sum, { rows }) => sum + rows.length, 0)
    const text = () => {
      const lines = subscriptions.map(({ name }) => ledger.line(name))
      const sum = (of: (line: Line) => number) => number(lines.reduce((sum, line) => sum + of(line), 0))
      const published = feeds.reduce((sum, { topic }) => sum + ledger.publishedTo(topic.topic), 0)
      return (
        `published ${number(published)}/${number(total)} · ` +
        `handled ${sum((line) => line.handled)} · retried ${sum((line) => line.retries)}`
      )
    }
    // a line that wraps cannot be rewritten
    const rewrite = Effect.flatMap(terminal.columns, (columns) =>
      terminal.display(`\r\u001b[2K${text().slice(0, Math.max(columns, 20) - 1)}`)
    )
    const append = Effect.suspend(() => terminal.display(`${text()}\n`))
    yield* Effect.addFinalizer(() =>
      Effect.ignore(canAnimate ? Effect.andThen(rewrite, terminal.display("\n")) : append)
    )
    yield* Effect.repeat(canAnimate ? rewrite : append, Schedule.spaced(canAnimate ? "100 millis" : "1 second")).pipe(
      Effect.ignore,
      Effect.forkScoped({ startImmediately: true })
    )
  })

// -----------------------------------------------------------------------------
// at the end
// -----------------------------------------------------------------------------

const reasons = ["exhausted", "notRetryable", "poison", "rejected"] as const
type Reason = (typeof reasons)[number]

interface Outcome {
  readonly name: string
  readonly topic: string
  readonly published: number
  readonly filtered: number
  readonly line: Line
  readonly dead: Readonly<Record<Reason, number>>
  /** One cause for each reason that occurred. */
  readonly causes: ReadonlyMap<Reason, string>
}

/** Ids of the dead letters that are there already: with a namespace that was used before, they are not this run's. */
export const deadLetterIds = (
  subscription: Subscription.Address
): Effect.Effect<ReadonlyArray<string>, TransportError, Transport> =>
  DeadLetters.list(subscription).pipe(
    Stream.map(({ id }) => id),
    Stream.runCollect
  )

/** The sentence of a cause, without its stack; why something does not decode takes several lines. */
const inShort = (letter: DeadLetters.DeadLetter<unknown>): string =>
  Result.isFailure(letter.message)
    ? letter.message.failure.message.replaceAll(/\s+/g, " ")
    : (letter.cause.split("\n", 1)[0] ?? "")

/** What the runtime counted as left out by a subscription's filter. */
const filtered = (subscription: Subscription.Address) =>
  Effect.map(Metric.snapshot, (snapshot) =>
    snapshot.reduce((sum, { attributes, id, state }) => {
      const counted =
        id === Metrics.filtered.id &&
        attributes?.["messaging.destination.name"] === subscription.source.topic &&
        attributes["messaging.consumer.group.name"] === subscription.name
      return counted && "count" in state ? sum + Number(state.count) : sum
    }, 0)
  )

const outcome = Effect.fnUntraced(function* (subscription: Subscription.Address, known: ReadonlySet<string>) {
  const ledger = yield* Ledger
  const dead = { exhausted: 0, notRetryable: 0, poison: 0, rejected: 0 }
  const causes = new Map<Reason, string>()
  yield* DeadLetters.list(subscription).pipe(
    Stream.filter(({ id }) => !known.has(id)),
    Stream.runForEach((letter) =>
      Effect.sync(() => {
        dead[letter.reason] += 1
        if (!causes.has(letter.reason)) causes.set(letter.reason, inShort(letter))
      })
    )
  )
  const result: Outcome = {
    name: subscription.name,
    topic: subscription.source.topic,
    published: ledger.publishedTo(subscription.source.topic),
    filtered: yield* filtered(subscription),
    line: ledger.line(subscription.name),
    dead,
    causes
  }
  return result
})

const deadTotal = ({ dead }: Outcome): number => reasons.reduce((sum, reason) => sum + dead[reason], 0)

/** Nothing where it took too short a time to say. */
const perSecond = ({ published, line }: Outcome): string => {
  const millis = line.ended - line.started
  return millis < 100 ? "" : number(Math.round((published * 1000) / millis))
}

/** Aligns columns: the first few to the left, the others, which are numbers, to the right. */
const table = (left: number, cells: ReadonlyArray<ReadonlyArray<string>>): string => {
  const widths = (cells[0] ?? []).map((_, column) => Math.max(...cells.map((row) => (row[column] ?? "").length)))
  const align = (cell: string, column: number) => {
    const width = widths[column] ?? 0
    return column < left ? cell.padEnd(width) : cell.padStart(width)
  }
  return cells.map((row) => row.map(align).join("  ").trimEnd()).join("\n")
}

const outcomes = (rows: ReadonlyArray<Outcome>): string =>
  table(2, [
    [
      "subscription",
      "topic",
      "published",
      "filtered",
      "handled",
      "retried",
      "exhausted",
      "notRetryable",
      "poison",
      "rejected",
      "per second"
    ],
    ...rows.map((row) => [
      row.name,
      row.topic,
      number(row.published),
      number(row.filtered),
      number(row.line.handled),
      number(row.line.retries),
      ...reasons.map((reason) => number(row.dead[reason])),
      perSecond(row)
    ])
  ])

/** On each topic with a subscription that was retried: what the others on it saw of that. */
const isolation = (rows: ReadonlyArray<Outcome>): { readonly text: string; readonly holds: boolean } => {
  const failing = rows.filter(({ line }) => line.retries > 0)
  const lines = failing.flatMap((row) =>
    rows
      .filter((other) => other.topic === row.topic && other.line.retries === 0)
      .map((other) => {
        const due = other.published - other.dead.poison - other.filtered
        const reached = other.line.delivered - due
        return {
          reached,
          text:
            `${row.name} was retried ${number(row.line.retries)} times; ${reached === 0 ? "none of it" : number(reached)} ` +
            `reached ${other.name}: ${number(other.line.delivered)} deliveries of ${number(due)} messages, none a retry`
        }
      })
  )
  return {
    text: lines.map(({ text }) => `isolation  ${text}`).join("\n"),
    holds: lines.every(({ reached }) => reached === 0)
  }
}

const accounts = (rows: ReadonlyArray<Outcome>): { readonly text: string; readonly holds: boolean } => {
  const open = rows.filter((row) => row.published !== row.filtered + row.line.handled + deadTotal(row))
  return {
    text:
      open.length === 0
        ? "accounts   every message is handled, filtered out or a dead letter, and none is two of these"
        : open
            .map((row) => {
              const missing = row.published - row.filtered - row.line.handled - deadTotal(row)
              return missing > 0
                ? `accounts   ${row.name}: ${number(missing)} of ${number(row.published)} messages not done yet`
                : `accounts   ${row.name}: ${number(-missing)} more done than published`
            })
            .join("\n"),
    holds: open.length === 0
  }
}

const findings = Effect.gen(function* () {
  const { sums } = yield* Findings
  const most = sums("delays")
    .filter(([, { count }]) => count >= 50)
    .map(([state, { count, total }]) => ({ state, mean: total / count }))
    .toSorted((a, b) => b.mean - a.mean)[0]
  const species = sums("species")
    .filter(([name]) => !name.startsWith("Unknown"))
    .toSorted(([, a], [, b]) => b.total - a.total)[0]
  const quake = sums("quakes").toSorted(([, a], [, b]) => b.highest - a.highest)[0]
  return [
    ...(most === undefined ? [] : [`longest mean delay from ${most.state} (${most.mean.toFixed(1)} minutes)`]),
    ...(species === undefined ? [] : [`dearest bird ${species[0]} ($${number(species[1].total)})`]),
    ...(quake === undefined ? [] : [`strongest quake ${quake[1].highest.toFixed(1)}, ${quake[0]}`])
  ].join(" · ")
})

export interface Report {
  readonly text: string
  /** Nothing is missing or double, and no subscription saw another's retries. */
  readonly holds: boolean
}

/** Compares what was published with what became of it. */
export const report = Effect.fnUntraced(function* (options: {
  readonly subscriptions: ReadonlyArray<Subscription.Address>
  /** Ids of dead letters that were there before. */
  readonly known: ReadonlySet<string>
  /** Milliseconds from the first publish to the last settlement. */
  readonly took: number
}) {
  const rows = yield* Effect.forEach(options.subscriptions, (one) => outcome(one, options.known))
  const separate = isolation(rows)
  const sums = accounts(rows)
  const causes = rows.flatMap((row) => [...row.causes].map(([reason, cause]) => [row.name, reason, cause]))
  const deliveries = rows.reduce((sum, { line }) => sum + line.delivered, 0)
  const sections = [
    outcomes(rows),
    causes.length === 0
      ? ""
      : `dead letters, one of each kind:\n${table(
          4,
          causes.map((row) => ["", ...row])
        )}`,
    [
      separate.text,
      sums.text,
      `findings   ${yield* findings}`,
      `in all     ${number(deliveries)} deliveries in ${(options.took / 1000).toFixed(1)} s, ` +
        `${number(Math.round((deliveries * 1000) / Math.max(options.took, 1)))} a second`
    ]
      .filter((line) => line !== "")
      .join("\n")
  ]
  const text = sections.filter((section) => section !== "").join("\n\n")
  const result: Report = { text, holds: separate.holds && sums.holds }
  return result
})
