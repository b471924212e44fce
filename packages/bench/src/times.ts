/** How long messages took that say when they were published. */
import type { Figures, Job } from "./job.ts"
import { type Order, nanos } from "./message.ts"
import { quantile } from "./meter.ts"

export interface Times {
  readonly handled: (order: Order) => void
  /** Milliseconds, without the first messages, which warm up. */
  readonly figures: () => Figures
}

export const figuresOf = (milliseconds: ReadonlyArray<number>): Figures => ({
  p50: quantile(milliseconds, 0.5),
  p99: quantile(milliseconds, 0.99)
})

export const times = ({ warmup }: Job): Times => {
  const took: Array<number> = []
  return {
    handled: ({ at, number }) => {
      if (number >= warmup) took.push((nanos() - at) / 1e6)
    },
    figures: () => figuresOf(took)
  }
}
