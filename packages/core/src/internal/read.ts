/** From a stored entry to a typed message: JSON, what the source accepts, its schema, what it keeps. */
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import type * as Schema from "effect/Schema"
import type { Message } from "../Message.ts"
import { type Source, TypeId } from "../Source.ts"
import type { Content } from "../Transport.ts"
import { message } from "./stored.ts"

/**
 * Why a message cannot be decoded.
 *
 * @category models
 * @since 0.1.0
 */
export interface Poison {
  readonly _tag: "Poison"
  readonly message: string
}

interface Readable {
  readonly namespace: string
  readonly partition?: number | undefined
  readonly originalId: string
  readonly content: Content
}

const decoder = new TextDecoder("utf-8", { fatal: true })

const poison = (message: string): Poison => ({ _tag: "Poison", message })

/** The message as JSON: nobody else has it yet. */
const parse = (
  source: Source<unknown>,
  { content, namespace, originalId, partition }: Readable
): { -readonly [K in keyof Message<unknown>]: Message<unknown>[K] } | Poison => {
  try {
    const json: unknown = JSON.parse(decoder.decode(content.data))
    return message({
      namespace,
      topic: source.topic,
      partition,
      originalId,
      json,
      data: json,
      attributes: content.attributes
    })
  } catch (cause) {
    return poison(`the data is no JSON: ${String(cause)}`)
  }
}

const misfit = (exit: Exit.Failure<unknown, Schema.SchemaError>): Poison => {
  const cause = Option.getOrElse(Exit.findErrorOption(exit), () => exit.cause)
  return poison(`the data does not fit the schema: ${String(cause)}`)
}

const isPoison = (result: object): result is Poison => "_tag" in result

/** The message, whatever the source's filters say. */
export const read = <A>(source: Source<A>, entry: Readable): Result.Result<Message<A>, Poison> => {
  const parsed = parse(source, entry)
  if (isPoison(parsed)) return Result.fail(parsed)
  const exit = source[TypeId].decode(parsed.data)
  if (Exit.isFailure(exit)) return Result.fail(misfit(exit))
  return Result.succeed({ ...parsed, data: exit.value as A }) // decoded by the source's own schema
}

/** What reading an entry for a source comes to. */
export type Reading =
  | { readonly _tag: "Message"; readonly message: Message<unknown> }
  | { readonly _tag: "Filtered" }
  | { readonly _tag: "Poison"; readonly problem: string }
  /** A filter of the user's threw. */
  | { readonly _tag: "Threw"; readonly thrown: unknown }

/** The message, where the source's filters let it through. */
export const readFiltered = (source: Source<unknown>, entry: Readable): Reading => {
  const { accepts, decode, keeps } = source[TypeId]
  const parsed = parse(source, entry)
  if (isPoison(parsed)) return { _tag: "Poison", problem: parsed.message }
  try {
    if (!accepts.every((accept) => accept(parsed))) return { _tag: "Filtered" }
    const exit = decode(parsed.data)
    if (Exit.isFailure(exit)) return { _tag: "Poison", problem: misfit(exit).message }
    const data = exit.value
    if (!keeps.every((keep) => keep(data))) return { _tag: "Filtered" }
    // a filter may have kept what it was shown
    if (accepts.length > 0) return { _tag: "Message", message: { ...parsed, data } }
    parsed.data = data
    return { _tag: "Message", message: parsed }
  } catch (thrown) {
    return { _tag: "Threw", thrown }
  }
}
