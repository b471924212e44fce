/** From a stored entry to a typed message: JSON, what the source accepts, its schema, what it keeps. */
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import { fromEntry, type Message } from "../Message.ts"
import { type Source, TypeId } from "../Source.ts"
import type { Content } from "../Transport.ts"

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
  readonly originalId: string
  readonly content: Content
}

const decoder = new TextDecoder("utf-8", { fatal: true })

const poison = (message: string): Result.Result<never, Poison> => Result.fail({ _tag: "Poison", message })

const parse = (
  source: Source<unknown>,
  { content, namespace, originalId }: Readable
): Result.Result<Message<unknown>, Poison> => {
  try {
    const json: unknown = JSON.parse(decoder.decode(content.data))
    return Result.succeed(
      fromEntry({ namespace, topic: source.topic, originalId, json, attributes: content.attributes })
    )
  } catch (cause) {
    return poison(`the data is no JSON: ${String(cause)}`)
  }
}

const decode = <A>(source: Source<A>, message: Message<unknown>): Result.Result<Message<A>, Poison> => {
  const data = source[TypeId].decode(message.data)
  if (Exit.isFailure(data)) {
    const cause = Option.getOrElse(Exit.findErrorOption(data), () => data.cause)
    return poison(`the data does not fit the schema: ${String(cause)}`)
  }
  return Result.succeed({ ...message, data: data.value as A }) // decoded by the source's own schema
}

/** The message, whatever the source's filters say. */
export const read = <A>(source: Source<A>, entry: Readable): Result.Result<Message<A>, Poison> =>
  Result.flatMap(parse(source, entry), (message) => decode(source, message))

/** What reading an entry for a source comes to. */
export type Reading =
  | { readonly _tag: "Message"; readonly message: Message<unknown> }
  | { readonly _tag: "Filtered" }
  | { readonly _tag: "Poison"; readonly problem: string }
  /** A filter of the user's threw. */
  | { readonly _tag: "Threw"; readonly thrown: unknown }

/** The message, where the source's filters let it through. */
export const readFiltered = (source: Source<unknown>, entry: Readable): Reading => {
  const { accepts, keeps } = source[TypeId]
  const parsed = parse(source, entry)
  if (Result.isFailure(parsed)) return { _tag: "Poison", problem: parsed.failure.message }
  try {
    if (!accepts.every((accept) => accept(parsed.success))) return { _tag: "Filtered" }
    const decoded = decode(source, parsed.success)
    if (Result.isFailure(decoded)) return { _tag: "Poison", problem: decoded.failure.message }
    const message = decoded.success
    return keeps.every((keep) => keep(message.data)) ? { _tag: "Message", message } : { _tag: "Filtered" }
  } catch (thrown) {
    return { _tag: "Threw", thrown }
  }
}
