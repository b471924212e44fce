/**
 * Everything that happens in a history, as seen from outside of the runtime: at the log, and around handlers. It keeps the
 * model up to date, asks the rules, and writes the lines of the table.
 */
import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Exit from "effect/Exit"
import type { Definition } from "../../internal/definition.ts"
import { describe } from "../../internal/failure.ts"
import type { Policy } from "../../internal/policy.ts"
import { TypeId } from "../../Source.ts"
import type { Entry, FetchLimit, Group, Log, Outcome, Outgoing, Settled, Settlement, Tended } from "../../Transport.ts"
import type { Fault } from "./Faults.ts"
import {
  broken,
  type DeliveryModel,
  type GroupModel,
  type Handled,
  type MessageModel,
  type Seat,
  type Violation
} from "./Model.ts"
import type { Worker } from "./Network.ts"
import * as rules from "./Rules.ts"
import { epoch, type World } from "./World.ts"

/**
 * A line of the table.
 *
 * @category models
 * @since 0.1.0
 */
export interface Event {
  /** Milliseconds since the history began. */
  readonly at: number
  readonly who: string
  readonly what: string
}

const isOrdered = ({ definition }: GroupModel): boolean => definition.source[TypeId].ordered

const leaseOf = ({ policy }: GroupModel): number => Duration.toMillis(policy.visibilityTimeout)

const placeOf = ({ partition, subscription }: Group): string =>
  partition === 0 ? `"${subscription}"` : `partition ${partition} of "${subscription}"`

const keyOf = (log: Log, id: string) => `${log.partition}:${id}`

export class Ledger {
  readonly groups: ReadonlyArray<GroupModel>
  /** What came first; nothing is judged behind it. */
  violation: Violation | undefined
  /** Of the table, where one is wanted. */
  readonly events: Array<Event> | undefined
  /** Messages in the log, of any topic. */
  stored = 0
  /** Messages that it has dropped since. */
  trimmed = 0
  /** Which messages of the history are in the log, and how often each. */
  readonly storedTimes = new Map<number, number>()
  deliveries = 0
  /** Since when nothing has befallen anybody; later than now, where something has yet to come. */
  calmSince = epoch
  /** Told whenever a worker has its place in a group. */
  private readonly onKept: () => void
  private readonly world: World
  private readonly byTopic = new Map<string, Map<string, GroupModel>>()
  private readonly deliveryOf = new Map<Entry, DeliveryModel>()
  private readonly seats = new Map<Worker, Map<GroupModel, Seat>>()
  private readonly poison: ReadonlySet<number>
  /** How often tending has failed. */
  private readonly failures = new Map<Worker, number>()
  /** Groups that have disappeared. */
  private losses = 0
  /** Messages of handlers are numbered behind the history's own. */
  private numbers: number

  constructor(options: {
    readonly world: World
    readonly definitions: ReadonlyArray<{ readonly definition: Definition; readonly policy: Policy }>
    readonly messages: number
    readonly poison: ReadonlySet<number>
    readonly recording: boolean
    readonly onKept: () => void
  }) {
    this.world = options.world
    this.onKept = options.onKept
    this.poison = options.poison
    this.numbers = options.messages
    this.events = options.recording ? [] : undefined
    this.groups = options.definitions.map(({ definition, policy }): GroupModel => ({
      topic: definition.source.topic,
      subscription: definition.name,
      definition,
      policy,
      since: policy.from === "beginning" ? epoch : undefined,
      messages: new Map(),
      deadLetters: 0,
      owners: new Map(),
      lines: new Map()
    }))
    for (const group of this.groups) {
      let groups = this.byTopic.get(group.topic)
      if (groups === undefined) this.byTopic.set(group.topic, (groups = new Map()))
      groups.set(group.subscription, group)
    }
  }

  /** How many messages of groups must end, and have not. */
  open = 0

  violate(violation: Violation | undefined): void {
    if (violation === undefined || this.violation !== undefined) return
    this.violation = violation
    this.note("simulator", () => `${violation.promise} is broken: ${violation.problem}`)
  }

  note(who: string, what: () => string): void {
    this.events?.push({ at: this.world.now - epoch, who, what: what() })
  }

  group(at: { readonly topic: string; readonly subscription: string }): GroupModel {
    const group = this.byTopic.get(at.topic)?.get(at.subscription)
    if (group === undefined) throw new Error(`the history has no subscription "${at.subscription}" on "${at.topic}"`)
    return group
  }

