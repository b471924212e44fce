/** Resident memory while messages go by. */
import type { Figures } from "./job.ts"
import { quantile } from "./meter.ts"

export interface Resident {
  /** Call once a message. */
  readonly one: () => void
  readonly figures: () => Figures
}

/** `memory` is what it is around the last twentieth of the messages; `growth` compares it with that after the first tenth. */
export const resident = (messages: number): Resident => {
  const step = Math.max(1, Math.floor(messages / 1000))
  const samples: Array<number> = []
  let seen = 0
  return {
    one: () => {
      seen += 1
      if (seen % step === 0) samples.push(process.memoryUsage.rss() / 1e6)
    },
    figures: () => {
      const part = (from: number, to: number) =>
        quantile(samples.slice(Math.floor(from * samples.length), Math.ceil(to * samples.length)), 0.5)
      const memory = part(0.95, 1)
      return { memory, growth: (memory / part(0.1, 0.15) - 1) * 100 }
    }
  }
}
