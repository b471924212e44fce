/** What the simulator knows of a history: groups, their messages, each delivery, and what became of it. */
import type * as Exit from "effect/Exit"
import type { Definition } from "../../internal/definition.ts"
import type { Handling } from "../../internal/handling.ts"
import type { Policy } from "../../internal/policy.ts"
import type { Entry, Outcome } from "../../Transport.ts"
import type { Worker } from "./Network.ts"

/**
 * What went wrong: which promise is broken, and how. `contract 4` names a clause of the contract, `runtime` what a program
 * must do at all (start, go on, close), `scenario` what its author said holds at rest.
 *
 * @category models
 * @since 0.1.0
 */
export interface Violation {
  readonly promise: string
  readonly problem: string
}

/** Clause `clause` of the contract is broken. */
export const broken = (clause: number, problem: string): Violation => ({ promise: `contract ${clause}`, problem })

/** A subscription's group. */
export interface GroupModel {
  readonly topic: string
  readonly subscription: string
  readonly definition: Definition
  readonly policy: Policy
  /** From then on every message stored must be delivered; `undefined` before a worker was there. */
  since: number | undefined
  /** By partition and original id. */
  readonly messages: Map<string, MessageModel>
  deadLetters: number
  /** Of a topic with a key: who owns which partition. */
  readonly owners: Map<number, OwnerModel>
  /** Of a topic with a key: the messages of each. */
  readonly lines: Map<string, Array<MessageModel>>
}

/** The last owner of a partition. */
export interface OwnerModel {
  readonly worker: Worker
  readonly fence: number
  /** Nobody may claim before. */
  leaseEnd: number
  /** It was ceded, or ended with the lease of a message. */
  ended: boolean
}

/** A message, as one group has it. */
export interface MessageModel {
  /** Which of the history's messages it is, from 1. */
  readonly number: number
  readonly partition: number
  /** What it has to stay in order with. */
  readonly key: string | undefined
  readonly stored: number
  /** No handler may ever see it. */
  readonly isPoison: boolean
  /** It was stored when the group was there to get it. */
  readonly isDue: boolean
  /** The same message, as the group had it before it disappeared: it may have a retry still. */
  readonly former: MessageModel | undefined
  /** Its place among those of its key, by the topic's log. */
  readonly turn: number
  /** Which loss of its group it came again by, or was unread at: 0 before the first. */
  generation: number
  /** `"gone"`: with its group, while a delivery of the topic's own log was under way. */
  final: "acked" | "dead" | "gone" | undefined
  last: DeliveryModel | undefined
}

/** A delivery, as its handler has it. */
export type Handled = Pick<Handling, "entry" | "isByHand">

export type HandlerState = "none" | "runs" | "succeeded" | "failed" | "interrupted"

/** One delivery of a message to a worker. */
export interface DeliveryModel {
  readonly message: MessageModel
  readonly worker: Worker
  readonly entry: Entry
  readonly isAlone: boolean
  /** Which time the group's deliveries had, the log's. */
  readonly taken: number
  /** When the worker had it; `undefined` where the reply was lost. */
  heard: number | undefined
  leaseEnd: number
  started: number | undefined
  handler: HandlerState
  exit: Exit.Exit<void, unknown> | undefined
  /** When its handler ended. */
  ended: number | undefined
  /** What its handler was given: it may settle by hand, whatever the policy. */
  handling: Handled | undefined
  /** What the log has stored of it. */
  settled: { readonly outcome: Outcome; readonly at: number } | undefined
  /** When its worker left the group, or ceded the partition, which gives back what it still holds. */
  left: number | undefined
  /** Under which claim of its partition it was taken. */
  readonly fence: number | undefined
  /** When another worker claimed the partition, which takes back what is held. */
  seized: number | undefined
}

/** What a worker's life holds of a group. */
export interface Seat {
  readonly worker: Worker
  readonly group: GroupModel
  /** What it was given, and has heard no end of. */
  readonly held: Set<DeliveryModel>
  /** What runs now, by handler. */
  readonly running: Set<ReadonlyArray<DeliveryModel>>
}

export const isSuspect = ({ attempt, reclaims }: Entry, { retry }: Policy): boolean =>
  reclaims >= 2 || (reclaims === 1 && attempt >= retry.maxRetries + 1)
