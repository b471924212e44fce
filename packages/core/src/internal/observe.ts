/** What a subscription tells the world: counters made once, spans only where a tracer listens. */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as LogLevel from "effect/LogLevel"
import * as Metric from "effect/Metric"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import * as References from "effect/References"
import * as Tracer from "effect/Tracer"
import type { Message } from "../Message.ts"
import * as Metrics from "../Metrics.ts"
import * as Tracing from "../Tracing.ts"
import type { DeadLetterReason, Group } from "../Transport.ts"
import { unprintable } from "./failure.ts"
import type { Handling } from "./handling.ts"
import * as series from "./series.ts"

export interface Observer {
  readonly consumed: (count: number) => void
  readonly running: (change: number) => void
  readonly processed: (seconds: number) => void
  readonly acked: (secondsSincePublished: number) => void
  readonly retried: () => void
  readonly deadLettered: (reason: DeadLetterReason) => void
  readonly dropped: () => void
  readonly leaseLost: () => void
  readonly settledTwice: () => void
  readonly settledUnknown: () => void
  readonly poison: () => void
  readonly filtered: () => void
  readonly released: () => void
  readonly blockedLoop: () => void
  /** Of a partition, at a time of the runtime's clock. */
  readonly heldBack: (
    partition: number,
    found: { readonly keys: number; readonly since: number | undefined },
    now: number
  ) => void
}

/** What tells one subscription's numbers from another's. */
export const tagsOf = (group: Group, system: string) => ({
  "messaging.system": system,
  "messaging.destination.name": group.topic,
  "messaging.consumer.group.name": group.subscription
})

export const make = (group: Group, system: string, surroundings: Context.Context<never>): Observer => {
  const tags = tagsOf(group, system)
  const context = series.tagged(surroundings, tags)
  const here = () => context
  const one = (metric: Metric.Counter<number>, at = here) => {
    const add = series.updater(series.counter, metric, at)
    return () => add(1)
  }
  const measure = (metric: Metric.Histogram<number>) => series.updater(series.histogram, metric, here)
  const inFlight = series.copy(series.gauge, Metrics.inFlight)
  const dead = (reason: DeadLetterReason) =>
    one(Metrics.deadLetters, () => series.tagged(surroundings, { ...tags, reason }))
  const deadLetters: Record<DeadLetterReason, () => void> = {
    exhausted: dead("exhausted"),
    notRetryable: dead("notRetryable"),
    poison: dead("poison"),
    rejected: dead("rejected")
  }
  const partitions = new Map<number, { readonly keys: (keys: number) => void; readonly age: (age: number) => void }>()
  const partitionOf = (partition: number) => {
    let known = partitions.get(partition)
    if (known === undefined) {
      const at = series.tagged(surroundings, { ...tags, "messaging.destination.partition.id": String(partition) })
      const set = (metric: Metric.Gauge<number>) => series.updater(series.gauge, metric, () => at)
      partitions.set(partition, (known = { keys: set(Metrics.heldBack), age: set(Metrics.oldestHeldBack) }))
    }
    return known
  }
  return {
    consumed: series.updater(series.counter, Metrics.consumed, here),
    running: (change) => inFlight.modifyUnsafe(change, context),
    processed: measure(Metrics.processDuration),
    acked: measure(Metrics.sojourn),
    retried: one(Metrics.retries),
    deadLettered: (reason) => deadLetters[reason](),
    dropped: one(Metrics.dropped),
    leaseLost: one(Metrics.leasesLost),
    settledTwice: one(Metrics.settledTwice),
    settledUnknown: one(Metrics.settledUnknown),
    poison: one(Metrics.poison),
    filtered: one(Metrics.filtered),
    released: one(Metrics.released),
    blockedLoop: one(Metrics.blockedLoop),
    heldBack: (partition, { keys, since }, now) => {
      const at = partitionOf(partition)
      at.keys(keys)
      at.age(since === undefined ? 0 : Math.max(0, now - since) / 1000)
    }
  }
}

/** A line about one delivery. */
export type Log = (handling: Handling, severity: LogLevel.Severity, ...line: ReadonlyArray<unknown>) => void

