/** A subscription's numbers: the sum of its partitions'. */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { Inspection, Transport } from "../Transport.ts"
import type { Groups } from "./address.ts"
import * as dates from "./dates.ts"

export const sumOf = (all: ReadonlyArray<Inspection>): Inspection => {
  const sum = (of: (one: Inspection) => number) => all.reduce((total, one) => total + of(one), 0)
  const oldest = all.flatMap(({ oldestHeldBack }) => Option.toArray(oldestHeldBack))
  return {
    // where one log cannot say, the sum says nothing
    waiting: Option.map(Option.all(all.map(({ waiting }) => waiting)), (counts) => counts.reduce((a, b) => a + b, 0)),
    pending: sum(({ pending }) => pending),
    due: sum(({ due }) => due),
    deadLetters: sum(({ deadLetters }) => deadLetters),
    heldBack: sum(({ heldBack }) => heldBack),
    parked: sum(({ parked }) => parked),
    oldestHeldBack: oldest.length === 0 ? Option.none() : Option.some(Math.min(...oldest))
  }
}

export const inspectAll = (transport: Transport["Service"], groups: Groups) =>
  Effect.map(
    Effect.forEach(groups, (group) => transport.inspect(group), { concurrency: "unbounded" }),
    (all) => {
      const total = sumOf(all)
      return { ...total, oldestHeldBack: Option.map(total.oldestHeldBack, dates.ofMillis) }
    }
  )
