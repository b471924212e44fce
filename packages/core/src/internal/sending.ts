/** Sending what was encoded: in batches, in order, with the patience that an outage asks for. */
import type { NonEmptyReadonlyArray } from "effect/Array"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import { type PublishError, TransportError, Unavailable, UnderReplicated, Unknown } from "../Errors.ts"
import type { Message } from "../Message.ts"
import * as Metrics from "../Metrics.ts"
import type { Published, Replication, Retention, Transport } from "../Transport.ts"
import { within } from "./deadlines.ts"
import * as Health from "./health.ts"
import type { Encoded } from "./outgoing.ts"
import { confirm, isConfirmed, partitionOf, turn } from "./partitions.ts"
import * as series from "./series.ts"
import * as stored from "./stored.ts"

/** One step on the log: large enough that a round trip is shared, small enough that no other client waits for it. */
const batchSize = 256

export interface Sending<out A> {
  readonly context: Context.Context<never>
  readonly transport: Transport["Service"]
  readonly topic: string
  readonly partitions: number
  readonly retention: Retention
  readonly replication: Replication | undefined
  /** How long to wait in an outage, in milliseconds. */
  readonly patience: number
  readonly data: ReadonlyArray<A>
  /** One for each of `data`. */
  readonly messages: ReadonlyArray<Encoded>
  readonly fail: (reason: PublishError["reason"], stored: number) => PublishError
}

type Reason = PublishError["reason"]

/** A sending under way. Functions of it, not closures: of these, each publish would make a dozen. */
interface Run<A> {
  readonly sending: Sending<A>
  /** One for each of `data`, once its batch is confirmed. */
  readonly sent: Array<Message<A> | undefined>
}

export const sendAll = <A>(sending: Sending<A>): Effect.Effect<NonEmptyReadonlyArray<Message<A>>, PublishError> => {
  const { context, fail, messages, partitions, patience, topic, transport } = sending
  const sent: Run<A>["sent"] = messages.map(() => undefined)
  const run: Run<A> = { sending, sent }
  return Effect.mapBoth(
    isConfirmed(transport, topic, partitions)
      ? sendRouted(run)
      : patiently(context, confirm(transport, topic, partitions, "publish"), patience, 0, () => sendRouted(run)),
    {
      onFailure: (reason) => {
        const missing = sent.indexOf(undefined)
        return fail(reason, missing < 0 ? sent.length : missing)
      },
      onSuccess: () => sent as unknown as NonEmptyReadonlyArray<Message<A>> // one for each of `data`, which is not empty
    }
  )
}

/** Partitions are different logs: none waits for another. */
const sendRouted = <A>(run: Run<A>): Effect.Effect<void, Reason> => {
  const { messages, partitions, topic, transport } = run.sending
  if (partitions === 1) return send(run, whole, 0)
  const lanes = route(transport, topic, partitions, messages)
  const [only] = lanes
  if (only !== undefined && lanes.length === 1) return send(run, only, 0)
  return Effect.forEach(lanes, (lane) => send(run, lane, 0), { concurrency: "unbounded", discard: true })
}

/** Sends a lane from this place on, batch after batch. */
const send = <A>(run: Run<A>, lane: Lane, from: number): Effect.Effect<void, Reason> => {
  const { context, messages, patience, replication, retention, topic, transport } = run.sending
  const batch = batchOf(messages, lane, from)
  if (!isNonEmpty(batch)) return Effect.void
  const storing = transport.publish({ topic, partition: lane.partition }, batch, retention, replication)
  const forReplicas = replication === undefined ? 0 : Duration.toMillis(replication.within)
  return patiently(context, storing, patience, forReplicas, (published) => {
    const warning = confirmed(run, lane, from, published)
    const rest = () => underReplicated(replication, published) ?? send(run, lane, from + batchSize)
    return warning === undefined ? rest() : Effect.andThen(warning, Effect.suspend(rest))
  })
}

