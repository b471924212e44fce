/**
 * The contract, as far as a history shows it. Each rule looks at one thing that happened and at what is known, and says
 * what is wrong with it. They know nothing of how the runtime works.
 */
import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import { DoNotRetry, RetryAfter } from "../../Errors.ts"
import { describe, HandlerTimeout } from "../../internal/failure.ts"
import * as RetryPolicy from "../../RetryPolicy.ts"
import { TypeId } from "../../Source.ts"
import type { Entry, Outcome } from "../../Transport.ts"
import {
  broken,
  type DeliveryModel,
  type GroupModel,
  isSuspect,
  type MessageModel,
  type OwnerModel,
  type Seat,
  type Violation
} from "./Model.ts"

// -----------------------------------------------------------------------------
// a partition is claimed, and a key is handled in order
// -----------------------------------------------------------------------------

/** May this worker claim the partition now? */
export const mayClaim = (before: OwnerModel | undefined, fence: number, now: number): Violation | undefined => {
  if (before === undefined) return undefined
  if (fence <= before.fence) return broken(10, `a partition is claimed under fence ${fence}, after ${before.fence}`)
  return before.ended || now >= before.leaseEnd
    ? undefined
    : broken(10, `a partition is claimed ${before.leaseEnd - now} ms before the lease of its owner ends`)
}

/** Do these start in the order of their keys, in a worker that owns their partitions? */
export const inOrder = (group: GroupModel, deliveries: ReadonlyArray<DeliveryModel>): Violation | undefined => {
  for (const delivery of deliveries) {
    const { entry, fence, message } = delivery
    const { key, number, partition } = message
    const isStale = fence !== undefined && group.owners.get(partition)?.fence !== fence
    if (isStale && !wasHeldUp(group, delivery)) {
      return broken(10, `the handler of message ${number} starts under fence ${fence}, and another one has claimed`)
    }
    // of a group that disappeared, its worker cannot know
    if (key === undefined || entry.redriven !== undefined || message.final === "gone") continue
    for (const before of group.lines.get(key) ?? []) {
      if (!isBefore(before, message)) continue
      // what nobody wants has no handler, and what was stored before the group need not come
      const isWanted = before.last?.started !== undefined || (before.isDue && wantsAll(group))
      if (isWanted && before.final === undefined) {
        return broken(
          10,
          `the handler of message ${number} starts, and message ${before.number} of its key is not settled`
        )
      }
    }
  }
  return undefined
}

/** What comes again by a loss of its group comes behind what was to come before it, and nothing is said of the rest. */
const isBefore = (before: MessageModel, { generation, turn }: MessageModel): boolean =>
  before.generation === generation ? before.turn < turn : before.generation < generation && before.turn <= turn

/** Under "onReceive" it began with its ack; between that and its handler its worker may have stood still. */
const wasHeldUp = ({ policy }: GroupModel, { settled, worker }: DeliveryModel): boolean =>
  policy.ack === "onReceive" && settled !== undefined && worker.calmSince > settled.at

const wantsAll = ({ definition }: GroupModel): boolean => {
  const { accepts, keeps } = definition.source[TypeId]
  return accepts.length + keeps.length === 0
}

// -----------------------------------------------------------------------------
// a delivery is taken
// -----------------------------------------------------------------------------

interface Taking {
  readonly now: number
  readonly alone: boolean
  readonly waitedSince: number
  readonly calmSince: number
}

/** Which message is delivered, of those that are the same but for a group that disappeared; and whether it may be. */
export const taken = (
  group: GroupModel,
  newest: MessageModel,
  entry: Entry,
  taking: Taking
): { readonly message: MessageModel; readonly violation: Violation | undefined } => {
  const may = (message: MessageModel) => mayTake(group, message, entry, taking)
  if (entry.origin === "main") return { message: newest, violation: may(newest) }
  // each goes its own way from its first delivery; in the same millisecond, what is delivered may be any of them
  const meant = allOf(newest).filter(({ last }) => last?.entry.firstDelivered === entry.firstDelivered)
  const message =
    meant.find(({ last }) => last?.entry.id === entry.id && last.entry.origin === "retry") ??
    meant.find((message) => may(message) === undefined) ??
    newest
  return { message, violation: may(message) }
}

