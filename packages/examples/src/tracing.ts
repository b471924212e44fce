/**
 * One trace from publish through a retry to the dead letter, printed to the console.
 *
 * Clutch opens spans with Effect's own Tracer, so any exporter will do: in production that is `Otlp` from
 * `effect/observability`. This tracer keeps the spans and prints them as a tree.
 */
import { Agent, DeadLetters, MemoryTransport, Subscription, Topic } from "@clutch/core"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import { Console, Effect, Exit, Layer, Logger, Option, Result, Schema, Stream, Tracer } from "effect"

class NoFunds extends Schema.TaggedError<NoFunds>()("NoFunds", { order: Schema.String }) {}

const Orders = Topic.make("orders", { schema: Schema.Struct({ id: Schema.String }) })

const billing = Subscription.make(
  "billing",
  Orders,
  Effect.fn("charge")(function* ({ data }) {
    return yield* new NoFunds({ order: data.id })
  }),
  { retry: { maxRetries: 1, base: "50 millis" } }
)

const program = Effect.gen(function* () {
  yield* Topic.publish(Orders, { id: "o-1" }).pipe(Effect.withSpan("checkout"))
  yield* Subscription.awaitIdle(billing)
  yield* DeadLetters.list(billing).pipe(
    Stream.runForEach(({ message }) => {
      const trace = Result.match(message, { onSuccess: ({ traceparent }) => traceparent, onFailure: () => undefined })
      return Console.log(`dead letter of trace ${trace?.split("-")[1]}`)
    })
  )
}).pipe(Effect.provide(Agent.layer("shop", [billing]).pipe(Layer.provideMerge(MemoryTransport.layer))))

// -----------------------------------------------------------------------------
// a tracer for the console
// -----------------------------------------------------------------------------

const shown = ["messaging.destination.name", "messaging.consumer.group.name", "messaging.message.id", "error.type"]

/**
 * A span and what happened inside of it, indented. One call can settle messages of many traces, so a settlement is in none
 * of them; it links to each, and is printed where it links to.
 */
const tree = (
  spans: ReadonlyArray<Tracer.NativeSpan>,
  span: Tracer.NativeSpan,
  depth: number
): ReadonlyArray<string> => {
  const notes = [
    span.kind,
    ...(span.links.length > 0 ? ["linked"] : []),
    ...(span.status._tag === "Ended" && Exit.isFailure(span.status.exit) ? ["failed"] : [])
  ]
  const attributes = shown
    .filter((key) => span.attributes.has(key))
    .map((key) => `${key}=${String(span.attributes.get(key))}`)
  const inside = spans.filter(
    ({ links, parent }) =>
      Option.getOrUndefined(parent)?.spanId === span.spanId || links.some((link) => link.span.spanId === span.spanId)
  )
  return [
    [`${"  ".repeat(depth)}${span.name} (${notes.join(", ")})`, ...attributes].join(" "),
    ...inside.flatMap((one) => tree(spans, one, depth + 1))
  ]
}

const main = Effect.gen(function* () {
  const spans: Array<Tracer.NativeSpan> = []
  const recorder = Tracer.make({
    span: (options) => {
      const span = new Tracer.NativeSpan(options)
      spans.push(span)
      return span
    }
  })
  yield* program.pipe(Effect.provideService(Tracer.Tracer, recorder))
  for (const root of spans.filter(({ links, parent }) => Option.isNone(parent) && links.length === 0)) {
    yield* Console.log(`trace ${root.traceId}`)
    yield* Effect.forEach(tree(spans, root, 1), (line) => Console.log(line), { discard: true })
  }
})

main.pipe(Effect.provide(Logger.layer([])), NodeRuntime.runMain)
