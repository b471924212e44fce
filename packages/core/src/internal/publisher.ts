/** Publishing: data to entries, in batches, with the patience that an outage asks for. */
import type { NonEmptyReadonlyArray } from "effect/Array"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Metric from "effect/Metric"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Tracer from "effect/Tracer"
import { Encode, InvalidOption, PublishError, TransportError, Unavailable, Unknown } from "../Errors.ts"
import { type Attributes, fromEntry, type Message } from "../Message.ts"
import * as Metrics from "../Metrics.ts"
import * as Names from "../Names.ts"
import { type Source, TypeId } from "../Source.ts"
import * as Tracing from "../Tracing.ts"
import { type Log, type Outgoing, type Retention, Transport } from "../Transport.ts"
import * as durations from "./durations.ts"
import * as Health from "./health.ts"
import { partitionsProblem } from "./partitions.ts"
import { spelling } from "./spelling.ts"
import { type PublishOptions, type Writer, WriterId } from "./writer.ts"

/** One step on the log: large enough that a round trip is shared, small enough that no other client waits for it. */
const batchSize = 256

/** A topic, as publishing sees it. */
interface Topic<A> extends Source<A> {
  readonly [WriterId]: Writer
}

interface Plan {
  readonly log: Log
  readonly retention: Retention
  readonly patience: number
}

export const publish = <A>(
  topic: Topic<A>,
  data: NonEmptyReadonlyArray<A>,
  options: PublishOptions = {}
): Effect.Effect<NonEmptyReadonlyArray<Message<A>>, PublishError, Transport> =>
  Effect.contextWith((context: Context.Context<Transport>) => {
    const fail = (reason: PublishError["reason"], stored = 0) =>
      new PublishError({ topic: topic.topic, stored, reason })
    const plan = check(topic, data.length, options)
    if (Result.isFailure(plan)) return Effect.fail(fail(plan.failure))

    const send = (traceparent: string | undefined, span?: Tracer.Span) => {
      const messages = outgoing(topic, data, options, traceparent, Context.get(context, Tracing.TraceState))
      if (span !== undefined && Result.isSuccess(messages) && data.length === 1) {
        const bytes = messages.success.reduce((sum, one) => sum + new TextEncoder().encode(one.data).length, 0)
        span.attribute("messaging.message.body.size", bytes)
      }
      return Result.isFailure(messages)
        ? Effect.fail(fail(messages.failure))
        : sendAll(topic, data, messages.success, plan.success, fail)
    }
    if (!Tracing.isActive(context)) {
      return send(Option.getOrUndefined(Option.map(Context.getOption(context, Tracer.ParentSpan), Tracing.traceparent)))
    }
    const transport = Context.get(context, Transport)
    return Effect.useSpan(
      `send ${topic.topic}`,
      {
        kind: "producer",
        attributes: {
          "messaging.system": transport.system,
          "messaging.operation.name": "send",
          "messaging.operation.type": "send",
          "messaging.destination.name": transport.stream(plan.success.log),
          ...(data.length === 1 ? {} : { "messaging.batch.message_count": data.length })
        }
      },
      (span) =>
        send(Tracing.traceparent(span), span).pipe(
          Effect.tap(([first]) =>
            Effect.sync(() => {
              if (data.length === 1) span.attribute("messaging.message.id", first.id)
            })
          ),
          Effect.tapError((error) => Effect.sync(() => span.attribute("error.type", error.reason._tag)))
        )
    )
  })

