/** The in-memory log passes the suite, on virtual time. */
import { MemoryTransport } from "@clutch/core"
import { Conformance } from "@clutch/core/conformance"
import { Effect, Result } from "effect"
import { TestClock } from "effect/testing"

Conformance.suite("memory", {
  layer: MemoryTransport.layer,
  time: "virtual",
  pass: TestClock.adjust,
  tick: "1 second",
  short: process.env["CLUTCH_SHORT"] !== undefined,
  appendRaw: ({ log, ...group }, raw) =>
    MemoryTransport.appendRaw(
      { topic: group.topic, partition: 0, ...(log === "retry" ? { subscription: group.subscription } : {}) },
      { content: Result.succeed({ data: raw, attributes: undefined }), raw }
    ),
  keys: (topic) =>
    Effect.map(MemoryTransport.snapshot, ({ keys }) => keys.filter((key) => key.split(":").includes(topic)))
})