/** It, and the oldest first those that it was before. */
const allOf = (message: MessageModel): ReadonlyArray<MessageModel> =>
  message.former === undefined ? [message] : [...allOf(message.former), message]

/** May this entry be delivered now, after what came before it? */
const mayTake = (
  { policy, subscription }: GroupModel,
  message: MessageModel,
  entry: Entry,
  taking: Taking
): Violation | undefined => {
  if (message.final !== undefined) {
    return broken(1, `message ${message.number} was ${message.final} for "${subscription}", and is delivered again`)
  }
  if (isSuspect(entry, policy) && !taking.alone) {
    return broken(7, `message ${message.number} may have killed ${entry.reclaims} workers, and is not taken alone`)
  }
  const before = message.last
  if (before === undefined) {
    if (entry.origin === "retry") return broken(2, `message ${message.number} is a retry of no failure of its group`)
    return entry.attempt === 1
      ? undefined
      : broken(4, `message ${message.number} is delivered first, and counted as attempt ${entry.attempt}`)
  }
  const { settled } = before
  const again = `message ${message.number} is delivered again as attempt ${entry.attempt}, after attempt ${before.entry.attempt}`
  if (settled?.outcome._tag === "Retry") return mayTakeRetry(before, entry, taking, again)
  if (settled?.outcome._tag === "Park") {
    if (entry.origin !== "retry") return broken(10, `${again}, from the topic's own log though it was parked`)
    return entry.attempt === before.entry.attempt ? undefined : broken(10, `${again} was parked, which costs none`)
  }
  if (entry.id !== before.entry.id) return broken(1, `${again}, under another id though nothing settled it`)
  // who leaves behind the end of its lease may have lost it before
  if (settled !== undefined || (before.left ?? Infinity) < before.leaseEnd) {
    return entry.attempt === before.entry.attempt ? undefined : broken(4, `${again} was released, which costs none`)
  }
  if (taking.now < before.leaseEnd && before.seized === undefined) {
    return broken(7, `${again}, ${before.leaseEnd - taking.now} ms before its lease ends`)
  }
  const wasKept =
    before.left === undefined &&
    before.seized === undefined &&
    before.heard !== undefined &&
    before.worker.process.state === "runs" &&
    before.worker.calmSince <= before.taken &&
    taking.now - (before.started ?? taking.now) < Duration.toMillis(policy.maxLease)
  if (wasKept) return broken(7, `${again}, though its worker lives and nothing had befallen it`)
  const cost = entry.attempt - before.entry.attempt
  if (cost === 1) return undefined
  // what starts after the lease has ended may have been reclaimed before
  const lost = Math.min(before.leaseEnd, before.seized ?? Infinity)
  return cost === 0 && (before.left !== undefined || before.started === undefined || before.started >= lost)
    ? undefined
    : broken(4, `${again} was begun by a worker that died`)
}

const mayTakeRetry = (
  before: DeliveryModel,
  entry: Entry,
  taking: { readonly now: number; readonly waitedSince: number; readonly calmSince: number },
  again: string
): Violation | undefined => {
  const { settled } = before
  if (settled?.outcome._tag !== "Retry") return undefined
  if (entry.origin !== "retry") return broken(3, `${again}, from the topic's own log though its retry is scheduled`)
  if (entry.attempt !== before.entry.attempt + 1) return broken(4, `${again} had failed: one attempt is to be counted`)
  const due = settled.at + Duration.toMillis(settled.outcome.delay)
  if (taking.now < due) return broken(5, `${again}, ${due - taking.now} ms before it is due`)
  const isLate = taking.now - due > promptly && taking.waitedSince <= due && taking.calmSince <= settled.at
  return isLate ? broken(5, `${again}, ${taking.now - due} ms after it was due, though a worker waited`) : undefined
}

/** A few messages between workers and the log. */
const promptly = 50

// -----------------------------------------------------------------------------
// a handler starts
// -----------------------------------------------------------------------------

