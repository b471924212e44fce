/**
 * Looks at what nothing rang for. All that runs on one transport shares a budget of them, and they are made together: an
 * idle process wakes seldom.
 */

export interface Looks {
  /** Milliseconds between two looks of one. It grows with those who look. */
  readonly interval: () => number
  /** Calls once it is time for one's next look; returns what takes that back. */
  readonly next: (call: () => void) => () => void
}

/**
 * When something is looked at again that is looked at every so many milliseconds, 5,000 or more: after as many at most, and
 * three eighths at least, so that what began together does not go on together. There are few such moments, an eighth and 5
 * seconds apart at most, which all of a process share.
 */
const moment = (milliseconds: number): number => {
  const apart = 625 * 2 ** Math.floor(Math.log2(Math.min(milliseconds, 40_000) / 5000))
  const latest = performance.now() + milliseconds * (0.5 + 0.5 * Math.random())
  return latest - (latest % apart)
}

/** Milliseconds until the next look at what is looked at every so many milliseconds, 5,000 or more. */
export const untilLook = (milliseconds: number): number => moment(milliseconds) - performance.now()

/** For so many as there are at the time. */
export const make = (members: () => number): Looks => {
  const calls = new Map<number, Set<() => void>>()
  const interval = () => Math.max(5000, 500 * members())
  const callsAt = (at: number): Set<() => void> => {
    const found = calls.get(at)
    if (found !== undefined) return found
    const made = new Set<() => void>()
    calls.set(at, made)
    // it is left alone when nobody waits for it any more, and must not keep a process
    setTimeout(() => {
      calls.delete(at)
      for (const call of made) call()
    }, at - performance.now()).unref()
    return made
  }
  return {
    interval,
    next: (call) => {
      const mine = callsAt(moment(interval()))
      mine.add(call)
      return () => void mine.delete(call)
    }
  }
}
