/**
 * Spans and trace context, named as OpenTelemetry's messaging conventions name them: `send {topic}` where a message is
 * published, `process {topic}` around a handler, `settle` around a batch of settlements.
 *
 * The tracer is Effect's own. While it is Effect's default one, which exports nothing, no span is made; trace context
 * still travels, so that a worker without a tracer does not cut a trace in two.
 *
 * @see https://opentelemetry.io/docs/specs/semconv/messaging/messaging-spans/
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Option from "effect/Option"
import * as Tracer from "effect/Tracer"
import type { Message } from "./Message.ts"

/**
 * How the span of a handler relates to the span that published its message: `"child"` (default) continues that trace;
 * `"link"` begins a trace of its own and links to it. Batches always link, as they have several publishers.
 *
 * @category references
 * @since 0.1.0
 */
export const ProcessSpan: Context.Reference<"child" | "link"> = Context.Reference<"child" | "link">(
  "@clutch/core/Tracing/ProcessSpan",
  { defaultValue: () => "child" }
)

/**
 * W3C `tracestate` of the message that is being handled; what the handler publishes carries it on. (Effect's spans do
 * not know it.)
 *
 * @category references
 * @since 0.1.0
 */
export const TraceState: Context.Reference<string | undefined> = Context.Reference<string | undefined>(
  "@clutch/core/Tracing/TraceState",
  { defaultValue: () => undefined }
)

/**
 * Whether anybody listens: a tracer other than Effect's default.
 *
 * @category getters
 * @since 0.1.0
 */
export const isActive = (context: Context.Context<never>): boolean =>
  Context.get(context, Tracer.Tracer) !== Tracer.nativeTracer

/**
 * A span as W3C `traceparent`.
 *
 * @category encoding
 * @since 0.1.0
 */
export const traceparent = (span: Tracer.AnySpan): string =>
  `00-${span.traceId}-${span.spanId}-${span.sampled ? "01" : "00"}`

// W3C Trace Context §3.2: version ff and ids of zeros are invalid, and only versions to come may say more
const pattern =
  /^(?!ff)(?:00(?=.{53}$)|(?!00)[0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(?=$|-)/

/**
 * The span that published a message; none where its `traceparent` is absent or malformed.
 *
 * @category decoding
 * @since 0.1.0
 */
export const producer = (message: Message<unknown>): Option.Option<Tracer.ExternalSpan> => {
  const match = message.traceparent === undefined ? null : pattern.exec(message.traceparent)
  if (match === null) return Option.none()
  const [, traceId, spanId, flags] = match
  if (traceId === undefined || spanId === undefined || flags === undefined) return Option.none()
  return Option.some(Tracer.externalSpan({ traceId, spanId, sampled: (Number.parseInt(flags, 16) & 1) === 1 }))
}