/** May this handler start, beside what runs in its worker? */
export const mayStart = (
  { group, held, running, worker }: Seat,
  deliveries: ReadonlyArray<DeliveryModel>
): Violation | undefined => {
  const { policy, subscription } = group
  if (running.size >= policy.concurrency) {
    return broken(11, `"${subscription}" runs more than ${policy.concurrency} handlers in one worker`)
  }
  // under "onReceive" it began with its ack
  if (worker.isPaused && policy.ack !== "onReceive") {
    return { promise: "runtime", problem: `"${subscription}" is paused, and starts a handler` }
  }
  for (const delivery of deliveries) {
    const { entry, message } = delivery
    const what = `the handler of message ${message.number}`
    if (message.isPoison) return broken(6, `${what} starts, though nobody can decode it`)
    if (delivery.started !== undefined) return broken(1, `${what} starts twice for one delivery`)
    if (entry.attempt > policy.retry.maxRetries + 1) {
      return broken(4, `${what} starts for attempt ${entry.attempt}, of ${policy.retry.maxRetries + 1}`)
    }
    if (policy.ack === "onReceive" && delivery.settled?.outcome._tag !== "Ack") {
      return broken(1, `${what} starts before it is acked, under ack "onReceive"`)
    }
    if (!held.has(delivery) && policy.ack !== "onReceive") {
      return broken(8, `${what} starts, though its worker knows that it has lost it`)
    }
  }
  const beside = [...running].flat().find(({ entry }) => isSuspect(entry, policy))
  const suspect = beside ?? deliveries.find(({ entry }) => isSuspect(entry, policy))
  return suspect !== undefined && (running.size > 0 || deliveries.length > 1)
    ? broken(7, `message ${suspect.message.number} may kill workers, and is not handled alone`)
    : undefined
}

// -----------------------------------------------------------------------------
// a settlement is stored
// -----------------------------------------------------------------------------

/** May this outcome be stored for the delivery? Asked of what the log has stored. */
export const maySettle = (group: GroupModel, delivery: DeliveryModel, outcome: Outcome): Violation | undefined => {
  const { message } = delivery
  const what = `message ${message.number}, attempt ${delivery.entry.attempt}: ${outcome._tag}`
  if (message.last !== delivery) return broken(8, `${what} is stored for a worker that lost it`)
  if (delivery.settled !== undefined || delivery.left !== undefined || message.final !== undefined) {
    return broken(1, `${what} is stored, though the delivery had ended`)
  }
  if (delivery.seized !== undefined)
    return broken(10, `${what} is stored under fence ${delivery.fence}, which has lost`)
  return isDeserved(group, delivery, outcome)
}

const isDeserved = (group: GroupModel, delivery: DeliveryModel, outcome: Outcome): Violation | undefined => {
  const { definition, policy } = group
  const { entry, handler, message } = delivery
  const most = policy.retry.maxRetries + 1
  const what = `message ${message.number}, attempt ${entry.attempt} of ${most}`
  const unseen = delivery.started === undefined
  const isByHand = policy.ack === "manual" || delivery.handling?.isByHand === true
  if (outcome._tag === "Release") {
    // by hand it is the handler's own choice; only who closes, or gives a partition up, interrupts and releases
    const closes = delivery.worker.isClosing || delivery.fence !== undefined
    return isByHand || unseen || (closes && handler === "interrupted")
      ? undefined
      : broken(1, `${what} is released, though its handler ${handler}`)
  }
  if (outcome._tag === "Park") {
    return message.key !== undefined && (unseen || isByHand)
      ? undefined
      : broken(10, `${what} is parked, and has a handler or no key`)
  }
  const isWorn = entry.attempt > most
  if (unseen) {
    if (message.isPoison) return deservesGrave(policy.deadLetters, outcome, "poison", what, 6)
    const { accepts, keeps } = definition.source[TypeId]
    if (outcome._tag === "Ack" && accepts.length + keeps.length > 0) return undefined
    if (isWorn) return deservesGrave(policy.deadLetters, outcome, "exhausted", what, 4)
    if (outcome._tag === "Ack" && policy.ack === "onReceive") return undefined
    return broken(1, `${what}: ${outcome._tag}, and no handler saw it`)
  }
  if (isByHand) return isChosen(group, delivery, outcome, what)
  const { timeout } = policy
  if (timeout !== undefined && policy.ack === "onSuccess" && isOvertakenBy(timeout, delivery)) {
    const exit = Exit.fail(new HandlerTimeout(timeout))
    if (isFollowed(group, { ...delivery, exit }, outcome, what) === undefined) return undefined
  }
  if (handler === "succeeded" || policy.ack === "onExit") {
    return outcome._tag === "Ack" && handler !== "runs"
      ? undefined
      : broken(1, `${what}: ${outcome._tag}, though its handler ${handler}`)
  }
  if (handler !== "failed" && handler !== "interrupted") {
    return broken(1, `${what}: ${outcome._tag}, while its handler ${handler}`)
  }
  return isFollowed(group, delivery, outcome, what)
}