const check = <A>(
  topic: Topic<A>,
  count: number,
  options: PublishOptions
): Result.Result<Plan, PublishError["reason"]> => {
  const invalidName = Names.invalid("topic", topic.topic)
  if (invalidName !== undefined) return Result.fail(invalidName)
  const problem =
    topic[TypeId].problem ?? partitionsProblem(topic[TypeId].partitions) ?? spelling(publishOptions, options)
  if (problem !== undefined) return Result.fail(problem)
  if (options.id !== undefined && count > 1) {
    return refuse("id", "one id cannot name several messages: leave it out, or publish one at a time")
  }
  for (const option of ["id", "source", "subject"] as const) {
    const text: unknown = options[option]
    if (text !== undefined && typeof text !== "string") return refuse(option, "give a text, or leave it out")
  }
  for (const [name, text] of Object.entries<unknown>(options.headers ?? {})) {
    if (typeof text !== "string") return refuse(`headers.${name}`, "give a text, or leave it out")
    if (name === "__proto__") return refuse("headers", "a header cannot be called __proto__: choose another name")
  }
  const { maxAge, maxLength } = topic[WriterId]
  if (maxLength !== undefined && !(Number.isSafeInteger(maxLength) && maxLength >= 1)) {
    return refuse("maxLength", `${maxLength} is no length: give a whole number from 1, or leave it out to keep all`)
  }
  const age = maxAge === undefined ? Option.some(undefined) : positive(maxAge)
  if (Option.isNone(age)) return refuse("maxAge", "give a finite duration above 0, or leave it out to keep all")
  const patience = durations.finite(options.timeout ?? "10 seconds")
  if (Option.isNone(patience)) return refuse("timeout", "give a finite duration from 0; 0 fails at once")
  return Result.succeed({
    log: { topic: topic.topic, partition: 0 },
    retention: { maxLength, maxAge: age.value },
    patience: Duration.toMillis(patience.value)
  })
}

const publishOptions: ReadonlySet<string> = new Set<keyof PublishOptions>([
  "id",
  "source",
  "subject",
  "headers",
  "timeout"
])

const refuse = (option: string, problem: string) => Result.fail(new InvalidOption({ option, problem }))

const positive = (input: Duration.Input) => Option.filter(durations.finite(input), Duration.isPositive)

const outgoing = <A>(
  topic: Topic<A>,
  data: NonEmptyReadonlyArray<A>,
  options: PublishOptions,
  traceparent: string | undefined,
  tracestate: string | undefined
): Result.Result<ReadonlyArray<Outgoing & { readonly json: unknown }>, Encode> => {
  const writer = topic[WriterId]
  const all: Array<Outgoing & { readonly json: unknown }> = []
  for (const one of data) {
    const encoded = encode(writer.encode, one)
    if (Result.isFailure(encoded)) return Result.fail(encoded.failure)
    const partitionkey = attempt(() => keyOf(writer, one))
    if (Result.isFailure(partitionkey)) return Result.fail(partitionkey.failure)
    const attributes = given({
      id: options.id,
      source: options.source,
      subject: options.subject,
      partitionkey: partitionkey.success,
      traceparent,
      tracestate: traceparent === undefined ? undefined : tracestate,
      headers: options.headers
    })
    all.push({ ...encoded.success, attributes })
  }
  return Result.succeed(all)
}

const keyOf = (writer: Writer, data: unknown): string | undefined => {
  const key: unknown = writer.key?.(data)
  if (key === undefined || typeof key === "string") return key
  throw new TypeError(`the topic's key is a ${typeof key}, and must be a text`)
}

/** The attributes that are there; `undefined` where none is, so that a plain message stays one field. */
const given = (attributes: Attributes): Attributes | undefined => {
  const entries = Object.entries(attributes).filter(([, value]) => value !== undefined)
  return entries.length === 0 ? undefined : Object.fromEntries(entries)
}

const attempt = <A>(f: () => A): Result.Result<A, Encode> =>
  Result.try({ try: f, catch: (cause) => new Encode({ detail: String(cause), cause }) })

const encode = (encoder: (data: unknown) => Exit.Exit<unknown, unknown>, data: unknown) =>
  Result.flatMap(
    attempt(() => encoder(data)),
    (exit): Result.Result<{ readonly data: string; readonly json: unknown }, Encode> => {
      if (Exit.isFailure(exit)) {
        const cause = Option.getOrElse(Exit.findErrorOption(exit), () => exit.cause)
        return Result.fail(new Encode({ detail: String(cause), cause }))
      }
      return Result.flatMap(
        attempt(() => JSON.stringify(exit.value)),
        (text) =>
          // JSON has no undefined: such data would come back as nothing at all
          typeof text === "string"
            ? Result.succeed({ data: text, json: exit.value })
            : Result.fail(new Encode({ detail: "the encoded data is no JSON value" }))
      )
    }
  )