  seat(worker: Worker, group: GroupModel): Seat {
    let seats = this.seats.get(worker)
    if (seats === undefined) this.seats.set(worker, (seats = new Map()))
    let seat = seats.get(group)
    if (seat === undefined) seats.set(group, (seat = { worker, group, held: new Set(), running: new Set() }))
    return seat
  }

  // -----------------------------------------------------------------------------
  // faults and lives
  // -----------------------------------------------------------------------------

  struck(worker: Worker, fault: Fault): void {
    this.disturbed(worker, fault.millis + this.hesitation(worker, fault))
    this.note(worker.process.name, () => `fault: ${describeFault(fault)}`)
  }

  /**
   * Who fails to tend tries again later, and later each time; nobody else may be there to tend. Who stands still may hear
   * only then that it has failed.
   */
  private hesitation(worker: Worker, { call, kind }: Fault): number {
    const isFailure = call === "tend" && (kind === "fails" || kind === "losesReply")
    if (!isFailure && kind !== "freezesBefore" && kind !== "freezesAfter") return 0
    const failures = (this.failures.get(worker) ?? 0) + (isFailure ? 1 : 0)
    if (failures === 0) return 0
    this.failures.set(worker, failures)
    return 50 * 2 ** (failures - 1)
  }

  disturbed(worker: Worker, millis: number): void {
    const until = this.world.now + millis
    worker.calmSince = Math.max(worker.calmSince, until)
    this.calmSince = Math.max(this.calmSince, until)
  }

  // -----------------------------------------------------------------------------
  // at the log
  // -----------------------------------------------------------------------------

  published(worker: Worker, log: Log, messages: ReadonlyArray<Outgoing>, ids: ReadonlyArray<string>): void {
    const open = [...(worker.publishes ?? [])]
    for (const [i, id] of ids.entries()) {
      const key = messages[i]?.attributes?.partitionkey
      // a batch is spread over partitions by keys, and in order for each
      const at = open.findIndex((one) => one.key === key)
      const number = open.splice(at, at < 0 ? 0 : 1)[0]?.number ?? ++this.numbers
      this.stored++
      const times = (this.storedTimes.get(number) ?? 0) + 1
      this.storedTimes.set(number, times)
      if (times > 1) this.violate(broken(13, `message ${number} is stored twice, published once`))
      for (const group of this.byTopic.get(log.topic)?.values() ?? []) {
        const isDue = group.since !== undefined
        const line = lineOf(group, key)
        const message: MessageModel = {
          number,
          partition: log.partition,
          key,
          stored: this.world.now,
          isPoison: this.poison.has(number),
          isDue,
          former: undefined,
          turn: line.length,
          generation: this.losses,
          final: undefined,
          last: undefined
        }
        group.messages.set(keyOf(log, id), message)
        line.push(message)
        if (isDue) this.open++
      }
      this.note("log", () => `stores message ${number} of "${log.topic}" as ${id}`)
    }
  }

  joined(worker: Worker, group: Group, { name }: { readonly name: string }): void {
    this.note(worker.process.name, () => `joins ${placeOf(group)} as ${name}`)
  }

  claimed(worker: Worker, at: Group, fence: number): void {
    const group = this.group(at)
    const { now } = this.world
    const before = group.owners.get(at.partition)
    this.note(worker.process.name, () => `claims ${placeOf(at)}, fence ${fence}`)
    this.violate(rules.mayClaim(before, fence, now))
    group.owners.set(at.partition, { worker, fence, leaseEnd: now + leaseOf(group), ended: false })
    for (const { last, partition } of group.messages.values()) {
      if (partition !== at.partition || last === undefined) continue
      if (last.settled === undefined && last.left === undefined) last.seized ??= now
    }
  }

  /** The log has done something for the owner as such. */
  private renewed(group: GroupModel, { partition }: Group, fence: number | undefined): void {
    const owner = group.owners.get(partition)
    if (owner !== undefined && owner.fence === fence && !owner.ended) owner.leaseEnd = this.world.now + leaseOf(group)
  }

  ceded(worker: Worker, at: Group, fence: number): void {
    const group = this.group(at)
    const owner = group.owners.get(at.partition)
    if (owner?.fence !== fence || owner.ended) return
    owner.ended = true
    this.gaveBack(worker, group, at)
    this.note(worker.process.name, () => `cedes ${placeOf(at)}`)
  }

  /** The worker works on the partition no longer, whatever the log knows of it. */
  dropped(worker: Worker, at: Group): void {
    const { held } = this.seat(worker, this.group(at))
    for (const delivery of held) if (delivery.message.partition === at.partition) held.delete(delivery)
  }

