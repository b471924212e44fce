/** Resident memory while messages go by. */
import type { Figures } from "./job.ts"

export interface Resident {
  /** Call once a message. */
  readonly one: () => void
  readonly figures: () => Figures
}

const median = (values: ReadonlyArray<number>): number =>
  values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN

/** `memory` is around the last tenth of the messages, and `growth` compares with around the first tenth's end. */
export const resident = (messages: number): Resident => {
  const step = Math.max(1, Math.floor(messages / 200))
  const samples: Array<number> = []
  let seen = 0
  return {
    one: () => {
      seen += 1
      if (seen % step === 0) samples.push(process.memoryUsage.rss() / 1e6)
    },
    figures: () => {
      const part = (from: number, to: number) =>
        median(samples.slice(Math.floor(from * samples.length), Math.ceil(to * samples.length)))
      const memory = part(0.9, 1)
      return { memory, growth: (memory / part(0.05, 0.15) - 1) * 100 }
    }
  }
}