const sendAll = <A>(
  topic: Topic<A>,
  data: NonEmptyReadonlyArray<A>,
  messages: ReadonlyArray<Outgoing & { readonly json: unknown }>,
  plan: Plan,
  fail: (reason: PublishError["reason"], stored?: number) => PublishError
) =>
  Effect.gen(function* () {
    const transport = yield* Transport
    const tags = { "messaging.destination.name": topic.topic, "messaging.system": transport.system }
    const sent: Array<Message<A>> = []
    for (let at = 0; at < messages.length; at += batchSize) {
      const batch = messages.slice(at, at + batchSize)
      if (!isNonEmpty(batch)) break
      const { ids, trimmed } = yield* patiently(transport.publish(plan.log, batch, plan.retention), plan.patience).pipe(
        Effect.mapError((error) => fail(reasonOf(error), sent.length))
      )
      yield* Metric.update(Metric.withAttributes(Metrics.sent, tags), ids.length)
      if (trimmed > 0) {
        yield* Metric.update(Metric.withAttributes(Metrics.trimmed, tags), trimmed)
        yield* Effect.logWarning(`retention dropped ${trimmed} messages`).pipe(
          Effect.annotateLogs({ topic: topic.topic, trimmed })
        )
      }
      for (const [index, id] of ids.entries()) {
        const { attributes, json } = batch[index] ?? batch[0]
        const stored = fromEntry({
          namespace: transport.namespace,
          topic: topic.topic,
          originalId: id,
          json,
          attributes
        })
        sent.push({ ...stored, data: data[at + index] ?? data[0] })
      }
    }
    return sent as unknown as NonEmptyReadonlyArray<Message<A>> // one for each of `data`, which is not empty
  })

const isNonEmpty = <A>(all: ReadonlyArray<A>): all is NonEmptyReadonlyArray<A> => all.length > 0

/** A reply is awaited at least so long, also by who does not wait in an outage: a busy log is none. */
const leastForReply = 1000

/**
 * Repeats what was certainly not done, for as long as the publisher agreed to wait; what was sent and not answered in
 * that time is not known, and not repeated.
 */
const patiently = <A>(self: Effect.Effect<A, TransportError>, patience: number): Effect.Effect<A, TransportError> =>
  Effect.flatMap(Clock.currentTimeMillis, (begun) => {
    const again = (left: number, tries: number): Effect.Effect<A, TransportError> => {
      const forReply = Duration.millis(Math.max(left, leastForReply))
      return self.pipe(
        Effect.timeoutOrElse({ duration: forReply, orElse: () => Effect.fail(unanswered(forReply)) }),
        Effect.catchIf(
          (error) => error.reason._tag === "Unavailable",
          (error) =>
            Effect.flatMap(Clock.currentTimeMillis, (now) => {
              const rest = patience - (now - begun)
              if (rest <= 0) return Effect.fail(error)
              const pause = Duration.min(Health.backoff(tries, error), Duration.millis(rest))
              return Effect.andThen(
                Effect.sleep(pause),
                Effect.suspend(() => again(rest - Duration.toMillis(pause), tries + 1))
              )
            })
        )
      )
    }
    return again(patience, 1)
  })

const unanswered = (after: Duration.Duration) =>
  new TransportError({
    operation: "publish",
    reason: new Unknown({ detail: `the log did not answer within ${Duration.format(after)}` })
  })

const reasonOf = ({ reason }: TransportError): PublishError["reason"] =>
  // publishing needs no subscription: a backend that says so is out of order, and nothing was stored
  reason._tag === "NoSubscription" ? new Unavailable({ detail: reason.message, cause: reason }) : reason
