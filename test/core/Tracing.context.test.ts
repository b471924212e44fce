/** Trace context: how it is read and written, and that it travels also where no tracer listens. */
import type { Message } from "@clutch/core/Message"
import * as Subscription from "@clutch/core/Subscription"
import * as Topic from "@clutch/core/Topic"
import * as Tracing from "@clutch/core/Tracing"
import { assert, describe, it } from "@effect/vitest"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as Tracer from "effect/Tracer"
import { vi } from "vitest"
import { given, open, passing, probe, Texts } from "./support.ts"

const message = (traceparent?: string): Message<string> => ({
  id: "1-0",
  source: "/clutch/texts",
  type: "texts",
  time: DateTime.makeUnsafe(0),
  data: "x",
  headers: {},
  traceparent
})
const traceId = "0af7651916cd43dd8448eb211c80319c"
const spanId = "b7ad6b7169203331"

describe("Tracing: context", () => {
  it("writes a span as W3C traceparent", () => {
    assert.strictEqual(
      Tracing.traceparent(Tracer.externalSpan({ traceId, spanId, sampled: true })),
      `00-${traceId}-${spanId}-01`
    )
    assert.strictEqual(
      Tracing.traceparent(Tracer.externalSpan({ traceId, spanId, sampled: false })),
      `00-${traceId}-${spanId}-00`
    )
  })

  it.each([
    [`00-${traceId}-${spanId}-01`, true],
    [`00-${traceId}-${spanId}-00`, false],
    [`00-${traceId}-${spanId}-03`, true],
    [`cc-${traceId}-${spanId}-01-what-the-future-will-be-like`, true]
  ])("reads %s", (traceparent, sampled) => {
    const span = Option.getOrThrow(Tracing.producer(message(traceparent)))
    assert.deepStrictEqual([span.traceId, span.spanId, span.sampled], [traceId, spanId, sampled])
  })

  it.each([
    undefined,
    "",
    "00",
    traceId,
    `00-${traceId}-${spanId}`,
    `00-${"0".repeat(32)}-${spanId}-01`,
    `00-${traceId}-${"0".repeat(16)}-01`,
    `00-${traceId.toUpperCase()}-${spanId}-01`,
    `00-${traceId.slice(1)}-${spanId}-01`,
    `ff-${traceId}-${spanId}-01`,
    `00-${traceId}-${spanId}-01-more`,
    `00-${traceId}-${spanId}-011`
  ])("a traceparent that is absent or malformed is none: %s", (traceparent) => {
    assert.isTrue(Option.isNone(Tracing.producer(message(traceparent))))
  })

  it.effect(
    "tracestate is carried on by what a handler publishes, with a tracer and without",
    given(function* () {
      const Second = Topic.make("second", { schema: Schema.String })
      const seen = yield* probe()
      yield* open(Subscription.make("a", Texts, ({ data }) => Effect.asVoid(Topic.publish(Second, data))))
      yield* open(Subscription.make("b", Second, seen.handler()))
      const parent = Tracer.externalSpan({ traceId, spanId, sampled: true })
      const publish = Topic.publish(Texts, "x").pipe(
        Effect.withParentSpan(parent),
        Effect.provideService(Tracing.TraceState, "vendor=1,other=2")
      )
      const published = yield* publish
      assert.deepStrictEqual(
        [published.traceparent, published.tracestate],
        [`00-${traceId}-${spanId}-01`, "vendor=1,other=2"]
      )
      const { message } = yield* seen.next
      assert.deepStrictEqual(
        [message.traceparent, message.tracestate],
        [`00-${traceId}-${spanId}-01`, "vendor=1,other=2"]
      )
    })
  )

  it.effect(
    "tracestate without a trace, or of another message, is not carried",
    given(function* () {
      const Second = Topic.make("second", { schema: Schema.String })
      const seen = yield* probe()
      const subscribing = open(Subscription.make("a", Texts, ({ data }) => Effect.asVoid(Topic.publish(Second, data))))
      yield* Effect.provideService(subscribing, Tracing.TraceState, "around=subscribing")
      yield* open(Subscription.make("b", Second, seen.handler()))
      yield* Effect.provideService(Topic.publish(Texts, "x"), Tracing.TraceState, "vendor=1")
      const first = yield* seen.next
      assert.deepStrictEqual([first.message.traceparent, first.message.tracestate], [undefined, undefined])
      const parent = Tracer.externalSpan({ traceId, spanId, sampled: true })
      yield* Effect.withParentSpan(Topic.publish(Texts, "y"), parent)
      const second = yield* seen.next
      assert.deepStrictEqual(
        [second.message.traceparent, second.message.tracestate],
        [`00-${traceId}-${spanId}-01`, undefined]
      )
    })
  )

  it.effect(
    "while the tracer is Effect's default one no span is made, and trace context still travels",
    given(function* () {
      const spy = yield* Effect.acquireRelease(
        Effect.sync(() => vi.spyOn(Tracer.nativeTracer, "span")),
        (spy) => Effect.sync(() => spy.mockRestore())
      )
      const seen = yield* probe()
      const batches = Subscription.batch("b", Texts, () => Effect.void, { size: 5, within: 0 })
      const subscription = Subscription.make(
        "s",
        Texts,
        seen.handler(({ attempt }) => (attempt === 1 ? Effect.fail("no") : Effect.void)),
        {
          retry: { base: "1 second" }
        }
      )
      yield* open(subscription)
      yield* open(batches)
      const parent = Tracer.externalSpan({ traceId, spanId, sampled: true })
      yield* Effect.withParentSpan(Topic.publish(Texts, "x"), parent)
      yield* Topic.publishAll(Texts, ["y", "z"])
      yield* passing("1 second")(Subscription.awaitIdle(subscription))
      yield* Subscription.awaitIdle(batches)
      assert.strictEqual(seen.calls.length, 6)
      assert.strictEqual(spy.mock.calls.length, 0)
      assert.strictEqual(seen.calls[0]?.message.traceparent, `00-${traceId}-${spanId}-01`)
      // the spy sees what the default tracer makes
      yield* Effect.withSpan(Effect.void, "seen")
      assert.strictEqual(spy.mock.calls.length, 1)
    })
  )
})
