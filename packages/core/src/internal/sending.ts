/** Sending what was encoded: in batches, in order, with the patience that an outage asks for. */
import type { NonEmptyReadonlyArray } from "effect/Array"
import * as Arr from "effect/Array"
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Metric from "effect/Metric"
import * as Result from "effect/Result"
import { PublishError, TransportError, Unavailable, UnderReplicated, Unknown } from "../Errors.ts"
import type { Message } from "../Message.ts"
import * as Metrics from "../Metrics.ts"
import type { Log, Published, Replication, Retention, Transport } from "../Transport.ts"
import { within } from "./deadlines.ts"
import * as Health from "./health.ts"
import type { Encoded } from "./outgoing.ts"
import { confirm, isConfirmed, partitionOf, turn } from "./partitions.ts"
import * as series from "./series.ts"
import * as stored from "./stored.ts"

/** One step on the log: large enough that a round trip is shared, small enough that no other client waits for it. */
const batchSize = 256

/**
 * A sending under way. A class, for the reason that `Encoded` is one; and functions of it, not closures: of these, each
 * publish would make a dozen.
 */
export class Sending<in out A> {
  readonly context: Context.Context<never>
  readonly transport: Transport["Service"]
  readonly outlet: Outlet
  readonly retention: Retention
  readonly replication: Replication | undefined
  /** How long to wait in an outage, in milliseconds. */
  readonly patience: number
  readonly data: NonEmptyReadonlyArray<A>
  /** One for each of `data`. */
  readonly messages: ReadonlyArray<Encoded>
  /** One for each of `data`, once its batch is confirmed. */
  readonly sent: Array<Message<A> | undefined>

  constructor(
    context: Context.Context<never>,
    transport: Transport["Service"],
    outlet: Outlet,
    retention: Retention,
    replication: Replication | undefined,
    patience: number,
    data: NonEmptyReadonlyArray<A>,
    messages: ReadonlyArray<Encoded>
  ) {
    this.context = context
    this.transport = transport
    this.outlet = outlet
    this.retention = retention
    this.replication = replication
    this.patience = patience
    this.data = data
    this.messages = messages
    this.sent = messages.map(() => undefined)
  }
}

type Reason = PublishError["reason"]

export const sendAll = <A>(sending: Sending<A>): Effect.Effect<NonEmptyReadonlyArray<Message<A>>, PublishError> => {
  const { context, outlet, patience, sent, transport } = sending
  const { partitions, topic } = outlet
  const sends = isConfirmed(transport, topic, partitions)
    ? sendRouted(sending)
    : patiently(context, confirm(transport, topic, partitions, "publish"), patience, 0, () => sendRouted(sending))
  return Effect.mapError(sends, (reason) => {
    const missing = sent.indexOf(undefined)
    return new PublishError({ topic, stored: missing < 0 ? sent.length : missing, reason })
  })
}

type Sent<A> = Effect.Effect<NonEmptyReadonlyArray<Message<A>>, Reason>

/** Once all lanes are sent. */
const allOf = <A>({ sent }: Sending<A>) => sent as unknown as NonEmptyReadonlyArray<Message<A>> // one for each of `data`

/** Partitions are different logs: none waits for another. */
const sendRouted = <A>(sending: Sending<A>): Sent<A> => {
  if (sending.outlet.partitions === 1) return send(sending, whole, 0)
  const lanes = route(sending)
  const [only] = lanes
  if (only !== undefined && lanes.length === 1) return send(sending, only, 0)
  return Effect.map(
    Effect.forEach(lanes, (lane) => send(sending, lane, 0), { concurrency: "unbounded", discard: true }),
    () => allOf(sending)
  )
}

/** Sends a lane from this place on, batch after batch. */
const send = <A>(sending: Sending<A>, lane: Lane, from: number): Sent<A> => {
  const { context, messages, outlet, patience, replication, retention, transport } = sending
  const batch = batchOf(messages, lane, from)
  if (!Arr.isReadonlyArrayNonEmpty(batch)) return Effect.succeed(allOf(sending))
  const { log } = outlet.place(lane.partition)
  const storing = transport.publish(log, batch, retention, replication)
  const forReplicas = replication === undefined ? 0 : Duration.toMillis(replication.within)
  return patiently(context, storing, patience, forReplicas, (published) => {
    const warning = confirmed(sending, lane, from, published)
    const rest = () => underReplicated(replication, published) ?? send(sending, lane, from + batch.length)
    return warning === undefined ? rest() : Effect.andThen(warning, Effect.suspend(rest))
  })
}

