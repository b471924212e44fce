/**
 * The logs of one in-memory transport.
 *
 * @since 0.1.0
 */
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Result from "effect/Result"
import type { Attributes } from "../Message.ts"
import type { Group as GroupAddress, Log as LogAddress, Outgoing, Retention, StartPosition } from "../Transport.ts"
import { Bell, type Bells } from "./memoryBells.ts"
import { DeadLetterBox } from "./memoryDeadLetters.ts"
import type { Payload, Stored } from "./memoryDelivery.ts"
import { Group, type Start } from "./memoryGroup.ts"
import { encode } from "./memoryEncoder.ts"
import { IdSource, order, parseId, type Position, Sequence } from "./memoryStructures.ts"

/** The name of a topic's own log. */
export const streamName = ({ topic, partition }: LogAddress): string =>
  partition === 0 ? topic : `${topic}/${partition}`

/** The name of what a group keeps beside a log. */
export const partName = (stream: string, subscription: string, part: "retry" | "due" | "deadLetters"): string =>
  `${stream}:${subscription}:${part}`

/** Encodes once; whoever publishes may change its objects afterwards. */
export const payloadOf = ({ data, attributes }: Outgoing): Payload => {
  const raw = encode(data)
  return { content: Result.succeed({ data: raw, attributes: attributes && copyOf(attributes) }), raw }
}

const copyOf = (attributes: Attributes): Attributes =>
  Object.assign({}, attributes, attributes.headers && { headers: Object.assign({}, attributes.headers) })

/** A topic's own log and the groups on it. */
export class Log {
  readonly address: LogAddress
  readonly stream: string
  readonly entries = new Sequence<Stored>()
  readonly ids = new IdSource()
  readonly groups = new Map<string, Group>()
  /** By subscription; they outlive a group that is removed. */
  readonly deadLetters = new Map<string, DeadLetterBox>()
  /** Created by a join that nobody has kept, and nothing was published since: undone with the last group. */
  provisional: boolean
  /** Somebody drops what every group has settled, and wants to know when there is more to come. */
  trimmed = false

  constructor(address: LogAddress, provisional: boolean) {
    this.address = address
    this.stream = streamName(address)
    this.provisional = provisional
  }

  append(payload: Payload, now: number): string {
    const at = this.ids.next(now)
    this.entries.append({ ...at, payload })
    this.provisional = false
    return at.id
  }

  /** Drops what the retention does not keep, and says how many. */
  trim({ maxLength, maxAge }: Retention, now: number): number {
    const before = this.entries.length
    if (maxLength !== undefined && before > maxLength) this.entries.dropTo(this.entries.end - maxLength)
    if (maxAge !== undefined) {
      const oldest = now - Duration.toMillis(maxAge)
      this.entries.dropTo(this.entries.search((stored) => stored.ms >= oldest))
    }
    return before - this.entries.length
  }

  /** Drops what every group has settled, and says how much. */
  trimSettled(): number {
    const before = this.entries.length
    const unsettled = Math.min(...Array.from(this.groups.values(), (group) => group.unsettled))
    // without a group nothing was settled by anybody
    if (unsettled !== Infinity) this.entries.dropTo(unsettled)
    return before - this.entries.length
  }

  /** A change of the log that concerns all of its groups. */
  touch(bells: Bells, tenders: Bell): void {
    for (const group of this.groups.values()) {
      bells.ring(group.fetchers)
      group.touch()
    }
    if (this.trimmed) bells.ring(tenders)
  }

  start(from: "new" | "beginning" | Position): Start {
    if (from === "new") return { index: this.entries.end, behind: undefined }
    if (from === "beginning") return { index: this.entries.start, behind: undefined }
    return { index: this.entries.search((stored) => order(stored, from) > 0), behind: from }
  }
}

/** Where to begin, in a log's own terms; `undefined` where the id is none. */
export const readStart = (from: StartPosition): "new" | "beginning" | Position | undefined => {
  if (typeof from === "string") return from
  return "id" in from ? parseId(from.id) : { ms: DateTime.toEpochMillis(from.time) - 1, seq: Infinity }
}

