/**
 * The report as a page, and as the lines that end a run.
 */
import { readFileSync } from "node:fs"
import type { Contestant, Figure } from "./job.ts"
import type { Judged, Measured, Report } from "./results.ts"

const contestants: Readonly<Record<Contestant, string>> = {
  clutch: "Clutch",
  "clutch-iovalkey": "Clutch, iovalkey",
  bullmq: "BullMQ",
  groupmq: "groupmq",
  "persisted-queue": "Effect PersistedQueue",
  ioredis: "raw ioredis",
  iovalkey: "raw iovalkey",
  socket: "socket floor"
}

/** Some rows have one contestant twice. */
const nameOf = ({ contestant, task }: Measured): string => {
  const name = contestants[contestant]
  if (contestant !== "clutch") return name
  switch (task.kind) {
    case "consume":
      return task.traced === true ? `${name}, traced` : name
    case "consume-ordered":
      return `${name}, ordered`
    case "dead":
      return `${name}, 1 % dead`
    case "latency":
      return task.ownConnection ? `${name}, ownConnection` : `${name}, shared connections`
    default:
      return name
  }
}

const number = (value: number): string =>
  Math.abs(value) >= 1000
    ? Math.round(value).toLocaleString("en")
    : Math.abs(value) >= 100
      ? String(Math.round(value))
      : value.toFixed(Math.abs(value) >= 10 ? 1 : 2)

const verdict = ({ met }: Judged): string => (met === undefined ? "not measured" : met ? "met" : "**missed**")

const valueOf = ({ unit, value }: Judged): string => (value === undefined ? "–" : `${number(value)} ${unit}`.trim())

const row = (cells: ReadonlyArray<string>): string => `| ${cells.join(" | ")} |`

const table = (head: ReadonlyArray<string>, rows: ReadonlyArray<ReadonlyArray<string>>): string =>
  [row(head), `|${head.map(() => "---").join("|")}|`, ...rows.map(row)].join("\n")

const columns: ReadonlyArray<{ readonly figure: Figure; readonly head: string }> = [
  { figure: "rate", head: "messages/s" },
  { figure: "node", head: "Node µs/message" },
  { figure: "redis", head: "Redis µs/message" },
  { figure: "p50", head: "p50 ms" },
  { figure: "p99", head: "p99 ms" },
  { figure: "connections", head: "connections" },
  { figure: "commands", head: "commands/s" },
  { figure: "cpu", head: "CPU %" },
  { figure: "memory", head: "memory MB" },
  { figure: "growth", head: "growth %" }
]

const measurements = (all: ReadonlyArray<Measured>): string => {
  const used = columns.filter(({ figure }) => all.some(({ median }) => median[figure] !== undefined))
  return table(
    ["", ...used.map(({ head }) => head)],
    all.map((one) => [
      nameOf(one),
      ...used.map(({ figure }) => {
        const value = one.median[figure]
        return value === undefined ? (one.unavailable === undefined ? "–" : "not measured") : number(value)
      })
    ])
  )
}

const targets = (all: ReadonlyArray<Judged>): string => {
  const byCpu = all.some((one) => one.byCpu !== undefined)
  return table(
    ["", "target", "measured", ...(byCpu ? ["by CPU"] : []), ""],
    all.map((one) => [
      one.what,
      one.bound,
      valueOf(one),
      ...(byCpu ? [one.byCpu === undefined ? "" : `${number(one.byCpu)} ×`] : []),
      verdict(one)
    ])
  )
}

/** What a reader must know to judge the figures, and to make them again. */
const preface = ({ date, machine, rounds, seconds, share }: Report): string => `# Benchmarks

Written by \`pnpm bench\` on ${date}: ${rounds} rounds in ${Math.round(seconds / 60)} minutes on ${machine.cores} cores of ${machine.processor}, Node ${machine.node}, Redis ${machine.redis} without AOF${share === 1 ? "" : `, with ${share * 100} % of the messages`}. \`benchmarks.json\` beside it has every round.

A contestant is measured in a process of its own, on one Redis that is emptied in between; contestants, Redis and the
harness share the cores. Rounds are interleaved, every second one in reverse. A figure is the median of the rounds; a
ratio is the median of the rounds' ratios. Speed drifts by a third between runs of one machine, so ratios are what to
look at. "By CPU" compares the CPU time of a message, Node's and Redis's together, which other load disturbs least.

A message is a struct of six fields, 200 bytes as JSON. What is consumed lies there before the start, a tenth as much
goes before it through a topic of its own, unmeasured, and time ends when the last handler does. Of what is quick there
are as many messages as take about two seconds: for most of the first one, code is still being compiled. What is
published is made before the start, 10,000 messages again and again: a million that are kept would be collected again
and again, in the time of whoever allocates most.

- **Clutch** runs with its default options, as the conformance suite does: acks are fenced, metrics on, data decoded by
  its Schema, compiled by \`effect/schema/SchemaJITCompiler/enable\` (see [the guide](guide.md#speed)). Failures and
  dead letters are not logged, since nobody else does: writing the lines would be what is measured.
- **BullMQ**: \`concurrency\` as the row says, finished jobs removed at once, \`addBulk\` for batches. Its handlers get
  what \`JSON.parse\` gave.
- **groupmq**: 10,000 groups, so that order within a group holds nothing back; \`autoBatch\` where it publishes.
- **Effect's PersistedQueue**: its Redis store with default options, on the client of \`@effect/platform-node\`; as many
  fibers take as the row's concurrency. It has no batches: as many fibers offer.
- **Raw loops**: entries as Clutch stores them, \`JSON.parse\`, the next read under way while a batch is handled, one
  XACK a batch. No decoding, retries, metrics, fencing. They read 1,024 at a time and have no concurrency.
- **Socket floor**: the same with commands written and replies parsed by hand.
`

/** Written by people, who looked at profiles: why targets are missed. */
const limits = (): string => readFileSync(new URL("../limits.md", import.meta.url), "utf8")

export const page = (report: Report): string => {
  const byId = new Map(report.measurements.map((one) => [one.id, one]))
  const sections = report.scenarios.map(({ measurements: ids, name, title }) => {
    const mine = report.targets.filter(({ scenario }) => scenario === name)
    const rows = ids.flatMap((id) => byId.get(id) ?? [])
    return `## ${title}\n\n${measurements(rows)}\n\n${targets(mine)}\n`
  })
  return `${preface(report)}\n${sections.join("\n")}\n${limits()}`
}

export const summary = (report: Report): string => {
  const met = report.targets.filter(({ met }) => met === true).length
  const missed = report.targets.filter(({ met }) => met === false).length
  const lines = report.targets.map(
    (one) =>
      `${(one.met === undefined ? "–" : one.met ? "met" : "MISSED").padEnd(8)}${one.scenario.padEnd(16)}${one.what.padEnd(44)}${valueOf(one).padStart(12)}  (${one.bound})${one.byCpu === undefined ? "" : `  by CPU ${number(one.byCpu)} ×`}`
  )
  return `\n${lines.join("\n")}\n\n${met} met, ${missed} missed, ${report.targets.length - met - missed} not measured, in ${report.seconds} s`
}