/** Takes what the log says of a batch, and answers with the warning where it dropped something. */
const confirmed = <A>(
  { context, data, messages, outlet, sent }: Sending<A>,
  { indices, partition }: Lane,
  from: number,
  { ids, trimmed }: Published
): Effect.Effect<void> | undefined => {
  outlet.sent.updateUnsafe(ids.length, context)
  const { message } = outlet.place(partition)
  for (let nth = 0; nth < ids.length; nth++) {
    const at = indices === undefined ? from + nth : (indices[from + nth] as number) // one for each of the batch
    const { attributes, type } = messages[at] as Encoded // one for each of `data`
    // an id for each of the batch, which is a part of `data`
    sent[at] = message(ids[nth] as string, type, data[at] as A, attributes)
  }
  if (trimmed === 0) return undefined
  outlet.trimmed.updateUnsafe(trimmed, context)
  const { topic } = outlet
  return Effect.annotateLogs(Effect.logWarning(`retention dropped ${trimmed} messages`), { topic, trimmed })
}

/** The failure, where too few replicas have it; those of the batch are stored all the same. */
const underReplicated = (
  replication: Replication | undefined,
  published: Published
): Effect.Effect<never, Reason> | undefined => {
  if (replication === undefined) return undefined
  const { confirmed, problem } = published.replicated ?? { confirmed: 0, problem: "the log does not say" }
  if (confirmed >= replication.replicas) return undefined
  const { replicas: wanted, within } = replication
  return Effect.fail(new UnderReplicated({ wanted, confirmed, within, detail: problem }))
}

/** What goes to one partition, in order. */
interface Lane {
  readonly partition: number
  /** Where in the list its messages are; `undefined` where all are its. */
  readonly indices: ReadonlyArray<number> | undefined
}

const batchOf = (messages: ReadonlyArray<Encoded>, { indices }: Lane, from: number): ReadonlyArray<Encoded> => {
  if (indices === undefined) {
    return from === 0 && messages.length <= batchSize ? messages : messages.slice(from, from + batchSize)
  }
  return indices.slice(from, from + batchSize).map((at) => messages[at] as Encoded) // one for each of `data`
}

/** Of a topic with one partition. */
const whole: Lane = { partition: 0, indices: undefined }

const route = <A>({ messages, outlet, transport }: Sending<A>): ReadonlyArray<Lane> => {
  const { partitions, topic } = outlet
  const partitionFor = ({ attributes }: Encoded): number => {
    const key = attributes?.partitionkey
    return key === undefined ? turn(transport, topic, partitions) : partitionOf(key, partitions)
  }
  const [first] = messages
  if (first !== undefined && messages.length === 1) return [{ partition: partitionFor(first), indices: undefined }]
  const routed = Array.from({ length: partitions }, (): Array<number> => [])
  for (const [index, message] of messages.entries()) routed[partitionFor(message)]?.push(index)
  return routed.map((indices, partition) => ({ partition, indices })).filter(({ indices }) => indices.length > 0)
}

// -----------------------------------------------------------------------------
// where to
// -----------------------------------------------------------------------------

/** One log of a topic, and how its entries become messages. */
interface Place {
  readonly log: Log
  readonly message: ReturnType<typeof stored.messages>
}

/**
 * A topic of a Transport, as publishing uses it. Made once: to tag a metric costs more than to publish a message, and to
 * make and look up the rest as much as a part of it. It does not know its Transport, whose key it is kept by: what the two
 * of them hold would be kept until a major collection.
 */
export class Outlet {
  readonly topic: string
  readonly partitions: number
  private readonly namespace: string
  readonly sent: Metric.Counter<number>
  readonly trimmed: Metric.Counter<number>
  private readonly places: Array<Place | undefined> = []

