/**
 * What Clutch counts, as Effect metrics. The first three carry OpenTelemetry's names; the others are ours, under
 * `clutch.`. Each is tagged with `messaging.system`, `messaging.destination.name` (the topic) and, on the consuming side,
 * `messaging.consumer.group.name` (the subscription); what is held back also with `messaging.destination.partition.id`.
 *
 * @see https://opentelemetry.io/docs/specs/semconv/messaging/messaging-metrics/
 * @since 0.1.0
 */
import { counter, gauge, histogram } from "./internal/series.ts"

/**
 * Messages confirmed as stored.
 *
 * @category metrics
 * @since 0.1.0
 */
export const sent = /* @__PURE__ */ counter("messaging.client.sent.messages", "Messages confirmed as stored")

/**
 * Deliveries taken by a consumer, whatever became of them.
 *
 * @category metrics
 * @since 0.1.0
 */
export const consumed = /* @__PURE__ */ counter("messaging.client.consumed.messages", "Deliveries taken by a consumer")

/**
 * How long a handler ran, in seconds.
 *
 * @category metrics
 * @since 0.1.0
 */
export const processDuration = /* @__PURE__ */ histogram("messaging.process.duration", "How long a handler ran")

/**
 * From publishing to the ack, retries included, in seconds by the consumer's clock.
 *
 * @category metrics
 * @since 0.1.0
 */
export const sojourn = /* @__PURE__ */ histogram("clutch.message.sojourn", "Time from publishing a message to its ack")

/**
 * Handlers running now.
 *
 * @category metrics
 * @since 0.1.0
 */
export const inFlight = /* @__PURE__ */ gauge("clutch.deliveries.in_flight", "Handlers running now")

/**
 * Keys of a partition that wait for a retry of one of their messages.
 *
 * @category metrics
 * @since 0.1.0
 */
export const heldBack = /* @__PURE__ */ gauge(
  "clutch.keys.held_back",
  "Keys that wait for a retry of one of their messages"
)

/**
 * How long ago the oldest message was published that holds its key back, in seconds; 0 where there is none.
 *
 * @category metrics
 * @since 0.1.0
 */
export const oldestHeldBack = /* @__PURE__ */ gauge(
  "clutch.keys.oldest_held_back",
  "Seconds since the oldest message was published that holds its key back"
)

/**
 * Failures scheduled for another attempt.
 *
 * @category metrics
 * @since 0.1.0
 */
export const retries = /* @__PURE__ */ counter("clutch.deliveries.retried", "Failures scheduled for another attempt")

/**
 * Messages dead-lettered, tagged with `reason`.
 *
 * @category metrics
 * @since 0.1.0
 */
export const deadLetters = /* @__PURE__ */ counter("clutch.deliveries.dead_lettered", "Messages dead-lettered")

/**
 * Messages that would be dead letters, acked because the subscription keeps none.
 *
 * @category metrics
 * @since 0.1.0
 */
export const dropped = /* @__PURE__ */ counter(
  "clutch.deliveries.dropped",
  "Failed messages acked without a dead letter"
)

/**
 * Deliveries taken from consumers that died.
 *
 * @category metrics
 * @since 0.1.0
 */
export const reclaimed = /* @__PURE__ */ counter("clutch.deliveries.reclaimed", "Deliveries taken from dead consumers")

/**
 * Settlements refused because another consumer owned the delivery.
 *
 * @category metrics
 * @since 0.1.0
 */
export const leasesLost = /* @__PURE__ */ counter("clutch.deliveries.leases_lost", "Settlements refused, lease lost")

/**
 * Settlements of deliveries that were settled before.
 *
 * @category metrics
 * @since 0.1.0
 */
export const settledTwice = /* @__PURE__ */ counter("clutch.deliveries.settled_twice", "Second settlements, refused")

/**
 * Settlements repeated after a lost reply that found nothing to settle.
 *
 * @category metrics
 * @since 0.1.0
 */
export const settledUnknown = /* @__PURE__ */ counter(
  "clutch.deliveries.settled_unknown",
  "Repeated settlements that found nothing to settle"
)

/**
 * Messages that could not be decoded.
 *
 * @category metrics
 * @since 0.1.0
 */
export const poison = /* @__PURE__ */ counter("clutch.deliveries.poison", "Messages that could not be decoded")

/**
 * Messages left out by a source's filters.
 *
 * @category metrics
 * @since 0.1.0
 */
export const filtered = /* @__PURE__ */ counter("clutch.deliveries.filtered", "Messages left out by filters")

/**
 * Messages dropped by a topic's retention.
 *
 * @category metrics
 * @since 0.1.0
 */
export const trimmed = /* @__PURE__ */ counter("clutch.messages.trimmed", "Messages dropped by a topic's retention")

/**
 * Messages dropped by retention `"acknowledged"`, after every group had settled them. Nothing is lost by it.
 *
 * @category metrics
 * @since 0.1.0
 */
export const cleared = /* @__PURE__ */ counter(
  "clutch.messages.cleared",
  "Messages dropped after every group had settled them"
)

/**
 * 1 while a group is abandoned and holds back retention `"acknowledged"`, then 0. Tagged with the group, whoever made it,
 * and with `messaging.destination.partition.id`.
 *
 * @category metrics
 * @since 0.1.0
 */
export const abandoned = /* @__PURE__ */ gauge(
  "clutch.groups.abandoned",
  "Whether a group that holds back trimming is abandoned"
)

/**
 * Dead letters removed for good by `DeadLetters.discard`.
 *
 * @category metrics
 * @since 0.1.0
 */
export const discarded = /* @__PURE__ */ counter("clutch.dead_letters.discarded", "Dead letters removed for good")

/**
 * Deliveries given back unhandled, at no cost of an attempt.
 *
 * @category metrics
 * @since 0.1.0
 */
export const released = /* @__PURE__ */ counter("clutch.deliveries.released", "Deliveries given back")

/**
 * Times a handler kept the event loop busy for longer than half its visibility timeout.
 *
 * @category metrics
 * @since 0.1.0
 */
export const blockedLoop = /* @__PURE__ */ counter(
  "clutch.event_loop.blocked",
  "Times the event loop was blocked for longer than half a visibility timeout"
)
