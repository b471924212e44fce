/**
 * What plain JavaScript does for the engine: the length of its turns, and what is put off to the end of one. Simulated
 * processes bring their own, as both decide who runs when.
 */
import * as Context from "effect/Context"

export interface Turns {
  /** What turns are measured by, in milliseconds, while the runtime's clock says so. */
  readonly time: (now: number) => number
  /** Calls it when what runs now has run. */
  readonly afterThis: (run: () => void) => void
}

const afterThis = (run: () => void) => queueMicrotask(run)

export const Turns: Context.Reference<Turns> = Context.Reference<Turns>("@clutch/core/internal/Turns", {
  defaultValue: () => ({ time: (now) => now, afterThis })
})

/** Turns end where their work does, and never by the time: the same steps on any machine. */
export const timeless: Turns = { time: () => 0, afterThis }

/** Asks for it at the end of this turn: it runs once, however often it was asked for meanwhile. */
export const once = (turns: Turns, run: () => void): (() => void) => {
  let asked = false
  return () => {
    if (asked) return
    asked = true
    turns.afterThis(() => {
      asked = false
      run()
    })
  }
}
