/** From data to what is stored: encoded by the topic's schema, as JSON text, with the attributes that cannot be derived. */
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import { Encode } from "../Errors.ts"
import type { Attributes } from "../Message.ts"
import type { Outgoing } from "../Transport.ts"
import { typeOf } from "./stored.ts"
import type { Writer } from "./writer.ts"

/** A class, as the engine allots what literals make among what lives long, once it has seen many wait for an answer. */
export class Encoded implements Outgoing {
  readonly data: string
  readonly attributes: Attributes | undefined
  /** The type that the data speaks for itself. */
  readonly type: string

  constructor(data: string, attributes: Attributes | undefined, type: string) {
    this.data = data
    this.attributes = attributes
    this.type = type
  }
}

/** The attributes that are there; `undefined` where none is, so that a plain message stays one field. */
export const given = (attributes: Attributes): Attributes | undefined => {
  const entries = Object.entries(attributes).filter(([, value]) => value !== undefined)
  return entries.length === 0 ? undefined : Object.fromEntries(entries)
}

/** All of them, or the first that cannot be encoded. `common` is what all carry. */
export const encode = (
  topic: string,
  writer: Writer,
  data: ReadonlyArray<unknown>,
  common: Attributes | undefined
): Result.Result<ReadonlyArray<Encoded>, Encode> => {
  try {
    return Result.succeed(data.map((one) => encodeOne(topic, writer, one, common)))
  } catch (cause) {
    // by the schema or JSON, or below: a Result for each message would cost as much as encoding it
    return Result.fail(cause instanceof Encode ? cause : new Encode({ detail: String(cause), cause }))
  }
}

const encodeOne = (topic: string, writer: Writer, data: unknown, common: Attributes | undefined): Encoded => {
  const exit = writer.encode(data)
  if (Exit.isFailure(exit)) {
    const cause = Option.getOrElse(Exit.findErrorOption(exit), () => exit.cause)
    throw new Encode({ detail: `it does not fit the topic's schema: ${String(cause)}`, cause })
  }
  const json: unknown = exit.value
  const text: unknown = JSON.stringify(json)
  // JSON has no undefined: such data would come back as nothing at all
  if (typeof text !== "string") throw new Encode({ detail: "the encoded data is no JSON value" })
  const partitionkey = keyOf(writer, data)
  const attributes = partitionkey === undefined ? common : Object.assign({ partitionkey }, common)
  return new Encoded(text, attributes, typeOf(topic, json))
}

const keyOf = (writer: Writer, data: unknown): string | undefined => {
  const key = called(writer, data)
  if (key === undefined) return key
  if (typeof key !== "string") {
    const returned = key === null ? "null" : typeof key
    throw new Encode({ detail: `the topic's \`key\` returned ${returned}: return a text` })
  }
  // half of a character would be stored as another one, and two keys would be one
  if (!key.isWellFormed())
    throw new Encode({ detail: "the topic's `key` returned half of a character: return whole ones" })
  return key
}

const called = (writer: Writer, data: unknown): unknown => {
  try {
    return writer.key?.(data)
  } catch (cause) {
    throw new Encode({ detail: `the topic's \`key\` threw ${String(cause)}`, cause })
  }
}