/** Takes what the log says of a batch, and answers with the warning where it dropped something. */
const confirmed = <A>(
  { sending, sent }: Run<A>,
  { indices, partition }: Lane,
  from: number,
  { ids, trimmed }: Published
): Effect.Effect<void> | undefined => {
  const { context, data, messages, topic, transport } = sending
  const counted = countersOf(transport, topic)
  counted.sent.updateUnsafe(ids.length, context)
  const message = stored.messages({ namespace: transport.namespace, topic, partition })
  for (let nth = 0; nth < ids.length; nth++) {
    const at = indices === undefined ? from + nth : (indices[from + nth] as number) // one for each of the batch
    const { attributes, type } = messages[at] as Encoded // one for each of `data`
    sent[at] = message(ids[nth] as string, type, data[at] as A, attributes)
  }
  if (trimmed === 0) return undefined
  counted.trimmed.updateUnsafe(trimmed, context)
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

const route = (
  transport: Transport["Service"],
  topic: string,
  partitions: number,
  messages: ReadonlyArray<Encoded>
): ReadonlyArray<Lane> => {
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

const isNonEmpty = <A>(all: ReadonlyArray<A>): all is NonEmptyReadonlyArray<A> => all.length > 0

interface Counters {
  readonly sent: Metric.Counter<number>
  readonly trimmed: Metric.Counter<number>
}

const counters = new WeakMap<Transport["Service"], Map<string, Counters>>()

/** Made once: to tag a metric costs more than to publish a message. */
const countersOf = (transport: Transport["Service"], topic: string): Counters => {
  let known = counters.get(transport)
  if (known === undefined) counters.set(transport, (known = new Map()))
  let found = known.get(topic)
  if (found === undefined) {
    const tags = { "messaging.destination.name": topic, "messaging.system": transport.system }
    const own = (metric: Metric.Counter<number>) => Metric.withAttributes(series.copy(series.counter, metric), tags)
    found = { sent: own(Metrics.sent), trimmed: own(Metrics.trimmed) }
    known.set(topic, found)
  }
  return found
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
): Effect.Effect<B, Reason> => {
  const begun = Context.get(context, Clock.Clock).currentTimeMillisUnsafe()
  return attempt({ context, self, patience, besides, next, begun }, patience, 1)
}

interface Patience<A, B> {
  readonly context: Context.Context<never>
  readonly self: Effect.Effect<A, TransportError>
  readonly patience: number
  readonly besides: number
  readonly next: (a: A) => Effect.Effect<B, Reason>
  readonly begun: number
}

const attempt = <A, B>(asked: Patience<A, B>, left: number, tries: number): Effect.Effect<B, Reason> =>
  Effect.matchEffect(within(asked.context, asked.self, Math.max(left, leastForReply) + asked.besides, unanswered), {
    onSuccess: asked.next,
    onFailure: (error) => {
      const { begun, context, patience } = asked
      const rest = patience - (Context.get(context, Clock.Clock).currentTimeMillisUnsafe() - begun)
      if (error.reason._tag !== "Unavailable" || rest <= 0) return Effect.fail(reasonOf(error))
      const pause = Duration.min(Health.backoff(tries, error), Duration.millis(rest))
      return Effect.andThen(
        Effect.sleep(pause),
        Effect.suspend(() => attempt(asked, rest - Duration.toMillis(pause), tries + 1))
      )
    }
  })

const unanswered = (milliseconds: number) =>
  new TransportError({
    operation: "publish",
    reason: new Unknown({ detail: `the log did not answer within ${Duration.format(Duration.millis(milliseconds))}` })
  })

const reasonOf = ({ reason }: TransportError): Reason =>
  // publishing needs no subscription: a backend that says so is out of order, and nothing was stored
  reason._tag === "NoSubscription" ? new Unavailable({ detail: reason.message, cause: reason }) : reason
