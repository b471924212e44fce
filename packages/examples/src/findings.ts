/**
 * What the aggregating subscriptions found out: sums by group, in memory.
 *
 * At least once means that a sum can count a message twice after a crash. A real one would write its sums where it can
 * also note the id of what it has counted.
 */
import { Context, Effect, Layer } from "effect"

export interface Sum {
  readonly count: number
  readonly total: number
  readonly highest: number
}

export class Findings extends Context.Service<
  Findings,
  {
    /** Adds numbers to groups of a table. */
    readonly add: (table: string, rows: Iterable<readonly [group: string, value: number]>) => Effect.Effect<void>
    /** The groups of a table, in no order. */
    readonly sums: (table: string) => ReadonlyArray<readonly [group: string, sum: Sum]>
  }
>()("examples/Findings") {
  static readonly layer: Layer.Layer<Findings> = Layer.sync(Findings, () => {
    const tables = new Map<string, Map<string, Sum>>()
    return Findings.of({
      add: (table, rows) =>
        Effect.sync(() => {
          const groups = tables.get(table) ?? new Map<string, Sum>()
          tables.set(table, groups)
          for (const [group, value] of rows) {
            const { count, total, highest } = groups.get(group) ?? { count: 0, total: 0, highest: value }
            groups.set(group, { count: count + 1, total: total + value, highest: Math.max(highest, value) })
          }
        }),
      sums: (table) => [...(tables.get(table) ?? [])]
    })
  })
}
