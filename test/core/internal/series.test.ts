import * as Metrics from "@clutch/core/Metrics"
import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import * as series from "../../../packages/core/src/internal/series.ts"

describe("series", () => {
  it("of copies are those of the metric, under the tags of the surroundings and its own, which win", () => {
    const registry: Metric.MetricRegistry = new Map()
    const surroundings = Context.make(Metric.MetricRegistry, registry).pipe(
      Context.add(Metric.CurrentMetricAttributes, { app: "shop", topic: "theirs" })
    )
    const at = (topic: string) => () => series.tagged(surroundings, { topic })
    const read = <I, S>(metric: Metric.Metric<I, S>, topic: string) =>
      Effect.runSyncWith(surroundings)(Metric.value(Metric.withAttributes(metric, { topic })))
    for (const topic of ["a", "b", "a"]) {
      series.updater(series.counter, Metrics.retries, at(topic))(1)
      series.updater(series.histogram, Metrics.sojourn, at(topic))(2)
      series.updater(series.gauge, Metrics.heldBack, at(topic))(3)
    }
    assert.strictEqual(read(Metrics.retries, "a").count, 2)
    assert.strictEqual(read(Metrics.retries, "b").count, 1)
    assert.deepInclude(read(Metrics.sojourn, "a"), { count: 2, sum: 4 })
    assert.strictEqual(read(Metrics.heldBack, "b").value, 3)
    assert.strictEqual(registry.size, 6)
    for (const { attributes } of registry.values()) assert.strictEqual(attributes?.["app"], "shop")
  })
})
