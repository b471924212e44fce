/** One dimension: the same calls on servers of different sizes, in turn, so that whatever the machine does meets all. */
import { type Call, type Lab, once, open, quantile } from "./lab.ts"
import type { Dimension } from "./operations.ts"

export interface Options {
  readonly sizes: ReadonlyArray<number>
  /** Calls of each kind on each server; up to ten times as many where the cost seems to grow. */
  readonly calls: number
  /** The growth that still is called flat, as a share of the cost. */
  readonly share: number
  readonly tell: (line: string) => void
}

export interface Row {
  readonly dimension: string
  readonly operation: string
  /** Microseconds of the server's time a call, for each size; of a dimension that is told per thousand, for each of these. */
  readonly costs: ReadonlyArray<number>
  /** The last of them over the first. */
  readonly ratio: number
  /** Microseconds of the server's time that a dear call needs (p95), at any size; none where a call is many commands. */
  readonly dear: number | undefined
  /** Whether a single command of ours kept the server busy for more than 5 ms, and not only once in a while. */
  readonly blocks: boolean
}

const most = 5000

/** Whether the cost grows by more than `share` of it, or a command blocks. */
export const isFlat = ({ blocks, ratio }: Row, share: number): boolean => ratio <= 1 + share && !blocks

export const measure = async (dimension: Dimension, { calls, share, sizes, tell }: Options): Promise<Array<Row>> => {
  const labs: Array<Lab> = []
  try {
    for (const size of sizes) {
      labs.push(await open(size, dimension.fill))
      tell(`${dimension.name}: filled with ${size.toLocaleString("en")}`)
    }
    const rows: Array<Row> = []
    for (const operation of dimension.operations) {
      const all: Array<{ readonly lab: Lab; readonly calls: Array<Call> }> = []
      for (const lab of labs) {
        // for what is compiled and cached
        await once(lab, operation)
        all.push({ lab, calls: [] })
      }
      const soFar = () =>
        summary(
          dimension,
          operation.name,
          sizes,
          all.map((one) => one.calls)
        )
      for (let i = 0; i < calls || (i < 10 * calls && !isFlat(soFar(), share)); i++) {
        for (const one of all) one.calls.push(await once(one.lab, operation))
      }
      const row = soFar()
      const told = row.costs.map(Math.round).join(" → ")
      tell(
        `${row.dimension}: ${row.operation}: ${told} µs, ratio ${row.ratio.toFixed(2)}${row.blocks ? ", blocks" : ""}`
      )
      rows.push(row)
    }
    return rows
  } finally {
    for (const lab of labs) await lab.close()
  }
}

const summary = (
  { name, perThousand = false }: Dimension,
  operation: string,
  sizes: ReadonlyArray<number>,
  calls: ReadonlyArray<ReadonlyArray<Call>>
): Row => {
  const of = (value: keyof Call, share: number) =>
    calls.map((all) =>
      quantile(
        all.map((one) => one[value]),
        share
      )
    )
  // the cheapest call: what comes in a call's way only ever adds to its cost
  const costs = of("cost", 0).map((cost, i) => (perThousand ? (1000 * cost) / (sizes[i] ?? 1) : cost))
  const dear = Math.max(...of("cost", 0.95))
  return {
    dimension: name,
    operation,
    costs,
    ratio: (costs.at(-1) ?? 0) / (costs[0] ?? 1),
    dear: perThousand ? undefined : dear,
    // what needs less than that in all has no such command; of the rest the slow log tells
    blocks: dear > most && Math.max(...of("longest", 0.5)) > most
  }
}