  constructor(transport: Transport["Service"], topic: string, partitions: number) {
    this.namespace = transport.namespace
    this.topic = topic
    this.partitions = partitions
    const tags = { "messaging.destination.name": topic, "messaging.system": transport.system }
    const own = (metric: Metric.Counter<number>) => Metric.withAttributes(series.copy(series.counter, metric), tags)
    this.sent = own(Metrics.sent)
    this.trimmed = own(Metrics.trimmed)
  }

  place(partition: number): Place {
    const { namespace, topic } = this
    return (this.places[partition] ??= {
      log: { topic, partition },
      message: stored.messages({ namespace, topic, partition })
    })
  }
}

const outlets = new WeakMap<Transport["Service"], Map<string, Outlet>>()

export const outletOf = (transport: Transport["Service"], topic: string, partitions: number): Outlet => {
  let known = outlets.get(transport)
  if (known === undefined) outlets.set(transport, (known = new Map()))
  let outlet = known.get(topic)
  if (outlet?.partitions !== partitions) known.set(topic, (outlet = new Outlet(transport, topic, partitions)))
  return outlet
}

// -----------------------------------------------------------------------------
// patience
// -----------------------------------------------------------------------------

/** A reply is awaited at least so long, also by who does not wait in an outage: a busy log is none. */
const leastForReply = 1000

/**
 * Repeats what was certainly not done, for as long as the publisher agreed to wait; what was sent and not answered in
 * that time is not known, and not repeated.
 */
const patiently = <A, B>(
  context: Context.Context<never>,
  self: Effect.Effect<A, TransportError>,
  patience: number,
  /** What the log takes beside, as it was asked to wait; in milliseconds. */
  besides: number,
  /** What follows. */
  next: (a: A) => Effect.Effect<B, Reason>
): Effect.Effect<B, Reason> => attempt(new Patience(context, self, patience, besides, next), patience, 1)

/** A class, for the reason that `Encoded` is one. */
class Patience<A, B> {
  readonly context: Context.Context<never>
  readonly self: Effect.Effect<A, TransportError>
  readonly patience: number
  readonly besides: number
  readonly next: (a: A) => Effect.Effect<B, Reason>
  readonly begun: number

  constructor(
    context: Context.Context<never>,
    self: Effect.Effect<A, TransportError>,
    patience: number,
    besides: number,
    next: (a: A) => Effect.Effect<B, Reason>
  ) {
    this.context = context
    this.self = self
    this.patience = patience
    this.besides = besides
    this.next = next
    this.begun = Context.get(context, Clock.Clock).currentTimeMillisUnsafe()
  }
}

const attempt = <A, B>(asked: Patience<A, B>, left: number, tries: number): Effect.Effect<B, Reason> =>
  Effect.flatMap(
    within(asked.context, asked.self, Math.max(left, leastForReply) + asked.besides, unanswered),
    (exit): Effect.Effect<B, Reason> => {
      if (Exit.isSuccess(exit)) return asked.next(exit.value)
      const failure = Cause.findError(exit.cause)
      return Result.isFailure(failure) ? Effect.failCause(failure.failure) : again(asked, tries, failure.success)
    }
  )

const again = <A, B>(asked: Patience<A, B>, tries: number, error: TransportError): Effect.Effect<B, Reason> => {
  const { begun, context, patience } = asked
  const rest = patience - (Context.get(context, Clock.Clock).currentTimeMillisUnsafe() - begun)
  if (error.reason._tag !== "Unavailable" || rest <= 0) return Effect.fail(reasonOf(error))
  const pause = Duration.min(Health.backoff(tries, error), Duration.millis(rest))
  return Effect.andThen(
    Effect.sleep(pause),
    Effect.suspend(() => attempt(asked, rest - Duration.toMillis(pause), tries + 1))
  )
}

const unanswered = (milliseconds: number) =>
  new TransportError({
    operation: "publish",
    reason: new Unknown({ detail: `the log did not answer within ${Duration.format(Duration.millis(milliseconds))}` })
  })

const reasonOf = ({ reason }: TransportError): Reason =>
  // publishing needs no subscription: a backend that speaks of one is out of order, and nothing was stored
  reason._tag === "NoSubscription" || reason._tag === "DuplicateSubscription"
    ? new Unavailable({ detail: reason.message, cause: reason })
    : reason
