/**
 * The in-memory logs as plain values, for tests that compare before and after.
 *
 * @since 0.1.0
 */
import * as Option from "effect/Option"
import type { Group } from "./memoryGroup.ts"
import { type Log, partName, type Store } from "./memoryStore.ts"

/**
 * What a log holds, in plain values: two snapshots that are equal show that nothing was left behind.
 *
 * @category testing
 * @since 0.1.0
 */
export interface Snapshot {
  /** The name of everything that holds something or may be read: logs, retry logs, dead letters. Sorted. */
  readonly keys: ReadonlyArray<string>
  readonly logs: ReadonlyArray<LogSnapshot>
  /** Callbacks registered by `watch`. */
  readonly watchers: number
}

/**
 * A topic's log in a `Snapshot`.
 *
 * @category testing
 * @since 0.1.0
 */
export interface LogSnapshot {
  readonly topic: string
  readonly partition: number
  readonly length: number
  readonly lastId: string
  readonly groups: ReadonlyArray<GroupSnapshot>
}

/**
 * A group in a `Snapshot`.
 *
 * @category testing
 * @since 0.1.0
 */
export interface GroupSnapshot {
  readonly subscription: string
  readonly consumers: ReadonlyArray<{ readonly name: string; readonly pending: number; readonly fetching: number }>
  /** Not delivered yet. */
  readonly waiting: number
  /** Delivered and not settled, the released ones included. */
  readonly pending: number
  /** Given back, or taken from the dead, and not delivered again yet. */
  readonly released: number
  readonly due: number
  readonly deadLetters: number
}

export const snapshotOf = (store: Store): Snapshot => {
  const logs = [...store.logs.values()]
  return {
    keys: logs.flatMap(keysOf).toSorted(),
    logs: logs.map(logOf).toSorted((self, that) => compare(self.topic, that.topic) || self.partition - that.partition),
    watchers: store.watchers
  }
}

const compare = (self: string, that: string): number => (self < that ? -1 : self > that ? 1 : 0)

const keysOf = (log: Log): ReadonlyArray<string> => [
  log.stream,
  ...[...log.groups.values()].flatMap(({ subscription, retryStream, scheduled }) => [
    retryStream,
    ...(scheduled > 0 ? [partName(log.stream, subscription, "due")] : [])
  ]),
  ...[...log.deadLetters].flatMap(([subscription, { size }]) =>
    size > 0 ? [partName(log.stream, subscription, "deadLetters")] : []
  )
]

const logOf = (log: Log): LogSnapshot => ({
  topic: log.address.topic,
  partition: log.address.partition,
  length: log.entries.length,
  lastId: log.ids.last,
  groups: [...log.groups.values()].map(groupOf).toSorted((self, that) => compare(self.subscription, that.subscription))
})

const groupOf = (group: Group): GroupSnapshot => {
  const { waiting, pending, due, deadLetters } = group.inspect()
  return {
    subscription: group.subscription,
    consumers: [...group.members.values()]
      .map(({ name, held, waiting }) => ({ name, pending: held.size, fetching: waiting }))
      .toSorted((self, that) => compare(self.name, that.name)),
    waiting: Option.getOrElse(waiting, () => 0),
    pending,
    released: group.released,
    due,
    deadLetters
  }
}