export class Store {
  readonly logs = new Map<string, Log>()
  /** Those who tend, by log; kept apart from the logs, for watching creates none. */
  private readonly tenders = new Map<string, Bell>()
  /** How many partitions topics have. */
  private readonly counts = new Map<string, number>()
  private readonly bells: Bells
  private joined = 0

  constructor(bells: Bells) {
    this.bells = bells
  }

  /** How many partitions a topic has: as recorded; one where it is used without a record; else so many from now on. */
  partitions(topic: string, partitions: number): number {
    const recorded = this.counts.get(topic) ?? (this.logs.has(keyOf({ topic, partition: 0 })) ? 1 : undefined)
    if (recorded !== undefined) return recorded
    if (partitions > 1) this.counts.set(topic, partitions)
    return partitions
  }

  repartition(topic: string, { from, to }: { readonly from: number; readonly to: number }): number {
    const recorded = this.partitions(topic, from)
    if (recorded === from) this.counts.set(topic, to)
    return recorded === from ? to : recorded
  }

  /** A name that no other consumer of this transport was given. */
  nextConsumer(): string {
    return `memory-${++this.joined}`
  }

  log(address: LogAddress): Log | undefined {
    return this.logs.get(keyOf(address))
  }

  ensureLog(address: LogAddress, provisional: boolean): Log {
    const found = this.log(address)
    if (found !== undefined) return found
    const log = new Log(address, provisional)
    this.logs.set(keyOf(address), log)
    return log
  }

  group(address: GroupAddress): Group | undefined {
    return this.log(address)?.groups.get(address.subscription)
  }

  deadLetters(address: GroupAddress): DeadLetterBox | undefined {
    return this.log(address)?.deadLetters.get(address.subscription)
  }

  createGroup(log: Log, subscription: string, start: Start, now: number): Group {
    const retryStream = partName(log.stream, subscription, "retry")
    const deadLetters = log.deadLetters.get(subscription) ?? new DeadLetterBox()
    log.deadLetters.set(subscription, deadLetters)
    const group = new Group(
      { subscription, stream: log.stream, retryStream },
      log.entries,
      start,
      deadLetters,
      this.bells,
      this.tendersOf(log.address),
      now
    )
    log.groups.set(subscription, group)
    return group
  }

  /** Puts back a group that was removed while one of its members went on; returns the one that is there now. */
  restore(log: Log, group: Group, now: number): Group {
    const found = this.logs.get(keyOf(log.address))
    if (found === undefined) this.logs.set(keyOf(log.address), log)
    const current = found ?? log
    const there = current.groups.get(group.subscription)
    if (there !== undefined) return there
    // another log by now: nothing of it was read here
    if (current !== log) return this.createGroup(current, group.subscription, current.start("beginning"), now)
    log.groups.set(group.subscription, group)
    return group
  }

  /** Undoes a group that nobody kept, and its log, where nothing shows that they were used. */
  rollback(log: Log, group: Group): void {
    if (group.provisional && group.members.size === 0 && group.isUntouched) {
      this.removeGroup(log, group)
      if (group.deadLetters.size === 0) log.deadLetters.delete(group.subscription)
    }
    if (log.provisional && log.groups.size === 0) this.logs.delete(keyOf(log.address))
  }

  /** Removes a group with all but its dead letters; whoever waits for it learns it. */
  removeGroup(log: Log, group: Group): void {
    log.groups.delete(group.subscription)
    group.touch()
  }

  get watchers(): number {
    return [...this.tenders.values()].reduce((sum, bell) => sum + bell.listeners.size, 0)
  }

  tendersOf(address: LogAddress): Bell {
    const key = keyOf(address)
    let bell = this.tenders.get(key)
    if (bell === undefined) this.tenders.set(key, (bell = new Bell()))
    return bell
  }
}

/** The partition first: a topic's name may hold any character. */
const keyOf = (address: LogAddress): string => `${address.partition}/${address.topic}`
