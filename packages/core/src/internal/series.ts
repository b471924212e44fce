/**
 * Metrics that several subscriptions or topics tag, each its own way. A metric of Effect's remembers the series that it
 * met last: one that is shared would spell the tags anew at each update, so each who updates has a copy. Copies of one
 * metric under the same tags are one series.
 */
import * as Context from "effect/Context"
import * as Metric from "effect/Metric"

export const counter = (name: string, description: string | undefined): Metric.Counter<number> =>
  Metric.counter(name, { description, incremental: true })

// seconds, as OpenTelemetry asks for durations; boundaries are those it recommends for messaging
const boundaries = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10]

export const histogram = (name: string, description: string | undefined): Metric.Histogram<number> =>
  Metric.histogram(name, { description, boundaries, attributes: { unit: "s" } })

export const gauge = (name: string, description: string | undefined): Metric.Gauge<number> =>
  Metric.gauge(name, { description })

/** Copies a metric that was made as `make` does. */
export const copy = <M extends { readonly id: string; readonly description: string | undefined }>(
  make: (name: string, description: string | undefined) => M,
  { description, id }: M
): M => make(id, description)

/** Little more than what metrics look up, as they do at each update; with these tags on all of them. */
export const tagged = (
  context: Context.Context<never>,
  tags: Readonly<Record<string, string>>
): Context.Context<never> =>
  Context.make(Metric.MetricRegistry, Context.get(context, Metric.MetricRegistry)).pipe(
    Context.add(Metric.CurrentMetricAttributes, { ...Context.get(context, Metric.CurrentMetricAttributes), ...tags })
  )

/** Updates one series: it is looked for at the first update, as most of what may happen never does. */
export const updater = <Input>(
  make: (name: string, description: string | undefined) => Metric.Metric<Input, unknown>,
  metric: Metric.Metric<Input, unknown>,
  at: () => Context.Context<never>
): ((input: Input) => void) => {
  let found: { readonly own: Metric.Metric<Input, unknown>; readonly context: Context.Context<never> } | undefined
  return (input) => {
    found ??= { own: copy(make, metric), context: at() }
    found.own.updateUnsafe(input, found.context)
  }
}
