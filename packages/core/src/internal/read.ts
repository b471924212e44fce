/** From a stored entry to a typed message: JSON, what the source accepts, its schema, what it keeps. */
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import type * as Schema from "effect/Schema"
import type { Message } from "../Message.ts"
import { type Source, TypeId } from "../Source.ts"
import type { Content } from "../Transport.ts"
import { message, messages, typeOf } from "./stored.ts"

/**
 * Why a message cannot be decoded.
 *
 * @category models
 * @since 0.1.0
 */
export interface Poison {
  readonly _tag: "Poison"
  /** In words. */
  readonly message: string
}

/** The log that entries come from. */
interface Place {
  readonly namespace: string
  readonly partition: number
}

interface Readable extends Place {
  readonly originalId: string
  readonly content: Content
}

const decoder = new TextDecoder("utf-8", { fatal: true })

const poison = (message: string): Poison => ({ _tag: "Poison", message })

/** The data as JSON. Throws where it is none. */
const parse = ({ data }: Content): unknown => JSON.parse(decoder.decode(data))

const noJson = (cause: unknown): string => `the data is no JSON: ${String(cause)}`

const misfit = (exit: Exit.Failure<unknown, Schema.SchemaError>): Poison => {
  const cause = Option.getOrElse(Exit.findErrorOption(exit), () => exit.cause)
  return poison(`the data does not fit the schema: ${String(cause)}`)
}

/** The message, whatever the source's filters say. */
export const read = <A>(
  source: Source<A>,
  { content, originalId, ...place }: Readable
): Result.Result<Message<A>, Poison> => {
  let json: unknown
  try {
    json = parse(content)
  } catch (cause) {
    return Result.fail(poison(noJson(cause)))
  }
  const exit = source[TypeId].decode(json)
  if (Exit.isFailure(exit)) return Result.fail(misfit(exit))
  const data = exit.value as A // decoded by the source's own schema
  return Result.succeed(
    message({ ...place, topic: source.topic, originalId, json, data, attributes: content.attributes })
  )
}

/** What reading an entry for a source comes to. */
export type Reading =
  | { readonly _tag: "Message"; readonly message: Message<unknown> }
  | { readonly _tag: "Filtered" }
  | { readonly _tag: "Poison"; readonly problem: string }
  /** A filter of the user's threw. */
  | { readonly _tag: "Threw"; readonly thrown: unknown }

/** Reads the entries of a log: the message, where the source's filters let it through. */
export const reader = (source: Source<unknown>, place: Place): ((originalId: string, content: Content) => Reading) => {
  const { accepts, decode, keeps } = source[TypeId]
  const messageOf = messages({ ...place, topic: source.topic })
  return (originalId, content) => {
    let json: unknown
    try {
      json = parse(content)
    } catch (cause) {
      return { _tag: "Poison", problem: noJson(cause) }
    }
    try {
      if (accepts.length > 0) {
        // made for them alone: they may keep what they are shown
        const shown = messageOf(originalId, typeOf(source.topic, json), json, content.attributes)
        for (const accept of accepts) if (!accept(shown)) return filtered
      }
      const exit = decode(json)
      if (Exit.isFailure(exit)) return { _tag: "Poison", problem: misfit(exit).message }
      const data = exit.value
      for (const keep of keeps) if (!keep(data)) return filtered
      return { _tag: "Message", message: messageOf(originalId, typeOf(source.topic, json), data, content.attributes) }
    } catch (thrown) {
      return { _tag: "Threw", thrown }
    }
  }
}

const filtered: Reading = { _tag: "Filtered" }