/** Whoever stands still between its handler's end and its fiber's may see the timeout first. */
const isOvertakenBy = (timeout: Duration.Duration, { ended, started, worker }: DeliveryModel): boolean =>
  ended !== undefined &&
  started !== undefined &&
  worker.calmSince > ended &&
  worker.calmSince - started >= Duration.toMillis(timeout)

/** By hand the handler settles at any time; what it does not settle, or fails of, is a failure. */
const isChosen = (group: GroupModel, delivery: DeliveryModel, outcome: Outcome, what: string) => {
  if (outcome._tag !== "Retry") return undefined
  return delivery.entry.attempt > group.policy.retry.maxRetries
    ? broken(4, `${what} is to be tried again, and was the last one`)
    : undefined
}

const deservesGrave = (
  deadLetters: boolean,
  outcome: Outcome,
  reason: "poison" | "exhausted",
  what: string,
  clause: number
): Violation | undefined => {
  const isRight = deadLetters ? outcome._tag === "DeadLetter" && outcome.reason === reason : outcome._tag === "Ack"
  return isRight ? undefined : broken(clause, `${what}: ${outcome._tag}, and is to be a dead letter (${reason})`)
}

/** What a failure leads to, by the policy. */
const isFollowed = (
  { policy }: GroupModel,
  { entry, exit }: DeliveryModel,
  outcome: Outcome,
  what: string
): Violation | undefined => {
  const cause = exit !== undefined && Exit.isFailure(exit) ? exit.cause : Cause.empty
  const error = Option.getOrUndefined(Cause.findErrorOption(cause))
  const isPointless = error instanceof DoNotRetry || (policy.retryWhile !== undefined && !isDefect(cause))
  const isLast = entry.attempt >= policy.retry.maxRetries + 1
  switch (outcome._tag) {
    case "Retry": {
      if (isLast) return broken(4, `${what} failed, and is to be tried again`)
      if (error instanceof DoNotRetry) return broken(5, `${what} is not to be retried, and is`)
      const delay = Duration.toMillis(outcome.delay)
      if (error instanceof RetryAfter) {
        const asked = Duration.toMillis(Duration.fromInputUnsafe(error.delay))
        return Math.abs(delay - asked) < 1
          ? undefined
          : broken(5, `${what} asked for ${asked} ms, and gets ${delay} ms`)
      }
      const [least, most] = [0, 1]
        .map((random) => RetryPolicy.delay(policy.retry, entry.attempt, random))
        .map(Duration.toMillis)
      return delay < Math.floor(least ?? 0) || delay > Math.ceil(most ?? 0)
        ? broken(5, `${what} is due after ${delay} ms, and the policy says ${least} to ${most} ms`)
        : undefined
    }
    case "DeadLetter":
      return isLast || isPointless ? undefined : broken(4, `${what} failed, and is dead-lettered with attempts left`)
    default:
      return !policy.deadLetters && (isLast || isPointless)
        ? undefined
        : broken(1, `${what} failed, and is settled as ${outcome._tag}: ${describe(cause)}`)
  }
}

const isDefect = (cause: Cause.Cause<unknown>): boolean => Option.isNone(Cause.findErrorOption(cause))
