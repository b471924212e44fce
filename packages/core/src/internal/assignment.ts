/**
 * Who should own which partitions: a pure function of what every worker can see, so that all come to the same plan and
 * the fewest partitions move.
 */

/** A partition as the log shows it; `owner: undefined` where it is free. */
export interface Seen {
  readonly partition: number
  readonly owner: string | undefined
}

export interface Plan {
  readonly claim: ReadonlyArray<number>
  /** How many to give up. */
  readonly surplus: number
}

/**
 * Shares differ by one at most. Who owns most keeps the larger share, so that nothing moves that need not; the free ones
 * are dealt out in the order of the workers, so that no two reach for the same.
 */
export const plan = (me: string, workers: ReadonlyArray<string>, partitions: ReadonlyArray<Seen>): Plan => {
  const owned = new Map<string, number>([...workers, me].map((worker) => [worker, 0]))
  const free: Array<number> = []
  for (const { owner, partition } of partitions) {
    if (owner === undefined) free.push(partition)
    else {
      const count = owned.get(owner)
      // one who owns and does not show up rests, or is about to be gone: no worker to share with
      if (count !== undefined) owned.set(owner, count + 1)
    }
  }
  const ranked = [...owned].toSorted(([a, many], [b, few]) => few - many || (a < b ? -1 : 1))
  const share = Math.floor(partitions.length / ranked.length)
  const larger = partitions.length % ranked.length
  let at = 0
  for (const [rank, [worker, count]] of ranked.entries()) {
    const quota = share + (rank < larger ? 1 : 0)
    const wants = Math.max(0, quota - count)
    if (worker === me) return { claim: free.slice(at, at + wants), surplus: Math.max(0, count - quota) }
    at += wants
  }
  return { claim: [], surplus: 0 }
}
