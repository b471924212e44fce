/**
 * What the handlers saw, counted by themselves: the demo's own evidence, beside what the runtime reports.
 *
 * Counters live in this process. A message that is delivered twice is counted twice, which is the point: the report
 * compares deliveries with messages.
 */
import { Clock, Context, Effect, Layer } from "effect"

export interface Line {
  /** Deliveries that reached the handler. */
  readonly delivered: number
  /** Of those, the ones after the first attempt. */
  readonly retries: number
  /** Deliveries that the handler finished. */
  readonly handled: number
  /** Milliseconds since the epoch; of the first delivery and of the last thing that happened. */
  readonly started: number
  readonly ended: number
}

const empty: Line = { delivered: 0, retries: 0, handled: 0, started: 0, ended: 0 }

export class Ledger extends Context.Service<
  Ledger,
  {
    readonly published: (topic: string, count: number) => Effect.Effect<void>
    readonly delivered: (subscription: string, attempts: ReadonlyArray<number>) => Effect.Effect<void>
    readonly handled: (subscription: string, count: number) => Effect.Effect<void>
    /** Messages stored in a topic so far. */
    readonly publishedTo: (topic: string) => number
    readonly line: (subscription: string) => Line
  }
>()("examples/Ledger") {
  static readonly layer: Layer.Layer<Ledger> = Layer.sync(Ledger, () => {
    const topics = new Map<string, number>()
    const lines = new Map<string, Line>()
    const line = (subscription: string) => lines.get(subscription) ?? empty
    const update = (subscription: string, change: (line: Line) => Line) =>
      Effect.map(Clock.currentTimeMillis, (now) => {
        const before = line(subscription)
        const started = before.delivered === 0 ? now : before.started
        lines.set(subscription, { ...change(before), started, ended: now })
      })
    return Ledger.of({
      published: (topic, count) => Effect.sync(() => void topics.set(topic, (topics.get(topic) ?? 0) + count)),
      delivered: (subscription, attempts) =>
        update(subscription, (line) => ({
          ...line,
          delivered: line.delivered + attempts.length,
          retries: line.retries + attempts.filter((attempt) => attempt > 1).length
        })),
      handled: (subscription, count) => update(subscription, (line) => ({ ...line, handled: line.handled + count })),
      publishedTo: (topic) => topics.get(topic) ?? 0,
      line
    })
  })
}
