/** A dead letter as people see it, made of what the log keeps. */
import type * as DateTime from "effect/DateTime"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import type { Message } from "../Message.ts"
import type { Source } from "../Source.ts"
import * as dates from "./dates.ts"
import type { DeadEntry, DeadLetterReason, Group } from "../Transport.ts"
import { isEntryId } from "./ids.ts"
import { type Poison, read } from "./read.ts"

/**
 * A message that will not be tried again.
 *
 * @category models
 * @since 0.1.0
 */
export interface DeadLetter<out A> {
  /** Its id among the dead letters; of a partition above 0, followed by a slash and the partition's number. */
  readonly id: string
  /** Entry id in the topic's own log. */
  readonly originalId: string
  /** What it held; a failure where it cannot be decoded. */
  readonly message: Result.Result<Message<A>, Poison>
  /** The bytes of its data; of a foreign entry without data, all of its fields. */
  readonly raw: Uint8Array
  /** Why it will not be tried again. */
  readonly reason: DeadLetterReason
  /** The last failure, in words. */
  readonly cause: string
  /** How many attempts were counted. */
  readonly attempts: number
  /** When it first came to the subscription, by the log's clock; none where nobody knows any more. */
  readonly firstDelivered: Option.Option<DateTime.Utc>
  /** When it became a dead letter, by the log's clock. */
  readonly deadLettered: DateTime.Utc
}

/**
 * The id that a dead letter has in its own partition; `undefined` where it is none of this partition's, or no text, as
 * untyped callers may give.
 */
export const inGroup = ({ partition }: Group, id: unknown): string | undefined => {
  if (typeof id !== "string") return undefined
  const own = partition === 0 ? id : id.endsWith(`/${partition}`) ? id.slice(0, id.lastIndexOf("/")) : undefined
  return own !== undefined && isEntryId(own) ? own : undefined
}

export const letter = <A>(
  source: Source<A>,
  { group, namespace }: { readonly group: Group; readonly namespace: string },
  entry: DeadEntry
): DeadLetter<A> => ({
  id: group.partition === 0 ? entry.id : `${entry.id}/${group.partition}`,
  originalId: entry.originalId,
  message: Result.flatMap(
    Result.mapError(entry.content, (message): Poison => ({ _tag: "Poison", message })),
    (content) => read(source, { namespace, partition: group.partition, originalId: entry.originalId, content })
  ),
  raw: entry.raw,
  reason: entry.reason,
  cause: entry.cause,
  attempts: entry.attempts,
  firstDelivered: Option.map(entry.firstDelivered, dates.ofMillis),
  deadLettered: dates.ofMillis(entry.deadLettered)
})
