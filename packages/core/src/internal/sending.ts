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
import type { Log, Published, Replication, Retention, Transport } from "../Transport.ts"
import { within } from "./deadlines.ts"
import * as Health from "./health.ts"
import type { Encoded } from "./outgoing.ts"
import * as stored from "./stored.ts"

/** One step on the log: large enough that a round trip is shared, small enough that no other client waits for it. */
const batchSize = 256

export interface Sending<out A> {
  readonly context: Context.Context<never>
  readonly transport: Transport["Service"]
  readonly log: Log
  readonly retention: Retention
  readonly replication: Replication | undefined
  /** How long to wait in an outage, in milliseconds. */
  readonly patience: number
  readonly data: ReadonlyArray<A>
  /** One for each of `data`. */
  readonly messages: ReadonlyArray<Encoded>
  readonly fail: (reason: PublishError["reason"], stored: number) => PublishError
}

export const sendAll = <A>(sending: Sending<A>): Effect.Effect<NonEmptyReadonlyArray<Message<A>>, PublishError> => {
  const { context, data, fail, log, messages, patience, replication, retention, transport } = sending
  const { namespace } = transport
  const { topic } = log
  const clock = Context.get(context, Clock.Clock)
  const counted = countersOf(transport, topic)
  const sent: Array<Message<A>> = []
  const forReplicas = replication === undefined ? 0 : Duration.toMillis(replication.within)

  const send = (batch: NonEmptyReadonlyArray<Encoded>) =>
    patiently(transport.publish(log, batch, retention, replication), patience, forReplicas, clock).pipe(
      Effect.mapError((error) => fail(reasonOf(error), sent.length))
    )
  const confirmed = ({ ids, trimmed }: Published): Effect.Effect<void> => {
    counted.sent.updateUnsafe(ids.length, context)
    for (const originalId of ids) {
      const at = sent.length
      const { attributes, json } = messages[at] as Encoded // one for each of `data`
      sent.push(stored.message({ namespace, topic, originalId, json, data: data[at] as A, attributes }))
    }
    if (trimmed === 0) return Effect.void
    counted.trimmed.updateUnsafe(trimmed, context)
    return Effect.annotateLogs(Effect.logWarning(`retention dropped ${trimmed} messages`), { topic, trimmed })
  }
  /** The failure, where too few replicas have it; those of the batch are stored all the same. */
  const replicated = (published: Published): Effect.Effect<never, PublishError> | undefined => {
    if (replication === undefined) return undefined
    const { confirmed, problem } = published.replicated ?? { confirmed: 0, problem: "the log does not say" }
    if (confirmed >= replication.replicas) return undefined
    const { replicas: wanted, within } = replication
    return Effect.fail(fail(new UnderReplicated({ wanted, confirmed, within, detail: problem }), sent.length))
  }
  const next = (): Effect.Effect<NonEmptyReadonlyArray<Message<A>>, PublishError> => {
    const batch = messages.slice(sent.length, sent.length + batchSize)
    if (!isNonEmpty(batch)) return Effect.succeed(sent as unknown as NonEmptyReadonlyArray<Message<A>>)
    return Effect.flatMap(send(batch), (published) => {
      const rest = Effect.suspend(() => replicated(published) ?? next())
      return Effect.andThen(confirmed(published), rest)
    })
  }
  return next()
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
    found = { sent: Metric.withAttributes(Metrics.sent, tags), trimmed: Metric.withAttributes(Metrics.trimmed, tags) }
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
const patiently = <A>(
  self: Effect.Effect<A, TransportError>,
  patience: number,
  /** What the log takes beside, as it was asked to wait; in milliseconds. */
  besides: number,
  clock: Clock.Clock
): Effect.Effect<A, TransportError> => {
  const begun = clock.currentTimeMillisUnsafe()
  const again = (left: number, tries: number): Effect.Effect<A, TransportError> => {
    const forReply = Duration.millis(Math.max(left, leastForReply) + besides)
    return within(self, Duration.toMillis(forReply), () => unanswered(forReply)).pipe(
      Effect.catchIf(
        (error) => error.reason._tag === "Unavailable",
        (error) => {
          const rest = patience - (clock.currentTimeMillisUnsafe() - begun)
          if (rest <= 0) return Effect.fail(error)
          const pause = Duration.min(Health.backoff(tries, error), Duration.millis(rest))
          return Effect.andThen(
            Effect.sleep(pause),
            Effect.suspend(() => again(rest - Duration.toMillis(pause), tries + 1))
          )
        }
      )
    )
  }
  return again(patience, 1)
}

const unanswered = (after: Duration.Duration) =>
  new TransportError({
    operation: "publish",
    reason: new Unknown({ detail: `the log did not answer within ${Duration.format(after)}` })
  })

const reasonOf = ({ reason }: TransportError): PublishError["reason"] =>
  // publishing needs no subscription: a backend that says so is out of order, and nothing was stored
  reason._tag === "NoSubscription" ? new Unavailable({ detail: reason.message, cause: reason }) : reason
