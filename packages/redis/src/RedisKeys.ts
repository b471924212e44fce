/**
 * Where everything lies on a Redis: the one place that makes keys.
 *
 * A log's keys share a hash tag, so they share a slot, and every script works on a cluster. Publisher, subscriber, retries,
 * dead letters and tools all ask here, so they cannot disagree. Names are not validated here: the core did.
 *
 * ```
 * clutch.{orders}                 the topic's own stream
 * clutch.{orders}.bell            there while nobody has heard yet that there is something to do, a string
 * clutch.{orders}.groups          under retention "acknowledged": when each group was last seen alive, a hash
 * clutch.{orders}.billing.retry   retries whose time has come, a stream
 * clutch.{orders}.billing.due     retries whose time has not, a sorted set
 * clutch.{orders}.billing.dlq     dead letters, a stream
 * clutch.{orders}.billing.state   what the group remembers beside its streams, a hash
 * clutch.{orders}.billing.blocked of an ordered group, the keys that are held back, a sorted set
 * clutch.{orders}.billing.parked  the messages that wait behind others of their keys, a sorted set
 * clutch.{orders}.billing.owners  the same where its workers come, go, claim or cede, a string
 * clutch.{orders}.meta            how many partitions the topic has, a hash
 * ```
 *
 * @since 0.1.0
 */
import type { Group, Log } from "@clutch/core/Transport"

/**
 * The keys of a log.
 *
 * @category models
 * @since 0.1.0
 */
export interface LogKeys {
  /** The topic's own stream. */
  readonly main: string
  /** There while nobody has heard yet that there is something to do; and the channel by which it is heard. */
  readonly bell: string
  /** The hash of the groups that whoever trims has seen, and when each was last seen alive, in ms. */
  readonly groups: string
}

/**
 * The keys of a subscription's place on a log, and the names of its two consumer groups.
 *
 * @category models
 * @since 0.1.0
 */
export interface GroupKeys extends LogKeys {
  /** The stream of retries whose time has come. */
  readonly retry: string
  /** The sorted set of retries whose time has not come, scored by it in ms. */
  readonly due: string
  /** The stream of dead letters. */
  readonly deadLetters: string
  /** The hash of what the group remembers beside its streams. */
  readonly state: string
  /** The sorted set of the keys that are held back, scored by the time in ms of the message that holds each back. */
  readonly blocked: string
  /** The sorted set of the messages that wait behind others of their keys, in the order of keys, then of ids. */
  readonly parked: string
  /** The same as `bell`, for workers who want to know of each other. */
  readonly owners: string
  /** The consumer group on `main`: the subscription's name. */
  readonly mainGroup: string
  /** The consumer group on `retry`. */
  readonly retryGroup: string
}

/**
 * The consumer that holds what waits for anybody of the group: released deliveries, and those of the dead. No real
 * consumer can have its name, which begins with a dash.
 *
 * @category constants
 * @since 0.1.0
 */
export const released = "-released"

/**
 * The keys of a log. Partition 0 has the topic alone as its hash tag, the others `topic/partition`.
 *
 * @category constructors
 * @since 0.1.0
 */
export const log = (namespace: string, { topic, partition }: Log): LogKeys => {
  const main = `${namespace}.{${partition === 0 ? topic : `${topic}/${partition}`}}`
  return { main, bell: `${main}.bell`, groups: `${main}.groups` }
}

/**
 * The keys of a subscription on a log.
 *
 * @category constructors
 * @since 0.1.0
 */
export const group = (namespace: string, { topic, partition, subscription }: Group): GroupKeys => {
  const { main, bell, groups } = log(namespace, { topic, partition })
  const prefix = `${main}.${subscription}`
  return {
    main,
    bell,
    groups,
    retry: `${prefix}.retry`,
    due: `${prefix}.due`,
    deadLetters: `${prefix}.dlq`,
    state: `${prefix}.state`,
    blocked: `${prefix}.blocked`,
    parked: `${prefix}.parked`,
    owners: `${prefix}.owners`,
    mainGroup: subscription,
    retryGroup: `${subscription}-retry`
  }
}

/**
 * The keys of what is known of a topic as a whole: beside its first partition.
 *
 * @category models
 * @since 0.1.0
 */
export interface TopicKeys extends LogKeys {
  /** The hash of what the topic is made of. */
  readonly meta: string
}

/**
 * The keys of a topic as a whole.
 *
 * @category constructors
 * @since 0.1.0
 */
export const topic = (namespace: string, name: string): TopicKeys => {
  const first = log(namespace, { topic: name, partition: 0 })
  return { ...first, meta: `${first.main}.meta` }
}
