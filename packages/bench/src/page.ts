/**
 * The report as a page, and as the lines that end a run.
 */
import type { Figure } from "./job.ts"
import type { Judged, Measured, Report } from "./results.ts"

const contestants: Readonly<Record<string, string>> = {
  clutch: "Clutch",
  "clutch-iovalkey": "Clutch, iovalkey",
  bullmq: "BullMQ",
  groupmq: "groupmq",
  "persisted-queue": "Effect PersistedQueue",
  ioredis: "raw ioredis",
  iovalkey: "raw iovalkey",
  socket: "socket floor"
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
      contestants[one.contestant] ?? one.contestant,
      ...used.map(({ figure }) => {
        const value = one.median[figure]
        return value === undefined ? (one.unavailable === undefined ? "–" : "not measured") : number(value)
      })
    ])
  )
}

const targets = (all: ReadonlyArray<Judged>): string =>
  table(
    ["", "target", "measured", "by CPU", ""],
    all.map((one) => [
      one.what,
      one.bound,
      valueOf(one),
      one.byCpu === undefined ? "" : `${number(one.byCpu)} ×`,
      verdict(one)
    ])
  )

export const page = (report: Report): string => {
  const { machine } = report
  const byId = new Map(report.measurements.map((one) => [one.id, one]))
  const sections = report.scenarios.map(({ measurements: ids, name, title }) => {
    const mine = report.targets.filter(({ scenario }) => scenario === name)
    const rows = ids.flatMap((id) => byId.get(id) ?? [])
    return `## ${title}\n\n${measurements(rows)}\n\n${mine.length === 0 ? "" : `${targets(mine)}\n`}`
  })
  return `# Benchmarks

Written by \`pnpm bench\` on ${report.date}: ${report.rounds} rounds, Node ${machine.node}, Redis ${machine.redis}, ${machine.cores} cores of ${machine.processor}.

${sections.join("\n")}`
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