export const logger = (context: Context.Context<never>, run: (effect: Effect.Effect<void>) => void): Log => {
  const least = Context.get(context, References.MinimumLogLevel)
  return ({ attempt, messageId, originalId }, severity, ...line) => {
    // a fiber a failure is felt, also where nobody would see its line
    if (LogLevel.isGreaterThan(least, severity)) return
    const write = Effect.logWithLevel(severity)
    // an error may have getters that throw, of which a logger dies
    const written = Effect.catchCause(write(...line), () =>
      write(...line.filter((part) => !Cause.isCause(part)), unprintable)
    )
    run(Effect.annotateLogs(written, { messageId, originalId, attempt }))
  }
}

/** A subscription's own context: the span that surrounded subscribing has nothing to do with what is handled. */
export const ownContext = (context: Context.Context<never>): Context.Context<never> =>
  Context.omit(Tracer.ParentSpan, Tracing.TraceState)(context)

/** What a handler finds around it: its message's trace, also where no tracer makes a span of it. */
export const traceContext = (context: Context.Context<never>, message: Message<unknown>): Context.Context<never> => {
  const producer = Tracing.producer(message)
  if (Option.isNone(producer)) return context
  const continued = Context.add(context, Tracer.ParentSpan, producer.value)
  // also where there is none: another message's belongs to another trace
  return Context.add(continued, Tracing.TraceState, message.tracestate)
}

const links = (handlings: ReadonlyArray<Handling>): Array<Tracer.SpanLink> =>
  handlings.flatMap(({ message }) =>
    Option.match(Tracing.producer(message), { onNone: () => [], onSome: (span) => [{ span, attributes: {} }] })
  )

const shared = (group: Group, system: string, handlings: ReadonlyArray<Handling>) => {
  const [first] = handlings
  return {
    "messaging.system": system,
    "messaging.destination.name": first?.stream ?? group.topic,
    "messaging.consumer.group.name": first?.group ?? group.subscription,
    ...(handlings.length === 1
      ? { "messaging.message.id": first?.message.id }
      : { "messaging.batch.message_count": handlings.length })
  }
}

/** A trace of the stack would show this file, at the cost of an error for each message. */
const unplaced = { captureStackTrace: false }

/** `process {topic}` around a handler. */
export const processSpan = <A, E, R>(
  handler: Effect.Effect<A, E, R>,
  at: { readonly group: Group; readonly system: string; readonly relation: "child" | "link" },
  handlings: ReadonlyArray<Handling>
): Effect.Effect<A, E, R> => {
  const linked = at.relation === "link"
  const options = {
    kind: "consumer" as const,
    attributes: {
      ...shared(at.group, at.system, handlings),
      "messaging.operation.name": "process",
      "messaging.operation.type": "process",
      "messaging.message.body.size": handlings.reduce((sum, { entry }) => sum + entry.size, 0),
      "messaging.redis.delivery_attempt": handlings[0]?.attempt
    },
    ...(linked ? { root: true, links: links(handlings) } : {})
  }
  return Effect.useSpan(`process ${at.group.topic}`, options, (span) =>
    recordingError(span, Effect.withParentSpan(handler, span, unplaced))
  )
}

/** OpenTelemetry's `error.type`: what kind of error ended the span. Nothing is recovered from: an interrupt hides no failure. */
const recordingError = <A, E, R>(span: Tracer.Span, self: Effect.Effect<A, E, R>) =>
  Effect.onExitPrimitive(self, (exit) => {
    if (Exit.isFailure(exit)) span.attribute("error.type", errorType(Cause.squash(exit.cause)))
    return undefined
  })

const errorType = (error: unknown): string => {
  try {
    if (Predicate.hasProperty(error, "_tag") && Predicate.isString(error._tag)) return error._tag
    return error instanceof Error ? error.name : "_OTHER"
  } catch {
    return "_OTHER" // an error may have getters that throw
  }
}

/** `settle` around a batch of settlements. */
export const settleSpan = <A, E, R>(
  call: Effect.Effect<A, E, R>,
  at: { readonly group: Group; readonly system: string },
  handlings: ReadonlyArray<Handling>
): Effect.Effect<A, E, R> =>
  Effect.useSpan(
    "settle",
    {
      kind: "client",
      root: true,
      links: links(handlings),
      attributes: {
        ...shared(at.group, at.system, handlings),
        "messaging.operation.name": "settle",
        "messaging.operation.type": "settle"
      }
    },
    (span) => recordingError(span, call)
  )
