/** One delivery on its way through the runtime: what a handler sees of it, and what the runtime knows of it. */
import type * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { Delivered } from "../Delivery.ts"
import { AlreadySettled, LeaseLost, SettleError, type TransportError, Unavailable } from "../Errors.ts"
import type { Message } from "../Message.ts"
import type { Entry, Group, Outcome } from "../Transport.ts"
import * as dates from "./dates.ts"
import * as durations from "./durations.ts"

/** What a delivery needs of its subscription in order to settle itself. */
export interface Desk {
  readonly group: Group
  readonly consumer: string
  /** Of who owns the partition. */
  readonly fence: number | undefined
  /** Takes note of the outcome; the handling is told when the log has it. */
  readonly settle: (handling: Handling, outcome: Outcome) => void
  /** The handling wants to settle a second time. */
  readonly settledTwice: (handling: Handling) => void
  /** What `retry` means for this delivery: another attempt, or the end of them. */
  readonly retry: (
    handling: Handling,
    after: Duration.Duration | undefined,
    cause: Cause.Cause<unknown> | undefined
  ) => Outcome
}

export class Handling implements Delivered<unknown> {
  readonly entry: Entry
  readonly message: Message<unknown>
  /** When this process took it; milliseconds of the runtime's clock. */
  readonly taken: number
  /** Where `Held` has it. */
  place = -1
  /** When a handler was given it. */
  begun: number | undefined
  /** Of an owner: its lease is counted from then, or later. */
  leased = 0
  /** What was decided; once set it stays. */
  outcome: Outcome | undefined
  /** Called once, when the outcome is decided. */
  onOutcome: (() => void) | undefined
  /** The subscription closes, and interrupts this one's handler for it. */
  closing = false
  /** The log says that another consumer owns it. */
  lost = false
  /** A filter of the user's threw: its turn comes, and no handler runs. */
  thrown: Cause.Cause<never> | undefined
  private readonly desk: Desk
  private told: Deferred.Deferred<void, SettleError> | undefined

  constructor(desk: Desk, entry: Entry, message: Message<unknown>, taken: number) {
    this.desk = desk
    this.entry = entry
    this.message = message
    this.taken = taken
  }

  get handling() {
    return this
  }
  /** The outcome is the handler's own choice. */
  get isByHand(): boolean {
    return this.told !== undefined
  }
  /** As a settlement, it is sent for the first time. */
  get repeated() {
    return false
  }
  get topic() {
    return this.desk.group.topic
  }
  get partition() {
    return this.desk.group.partition
  }
  get fence() {
    return this.desk.fence
  }
  get stream() {
    return this.entry.stream
  }
  get group() {
    return this.entry.origin === "main" ? this.desk.group.subscription : `${this.desk.group.subscription}-retry`
  }
  get consumer() {
    return this.desk.consumer
  }
  get messageId() {
    return this.entry.id
  }
  get originalId() {
    return this.entry.originalId
  }
  get attempt() {
    return this.entry.attempt
  }
  get firstDelivered() {
    return dates.ofMillis(this.entry.firstDelivered)
  }
  get redriven() {
    return this.entry.redriven
  }
  get ack() {
    return this.settle(() => ({ _tag: "Ack" }))
  }
  get release() {
    return this.settle(() => ({ _tag: "Release" }))
  }
  get retry(): Delivered<unknown>["retry"] {
    return (options = {}) =>
      this.settle(() => {
        const after = options.after === undefined ? Option.none() : durations.finite(options.after)
        return this.desk.retry(this, Option.getOrUndefined(after), options.cause)
      })
  }
  get deadLetter(): Delivered<unknown>["deadLetter"] {
    return (reason) =>
      this.settle(() => ({ _tag: "DeadLetter", reason: "rejected", cause: reason, attempts: this.attempt }))
  }

  private settle(outcome: () => Outcome): Effect.Effect<void, SettleError> {
    return Effect.suspend(() => {
      if (this.outcome !== undefined) {
        this.desk.settledTwice(this)
        return Effect.fail(this.error(new AlreadySettled({})))
      }
      const told = Deferred.makeUnsafe<void, SettleError>()
      this.told = told
      this.desk.settle(this, outcome())
      return Deferred.await(told)
    })
  }

  private error(reason: SettleError["reason"]): SettleError {
    return new SettleError({
      topic: this.desk.group.topic,
      subscription: this.desk.group.subscription,
      messageId: this.entry.id,
      reason
    })
  }

  /** The log has the outcome, or refused it. */
  tell(how: "settled" | "lost"): void {
    if (this.told === undefined) return
    Deferred.doneUnsafe(this.told, how === "settled" ? Effect.void : Effect.fail(this.error(new LeaseLost({}))))
  }

  /** The subscription is gone before the log could be reached. */
  abandon(error: TransportError | undefined): void {
    if (this.told === undefined) return
    const detail = error?.message ?? "the subscription closed before the log had the settlement"
    Deferred.doneUnsafe(this.told, Effect.fail(this.error(new Unavailable({ detail }))))
  }
}