  /** The group is there again, and these are to come again; what had become a retry comes as such, too. */
  vanished(at: Group, ids: ReadonlyArray<string>): void {
    const group = this.group(at)
    this.losses++
    const again = ids.flatMap((id) => this.comesAgain(group, keyOf(at, id)))
    // and so is what was not read yet: behind them
    for (const message of group.messages.values()) {
      if (message.partition === at.partition && message.last === undefined) message.generation = this.losses
    }
    this.note("log", () => {
      const numbers = again.map(({ number }) => number)
      const what = numbers.length === 0 ? "nothing" : `message ${numbers.join(" and ")}`
      return `${placeOf(at)} disappeared, and is there again: ${what} is to come again`
    })
  }

  private comesAgain(group: GroupModel, key: string): ReadonlyArray<MessageModel> {
    const before = group.messages.get(key)
    if (before === undefined) return []
    const isRetry = isInRetries(before)
    if (isRetry) group.messages.set(`${key}, before loss ${this.losses}`, before)
    else if (before.final === undefined) this.vanishes(before)
    const former = isRetry ? before : before.former
    const message: MessageModel = { ...before, isDue: true, former, final: undefined, last: undefined }
    group.messages.set(key, message)
    lineOf(group, message.key).push(message)
    this.open++
    return [message]
  }

  private vanishes(message: MessageModel): void {
    message.final = "gone"
    if (message.last !== undefined) message.last.left ??= this.world.now
    if (message.isDue) this.open--
  }

  private gaveBack(worker: Worker, { messages }: GroupModel, at: Group): void {
    for (const { last, partition } of messages.values()) {
      if (partition !== at.partition || last?.worker !== worker) continue
      if (last.settled === undefined && last.seized === undefined) last.left ??= this.world.now
    }
  }

  kept(at: Group): void {
    this.group(at).since ??= this.world.now
    this.onKept()
  }

  /** Every group is there, and gets what is published from here on. */
  get isReady(): boolean {
    return this.groups.every(({ since }) => since !== undefined)
  }

  left(worker: Worker, at: Group, { name }: { readonly name: string }): void {
    this.gaveBack(worker, this.group(at), at)
    this.note(worker.process.name, () => `leaves ${placeOf(at)}, where it was ${name}`)
  }

  taken(
    worker: Worker,
    at: Group,
    entries: ReadonlyArray<Entry>,
    limit: FetchLimit,
    waitedSince: number,
    fence?: number
  ): void {
    const group = this.group(at)
    const { now } = this.world
    this.renewed(group, at, fence)
    if (entries.length > limit.count) {
      this.violate(broken(11, `${entries.length} messages are taken, ${limit.count} were asked for`))
    }
    for (const entry of entries) {
      const newest = group.messages.get(keyOf(at, entry.originalId))
      if (newest === undefined) {
        const problem = `${entry.originalId} is delivered to "${group.subscription}", and was never published to its topic`
        this.violate(broken(2, problem))
        continue
      }
      const taking = { now, alone: limit.alone && entries.length === 1, waitedSince, calmSince: this.calmSince }
      const { message, violation } = rules.taken(group, newest, entry, taking)
      this.note(worker.process.name, () => {
        const what = `takes message ${message.number} for "${group.subscription}", attempt ${entry.attempt}`
        return entry.reclaims > 0 ? `${what}, after ${entry.reclaims} workers that died` : what
      })
      this.violate(violation)
      const delivery: DeliveryModel = {
        message,
        worker,
        entry,
        isAlone: limit.alone,
        taken: now,
        heard: undefined,
        leaseEnd: now + leaseOf(group),
        fence,
        seized: undefined,
        started: undefined,
        handler: "none",
        exit: undefined,
        ended: undefined,
        handling: undefined,
        settled: undefined,
        left: undefined
      }
      this.deliveries++
      message.last = delivery
      this.deliveryOf.set(entry, delivery)
    }
  }

  settled(worker: Worker, at: Group, settlements: ReadonlyArray<Settlement>, results: ReadonlyArray<Settled>): void {
    const group = this.group(at)
    const [first] = settlements
    if (first !== undefined) this.renewed(group, at, this.deliveryOf.get(first.entry)?.fence)
    for (const [i, { entry, outcome, repeated }] of settlements.entries()) {
      const delivery = this.deliveryOf.get(entry)
      const result = results[i]
      if (delivery === undefined || result === undefined || result instanceof Error) continue
      const isStored =
        result === "done" || result === "freed" || (typeof result === "object" && result._tag === "DeadLettered")
      this.note(worker.process.name, () => {
        const what = `message ${delivery.message.number} of "${group.subscription}": ${describeOutcome(outcome)}`
        return isStored ? what : `${what}, refused (${result === "lost" ? "lost" : "unknown"})`
      })
      if (!isStored) this.refused(group, delivery, repeated)
      else {
        this.violate(rules.maySettle(group, delivery, outcome))
        this.store(group, delivery, outcome)
      }
    }
  }

