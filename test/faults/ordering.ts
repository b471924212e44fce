/** What is promised of a topic with a key: order within a key, and fences. */
import { type Broken, type Check, isAccepted, isFinal, isRefused, taken, wasFrozen } from "./judging.ts"

const ordinal = (id: string): bigint => {
  const [time = "0", sequence = "0"] = id.split("-")
  return (BigInt(time) << 64n) + BigInt(sequence)
}

/**
 * Messages of one key are started in log order, each after the one before it is settled. A start whose settlement is
 * refused, or of a process that was frozen, may come late.
 */
export const order: Check = (history, { keyOf }) => {
  if (keyOf === undefined) return []
  const begun = history.lives.filter(({ starts }) => starts.length > 0)
  const logs = Map.groupBy(begun, ({ n, sub }) => `${sub} ${keyOf(n)}`)
  return [...logs].flatMap(([log, lives]) => {
    const inOrder = lives
      .map((life) => ({ life, id: ordinal(life.starts[0]?.original ?? "0-0") }))
      .toSorted((a, b) => (a.id < b.id ? -1 : 1))
    return inOrder.flatMap(({ life: second }, i) => {
      const first = inOrder[i - 1]?.life
      const begins = second.starts[0]?.at ?? Infinity
      if (first === undefined) return []
      const late = first.starts.find(
        (start) => start.at > begins && !isRefused(first, start) && !wasFrozen(history, start)
      )
      const settled = first.settlements.find(isFinal)
      const early = settled !== undefined && settled.from > begins
      if ((late === undefined && !early) || taken(history, { from: 0, at: begins }) !== undefined) return []
      const how = late === undefined ? "before it was settled" : `and attempt ${late.attempt} of it was started then`
      return [{ text: `${log}: ${second.n} was started behind ${first.n}, ${how}`, ns: [first.n, second.n] }]
    })
  })
}

/**
 * A fence is one worker's, and what it settles is refused once somebody else has a greater one on its partition: by when
 * that one began its first handler, and this one asked.
 */
export const fence: Check = (history) => {
  const starts = history.lives.flatMap(({ settlements, starts }) =>
    starts.flatMap(({ fence, ...start }) => {
      const { at, attempt, by, entry, partition, n, sub } = start
      const mine = settlements.find(
        (one) =>
          isAccepted(one) &&
          one.by === by &&
          one.entry === entry &&
          one.attempt === attempt &&
          // one that lost the partition may be given the same again under a greater one
          one.fence === fence
      )
      return fence === undefined ? [] : [{ at, by, fence, n, where: `${sub} ${partition ?? 0}`, settlement: mine }]
    })
  )
  return [...Map.groupBy(starts, ({ where }) => where)].flatMap(([where, here]) => {
    const found: Array<Broken> = []
    /** When somebody with a greater fence was first seen. */
    let greater = { at: Infinity, by: "" }
    const fences = [...Map.groupBy(here, ({ fence }) => fence)].toSorted(([a], [b]) => b - a)
    for (const [fence, ones] of fences) {
      const owners = new Set(ones.map(({ by }) => by))
      if (owners.size > 1)
        found.push({ text: `fence ${fence} of ${where} was had by ${[...owners].join(", ")}`, ns: [] })
      for (const { by, n, settlement } of ones) {
        if (settlement === undefined || settlement.from <= greater.at) continue
        if (taken(history, { from: 0, at: greater.at }) !== undefined) continue
        const text = `${where}: ${settlement.outcome} of ${n} by ${by}, fence ${fence}, was accepted after ${greater.by}'s`
        found.push({ text, ns: [n] })
      }
      for (const { at, by } of ones) if (at < greater.at) greater = { at, by }
    }
    return found
  })
}
