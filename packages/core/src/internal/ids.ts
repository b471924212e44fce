/** Entry ids are `{milliseconds}-{sequence}`, and are ordered by both as numbers. */
export const compareIds = (a: string, b: string): number => {
  if (a === b) return 0
  // as nearly all are
  if (a.length === b.length && b.charCodeAt(a.indexOf("-")) === dash) return a < b ? -1 : 1
  const [millisA, sequenceA] = split(a)
  const [millisB, sequenceB] = split(b)
  if (millisA.length !== millisB.length) return millisA.length - millisB.length
  if (millisA !== millisB) return millisA < millisB ? -1 : 1
  return sequenceA.length === sequenceB.length ? (sequenceA < sequenceB ? -1 : 1) : sequenceA.length - sequenceB.length
}

const dash = "-".charCodeAt(0)

const split = (id: string): readonly [string, string] => {
  const dash = id.indexOf("-")
  return [id.slice(0, dash), id.slice(dash + 1)]
}

const largest = 2n ** 64n - 1n

/** Whether a text is an entry id: two numbers of 64 bits. Others are nobody's id. */
export const isEntryId = (text: unknown): text is string => {
  if (typeof text !== "string" || !/^\d{1,20}-\d{1,20}$/.test(text)) return false
  return split(text).every((part) => BigInt(part) <= largest)
}