  /** Its partition is still owned as it was when it was taken; or it has no owner at all. */
  private isClaimed({ fence, message, seized }: DeliveryModel, group: GroupModel): boolean {
    if (fence === undefined) return true
    const owner = group.owners.get(message.partition)
    return seized === undefined && owner?.fence === fence && !owner.ended
  }

  private refused(group: GroupModel, delivery: DeliveryModel, repeated: boolean): void {
    const { message } = delivery
    const isOwner = message.last === delivery && delivery.settled === undefined && delivery.left === undefined
    if (isOwner && this.isClaimed(delivery, group) && !repeated && this.world.now < delivery.leaseEnd) {
      this.violate(broken(8, `message ${message.number} is refused to the worker that holds its lease`))
    }
  }

  private store(group: GroupModel, delivery: DeliveryModel, outcome: Outcome): void {
    const { message } = delivery
    delivery.settled = { outcome, at: this.world.now }
    if (outcome._tag !== "Ack" && outcome._tag !== "DeadLetter") return
    if (message.final !== undefined) return
    message.final = outcome._tag === "Ack" ? "acked" : "dead"
    if (outcome._tag === "DeadLetter") group.deadLetters++
    if (message.isDue) this.open--
  }

  extended(worker: Worker, at: Group, entries: ReadonlyArray<Entry>, lost: ReadonlyArray<Entry>, fence?: number): void {
    const group = this.group(at)
    this.renewed(group, at, fence)
    for (const entry of entries) {
      const delivery = this.deliveryOf.get(entry)
      if (delivery === undefined || lost.includes(entry)) continue
      const { message } = delivery
      if (message.last !== delivery || delivery.settled !== undefined || delivery.left !== undefined) {
        this.violate(broken(8, `the lease of message ${message.number} is extended for a worker that lost it`))
      }
      delivery.leaseEnd = this.world.now + leaseOf(group)
      this.note(worker.process.name, () => `extends the lease of message ${message.number} of "${group.subscription}"`)
    }
  }

  tended(worker: Worker, at: Group, { moved, reclaimed, removed }: Tended): void {
    if (moved + reclaimed + removed === 0) return
    const owner = reclaimed > 0 ? this.group(at).owners.get(at.partition) : undefined
    if (owner !== undefined) owner.ended = true
    this.note(worker.process.name, () => {
      const what = [
        ...(moved > 0 ? [`moves ${moved} due retries`] : []),
        ...(reclaimed > 0 ? [`takes ${reclaimed} deliveries from the dead`] : []),
        ...(removed > 0 ? [`removes ${removed} dead consumers`] : [])
      ]
      return `${what.join(", ")} of "${at.subscription}"`
    })
  }

  trims(worker: Worker, log: Log, trimmed: number): void {
    this.trimmed += trimmed
    if (trimmed > 0) this.note(worker.process.name, () => `drops ${trimmed} messages of "${log.topic}", settled by all`)
  }

  // -----------------------------------------------------------------------------
  // in a worker
  // -----------------------------------------------------------------------------

  heard(worker: Worker, at: Group, entries: ReadonlyArray<Entry>): void {
    const seat = this.seat(worker, this.group(at))
    for (const entry of entries) {
      const delivery = this.deliveryOf.get(entry)
      if (delivery === undefined) continue
      delivery.heard = this.world.now
      seat.held.add(delivery)
    }
    const { prefetch } = seat.group.policy
    if (prefetch !== undefined && seat.held.size > prefetch) {
      const problem = `"${seat.group.subscription}" holds ${seat.held.size} unsettled messages, prefetch is ${prefetch}`
      this.violate(broken(11, problem))
    }
  }

  told(worker: Worker, at: Group, settlements: ReadonlyArray<Settlement>, results: ReadonlyArray<Settled>): void {
    const { held } = this.seat(worker, this.group(at))
    for (const [i, { entry }] of settlements.entries()) {
      const delivery = this.deliveryOf.get(entry)
      if (delivery !== undefined && !(results[i] instanceof Error)) held.delete(delivery)
    }
  }

