/** Publishing: what may be published where, as which messages, in which span. */
import type { NonEmptyReadonlyArray } from "effect/Array"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Inspectable from "effect/Inspectable"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import * as Result from "effect/Result"
import * as Tracer from "effect/Tracer"
import { InvalidOption, PublishError } from "../Errors.ts"
import type { Message } from "../Message.ts"
import { type Source, TypeId } from "../Source.ts"
import * as Tracing from "../Tracing.ts"
import { type Replication, type Retention, Transport } from "../Transport.ts"
import { topicProblem } from "./address.ts"
import * as durations from "./durations.ts"
import * as outgoing from "./outgoing.ts"
import { outletOf, Sending, sendAll } from "./sending.ts"
import { shown } from "./shown.ts"
import { optional } from "./spelling.ts"
import { type PublishOptions, type Writer, WriterId } from "./writer.ts"

/** A topic, as publishing sees it. */
interface Topic<A> extends Source<A> {
  readonly [WriterId]: Writer
}

/** What is checked of it, whatever its data is. */
type Checked = Pick<Topic<unknown>, "topic" | typeof TypeId | typeof WriterId>

type Problem = PublishError["reason"]

export const publish = <A>(
  topic: Topic<A>,
  data: NonEmptyReadonlyArray<A>,
  options: PublishOptions = noOptions
): Effect.Effect<NonEmptyReadonlyArray<Message<A>>, PublishError, Transport> =>
  Effect.contextWith((context: Context.Context<Transport>) => {
    const retention = checkTopic(topic)
    if (Result.isFailure(retention)) return fail(topic, retention.failure)
    const patience = checkOptions(options, data.length)
    if (Result.isFailure(patience)) return fail(topic, patience.failure)
    const replication = replicationOf(options)
    if (Result.isFailure(replication)) return fail(topic, replication.failure)
    const transport = Context.get(context, Transport)
    const outlet = outletOf(transport, topic.topic, topic[TypeId].partitions)

    const send = (traceparent: string | undefined, span?: Tracer.Span) => {
      const common =
        options === noOptions && traceparent === undefined
          ? undefined
          : outgoing.given({
              id: options.id,
              source: options.source,
              subject: options.subject,
              traceparent,
              tracestate: traceparent === undefined ? undefined : Context.get(context, Tracing.TraceState),
              headers: options.headers
            })
      const messages = outgoing.encode(topic.topic, topic[WriterId], data, common)
      if (Result.isFailure(messages)) return fail(topic, messages.failure)
      if (span !== undefined && data.length === 1) {
        const bytes = messages.success.reduce((sum, one) => sum + new TextEncoder().encode(one.data).length, 0)
        span.attribute("messaging.message.body.size", bytes)
      }
      return sendAll(
        new Sending(
          context,
          transport,
          outlet,
          retention.success,
          replication.success,
          patience.success,
          data,
          messages.success
        )
      )
    }
    if (!Tracing.isActive(context)) {
      const parent = Context.getOrUndefined(context, Tracer.ParentSpan)
      return send(parent === undefined ? undefined : Tracing.traceparent(parent))
    }
    const { partitions } = outlet
    return Effect.useSpan(
      `send ${topic.topic}`,
      {
        kind: "producer",
        attributes: {
          "messaging.system": transport.system,
          "messaging.operation.name": "send",
          "messaging.operation.type": "send",
          "messaging.destination.name":
            partitions === 1 ? transport.stream({ topic: topic.topic, partition: 0 }) : topic.topic,
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

/** Nothing was stored. What is refused as the topic's name may be no text, from untyped callers. */
const fail = ({ topic }: Checked, reason: Problem) =>
  Effect.fail(new PublishError({ topic: Inspectable.toStringUnknown(topic), stored: 0, reason }))

// -----------------------------------------------------------------------------
// what is asked for
// -----------------------------------------------------------------------------

const checked = new WeakMap<Checked, Result.Result<Retention, Problem>>()

/** Once a topic, as it never changes. */
const checkTopic = (topic: Checked): Result.Result<Retention, Problem> => {
  const known = checked.get(topic)
  if (known !== undefined) return known
  const result = checkTopicAnew(topic)
  checked.set(topic, result)
  return result
}

const checkTopicAnew = (topic: Checked): Result.Result<Retention, Problem> => {
  const problem = topicProblem(topic)
  if (problem !== undefined) return Result.fail(problem)
  const { maxAge, maxLength } = topic[WriterId]
  if (maxLength !== undefined && !(Number.isSafeInteger(maxLength) && maxLength >= 1)) {
    return refuse(
      "maxLength",
      `${shown(maxLength)} is no length: give a whole number from 1, or leave it out to keep all`
    )
  }
  const age = maxAge === undefined ? Option.some(undefined) : positive(maxAge)
  return Option.isNone(age)
    ? refuse("maxAge", "give a finite duration above 0, or leave it out to keep all")
    : Result.succeed({ maxLength, maxAge: age.value })
}

const noOptions: PublishOptions = {}

/** Answers with how long to wait in an outage, in milliseconds. */
const checkOptions = (options: PublishOptions, count: number): Result.Result<number, Problem> => {
  if (options === noOptions) return defaultPatience
  const problem = optional(publishOptions, options, '{ subject: "…" }')
  if (problem !== undefined) return Result.fail(problem)
  if (options.id !== undefined && count > 1) {
    return refuse("id", "one id cannot name several messages: leave it out, or publish one at a time")
  }
  for (const option of ["id", "source", "subject"] as const) {
    const text: unknown = options[option]
    if (text !== undefined && typeof text !== "string") return refuse(option, "give a text, or leave it out")
    // CloudEvents has none of these
    if (text === "" && option !== "subject") return refuse(option, "it is empty: give a text, or leave it out")
  }
  if (options.headers !== undefined && !Predicate.isObject(options.headers)) {
    return refuse("headers", `${shown(options.headers)} is refused: give an object of texts, or leave it out`)
  }
  for (const [name, text] of Object.entries<unknown>(options.headers ?? {})) {
    if (typeof text !== "string") return refuse(`headers.${name}`, "give a text, or leave it out")
    if (name === "__proto__") return refuse("headers", "a header cannot be called __proto__: choose another name")
  }
  if (options.timeout === undefined) return defaultPatience
  const patience = durations.finite(options.timeout)
  return Option.isNone(patience)
    ? refuse("timeout", "give a finite duration from 0; 0 fails at once")
    : Result.succeed(Duration.toMillis(patience.value))
}

/** How many replicas are waited for, and how long; none without the option. */
const replicationOf = ({ replicas, within }: PublishOptions): Result.Result<Replication | undefined, Problem> => {
  if (replicas === undefined) {
    return within === undefined
      ? noReplication
      : refuse("within", "it says how long to wait for replicas: give `replicas` too, or leave it out")
  }
  if (!Number.isSafeInteger(replicas) || replicas < 1) {
    return refuse(
      "replicas",
      `${shown(replicas)} is no number of replicas: give a whole number from 1, or leave it out`
    )
  }
  const wait = positive(within ?? "1 second")
  return Option.isNone(wait)
    ? refuse("within", "give a finite duration above 0, or leave it out to wait for a second")
    : Result.succeed({ replicas, within: wait.value })
}

const noReplication = /* @__PURE__ */ Result.succeed(undefined)

const defaultPatience = /* @__PURE__ */ Result.succeed(10_000)

const publishOptions: ReadonlySet<string> = new Set<keyof PublishOptions>([
  "id",
  "source",
  "subject",
  "headers",
  "timeout",
  "replicas",
  "within"
])

const refuse = (option: string, problem: string) => Result.fail(new InvalidOption({ option, problem }))

const positive = (input: Duration.Input) => Option.filter(durations.finite(input), Duration.isPositive)