  lost(worker: Worker, at: Group, entries: ReadonlyArray<Entry>): void {
    const { held } = this.seat(worker, this.group(at))
    for (const entry of entries) {
      const delivery = this.deliveryOf.get(entry)
      // what runs is held until its settlement is refused
      if (delivery !== undefined && delivery.started === undefined) held.delete(delivery)
    }
  }

  started(worker: Worker, group: GroupModel, handlings: ReadonlyArray<Handled>): ReadonlyArray<DeliveryModel> {
    const seat = this.seat(worker, group)
    const deliveries = handlings.flatMap((handling) => {
      const delivery = this.deliveryOf.get(handling.entry)
      if (delivery === undefined) return []
      delivery.handling = handling
      return [delivery]
    })
    // what a dead process did between its last call and its end is nobody's business
    if (worker.process.state === "dead") return deliveries
    this.note(worker.process.name, () => {
      const which = deliveries.map(({ entry, message }) => `message ${message.number}, attempt ${entry.attempt}`)
      return `"${group.subscription}" handles ${which.join(" and ")}`
    })
    this.violate(rules.mayStart(seat, deliveries) ?? rules.inOrder(group, deliveries))
    seat.running.add(deliveries)
    for (const delivery of deliveries) {
      delivery.started = this.world.now
      delivery.handler = "runs"
    }
    return deliveries
  }

  ended(
    worker: Worker,
    group: GroupModel,
    deliveries: ReadonlyArray<DeliveryModel>,
    exit: Exit.Exit<void, unknown>
  ): void {
    this.seat(worker, group).running.delete(deliveries)
    const how = Exit.isSuccess(exit) ? "succeeded" : Cause.hasInterruptsOnly(exit.cause) ? "interrupted" : "failed"
    for (const delivery of deliveries) {
      delivery.handler = how
      delivery.exit = exit
      delivery.ended = this.world.now
    }
    this.note(worker.process.name, () => {
      const which = deliveries.map(({ message }) => message.number).join(" and ")
      if (how === "failed") return `"${group.subscription}" failed on message ${which}: ${reasonOf(exit)}`
      return `"${group.subscription}" ${how === "succeeded" ? "is done with" : "is interrupted on"} message ${which}`
    })
  }
}

/** What a handler failed of, in one line: without the stack. */
const reasonOf = (exit: Exit.Exit<void, unknown>): string =>
  Exit.isFailure(exit) ? (describe(exit.cause).split("\n")[0] ?? "") : ""

const describeOutcome = (outcome: Outcome): string => {
  switch (outcome._tag) {
    case "Ack":
      return "acked"
    case "Release":
      return "released"
    case "Park":
      return "parked behind its key"
    case "Retry":
      return `to be retried in ${Duration.format(outcome.delay)}`
    case "DeadLetter":
      return `dead-lettered (${outcome.reason})`
  }
}

/** It comes from the retry log next, or came from there. */
const isInRetries = ({ final, last }: MessageModel): boolean =>
  final === undefined &&
  last !== undefined &&
  (last.entry.origin === "retry" || last.settled?.outcome._tag === "Retry" || last.settled?.outcome._tag === "Park")

/** What a message has to stay in order with. */
const lineOf = (group: GroupModel, key: string | undefined): Array<MessageModel> => {
  if (key === undefined || !isOrdered(group)) return []
  let line = group.lines.get(key)
  if (line === undefined) group.lines.set(key, (line = []))
  return line
}

/** A fault in words. */
export const describeFault = ({ call, kind, millis }: Fault): string => {
  switch (kind) {
    case "fails":
      return `${call} fails, nothing is done`
    case "losesReply":
      return `${call} is done, its reply is lost`
    case "isLate":
      return `${call} reaches the log ${millis} ms late`
    case "replyIsLate":
      return `the reply to ${call} comes ${millis} ms late`
    case "isDoubled":
      return `${call} is done twice`
    case "isHalfDone":
      return `${call} is done for a part only`
    case "crashesBefore":
      return `dies before ${call} is sent; another starts in ${millis} ms`
    case "crashesAfter":
      return `dies once ${call} is done; another starts in ${millis} ms`
    case "freezesBefore":
      return `stands still for ${millis} ms before ${call} is sent`
    case "freezesAfter":
      return `stands still for ${millis} ms once ${call} is done`
    case "closes":
      return `is told to close at ${call}; another starts in ${millis} ms`
    case "pauses":
      return `is paused at ${call}, for ${millis} ms`
    case "vanishes":
      return `its group disappears at ${call}`
  }
}
