/**
 * How a message becomes the fields of a Redis entry, and what Clutch writes beside them.
 *
 * A plain entry has one field, `data`, which is JSON and readable with `XRANGE`. A second one, `ce`, is a JSON object of
 * the CloudEvents attributes that differ from what is derived. Whatever Clutch moves (to the due set, the retry stream, the
 * dead letters) keeps the fields it found, byte for byte, and adds `clutch`: where it came from, and why.
 *
 * The codec is a value, so that another wire format can take its place; `clutch` and netstrings belong to no codec.
 *
 * @since 0.1.0
 */
import { Attributes } from "@clutch/core/Message"
import type { Content, DeadLetterReason, Entry, Outgoing } from "@clutch/core/Transport"
import * as Predicate from "effect/Predicate"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import { isUtf8 } from "node:buffer"

/**
 * An entry's fields as stored: name, value, name, value, …
 *
 * @category models
 * @since 0.1.0
 */
export type Fields = ReadonlyArray<Buffer>

/**
 * A wire format.
 *
 * @category models
 * @since 0.1.0
 */
export interface Codec {
  /** What the format is called. */
  readonly name: string
  /** Name, value, name, value, …: no name twice, no value empty, and never the field `clutch`. */
  readonly encode: (message: Outgoing) => ReadonlyArray<string>
  /** A sentence where the fields are none of this format's. Other fields than its own are passed over. */
  readonly decode: (fields: Fields) => Result.Result<Content, string>
}

// -----------------------------------------------------------------------------
// fields
// -----------------------------------------------------------------------------

/**
 * The value of the first field of this name.
 *
 * @category fields
 * @since 0.1.0
 */
export const field = (fields: Fields, name: string): Buffer | undefined => {
  for (let i = 0; i + 1 < fields.length; i += 2) {
    const found = fields[i]
    if (found !== undefined && is(found, name)) return fields[i + 1]
  }
  return undefined
}

/** Byte by byte, as names are compared once a field and an entry, and a text made of each would cost more. */
const is = (bytes: Buffer, name: string): boolean => {
  if (bytes.length !== name.length) return false
  for (let i = 0; i < name.length; i++) if (bytes[i] !== name.charCodeAt(i)) return false
  return true
}

/**
 * The fields without those of this name.
 *
 * @category fields
 * @since 0.1.0
 */
export const without = (fields: Fields, name: string): Fields => {
  const kept: Array<Buffer> = []
  for (let i = 0; i + 1 < fields.length; i += 2) {
    const found = fields[i]
    const value = fields[i + 1]
    if (found !== undefined && value !== undefined && found.toString("latin1") !== name) kept.push(found, value)
  }
  return kept
}

/**
 * How many bytes the names and values have.
 *
 * @category fields
 * @since 0.1.0
 */
export const size = (fields: Fields): number => {
  let total = 0
  for (const part of fields) total += part.length
  return total
}

const comma = Buffer.from(",")

/**
 * Fields as one string of bytes: a netstring each (`4:data,12:{"total":42},`), so that any bytes may be in them.
 *
 * @category fields
 * @since 0.1.0
 */
export const netstrings = (fields: ReadonlyArray<string | Buffer>): Buffer => {
  const parts: Array<Buffer> = []
  for (const part of fields) {
    const value = typeof part === "string" ? Buffer.from(part) : part
    parts.push(Buffer.from(`${value.length}:`), value, comma)
  }
  return Buffer.concat(parts)
}

/**
 * The fields that `netstrings` was given; a sentence where these bytes are not its work.
 *
 * @category fields
 * @since 0.1.0
 */
export const parseNetstrings = (encoded: Buffer): Result.Result<Fields, string> => {
  const fields: Array<Buffer> = []
  let at = 0
  while (at < encoded.length) {
    const colon = encoded.indexOf(0x3a, at)
    // ten digits are more than a Redis string can be long
    const digits = colon < 0 || colon - at > 10 ? "" : encoded.toString("latin1", at, colon)
    if (!/^(0|[1-9]\d*)$/.test(digits)) return Result.fail(`no length at byte ${at}`)
    const start = colon + 1
    const end = start + Number(digits)
    if (end >= encoded.length || encoded[end] !== 0x2c) return Result.fail(`no comma at byte ${end}`)
    fields.push(encoded.subarray(start, end))
    at = end + 1
  }
  return fields.length > 0 && fields.length % 2 === 0
    ? Result.succeed(fields)
    : Result.fail(`${fields.length} strings are no pairs of name and value`)
}

// -----------------------------------------------------------------------------
// the native format
// -----------------------------------------------------------------------------

/**
 * What the bytes of JSON say, by a schema; a sentence where they are none, or do not fit. What is seen to fit at a glance
 * needs no schema.
 */
const decoder = <A>(
  schema: Schema.Codec<A, unknown>,
  fits?: (json: unknown) => json is A,
  parse: (text: string) => unknown = (text) => JSON.parse(text)
): ((bytes: Buffer) => Result.Result<A, string>) => {
  // a schema of JSON text does the same, at several times the cost
  const decode = Schema.decodeUnknownResult(schema)
  return (bytes) => {
    try {
      const json = parse(bytes.toString())
      return fits !== undefined && fits(json)
        ? Result.succeed(json)
        : Result.mapError(decode(json), ({ message }) => message)
    } catch (thrown) {
      return Result.fail(String(thrown))
    }
  }
}

const texts: ReadonlySet<string> = new Set(Object.keys(Attributes.fields).filter((name) => name !== "headers"))

/** By hand, since each message with a key has some: nothing but what is known, and each a text. */
const isAttributes = (json: unknown): json is Attributes => {
  if (!Predicate.isObject(json)) return false
  for (const name of Object.keys(json)) if (!texts.has(name) || typeof json[name] !== "string") return false
  return true
}

/** A key and nothing else, with nothing escaped in it. */
const keyAlone = /^\{"partitionkey":"([ !#-[\]-\uffff]*)"\}$/

/** By hand where there is a key alone, as in most messages with one: JSON.parse looks its text up among all there are. */
const parseAttributes = (text: string): unknown => {
  const partitionkey = keyAlone.exec(text)?.[1]
  return partitionkey === undefined ? JSON.parse(text) : { partitionkey }
}

const decodeAttributes = decoder(Attributes, isAttributes, parseAttributes)

/** Copied and not spelt: the engine allots what literals make among what lives long, once many waited for an answer. */
const plain: ReadonlyArray<string> = Array.of("data", "")
const extended: ReadonlyArray<string> = Array.of("data", "", "ce", "")

/**
 * Clutch's own format: `data`, and `ce` where an attribute differs from what is derived.
 *
 * @category codecs
 * @since 0.1.0
 */
export const native: Codec = {
  name: "native",
  encode: ({ attributes, data }) => {
    const fields = (attributes === undefined ? plain : extended).slice()
    fields[1] = data
    if (attributes !== undefined) fields[3] = JSON.stringify(attributes)
    return fields
  },
  decode: (fields) => {
    const data = field(fields, "data")
    if (data === undefined) return Result.fail(`the entry has no field "data"`)
    const ce = field(fields, "ce")
    if (ce === undefined) return Result.succeed({ data, attributes: undefined })
    const attributes = decodeAttributes(ce)
    return Result.isSuccess(attributes)
      ? Result.succeed({ data, attributes: attributes.success })
      : Result.fail(`the field "ce" is no JSON object of CloudEvents attributes: ${attributes.failure}`)
  }
}

/**
 * What a person is shown of an entry that may not be decodable: the bytes of `data`, else all of its fields as netstrings.
 *
 * @category fields
 * @since 0.1.0
 */
export const raw = (fields: Fields): Buffer => field(fields, "data") ?? netstrings(fields)

// -----------------------------------------------------------------------------
// the field `clutch`
// -----------------------------------------------------------------------------

/**
 * What `clutch` says on an entry of the retry stream, and in a member of the due set.
 *
 * @category models
 * @since 0.1.0
 */
export interface RetryMeta {
  /** The entry's id in the topic's own stream. */
  readonly original: string
  /** Attempts made before this entry was written; 0 after a redrive. */
  readonly attempt: number
  /** First delivery to this group, in ms by the server's clock; none on what was redriven without a known one. */
  readonly first: number | undefined
  /** When the last attempt failed, in ms by the server's clock. */
  readonly failed: number | undefined
  /** The last failure, in words. */
  readonly cause: string | undefined
  /** The dead letter's id, where this was redriven. */
  readonly redriven: string | undefined
  /** In an ordered group, the key that it holds back. */
  readonly key: string | undefined
}

/**
 * What `clutch` says on a dead letter.
 *
 * @category models
 * @since 0.1.0
 */
export interface DeadMeta {
  /** The entry's id in the topic's own stream. */
  readonly original: string
  /** Why it will not be tried again. */
  readonly reason: DeadLetterReason
  /** The last failure, in words. */
  readonly cause: string
  /** How many attempts were counted. */
  readonly attempts: number
  /** The key of the stream it was delivered from. */
  readonly from: string
  /** First delivery to this group, in ms by the server's clock; none where nobody knows. */
  readonly first: number | undefined
  /** When it became a dead letter, in ms by the server's clock. */
  readonly failed: number | undefined
  /** The dead letter that this one was redriven from, where it was. */
  readonly redriven: string | undefined
}

// what is no entry id has no place in the topic's log
const entryId = /^\d{1,20}-\d{1,20}$/
const EntryId = Schema.String.check(Schema.isPattern(entryId))

const isMaybe = {
  string: (value: unknown): value is string | undefined => value === undefined || typeof value === "string",
  // JSON has no others than finite ones, but for those that are too large to be read
  number: (value: unknown): value is number | undefined => value === undefined || Number.isFinite(value)
}

/** By hand, since it is done for each retry: a schema takes several times as long. What does not fit, or all of it. */
const retryOf = (told: unknown): RetryMeta | string => {
  if (typeof told !== "object" || told === null) return "it is no object"
  const { attempt, cause, failed, first, key, original, redriven }: { readonly [K in keyof RetryMeta]?: unknown } = told
  if (typeof original !== "string" || !entryId.test(original)) return "original is no entry id"
  if (typeof attempt !== "number" || !Number.isSafeInteger(attempt) || attempt < 0) return "attempt is no count"
  if (!isMaybe.number(first)) return "first is no number"
  if (!isMaybe.number(failed)) return "failed is no number"
  if (!isMaybe.string(cause)) return "cause is no text"
  if (!isMaybe.string(redriven)) return "redriven is no text"
  if (!isMaybe.string(key)) return "key is no text"
  return { original, attempt, first, failed, cause, redriven, key }
}

const Dead = Schema.Struct({
  original: EntryId,
  reason: Schema.Literals(["exhausted", "notRetryable", "poison", "rejected"]),
  cause: Schema.String,
  attempts: Schema.Int,
  from: Schema.optional(Schema.String),
  first: Schema.optional(Schema.Finite),
  failed: Schema.optional(Schema.Finite),
  redriven: Schema.optional(Schema.String)
})

const decodeDead = decoder(Dead)

/**
 * Reads `clutch` of a retry; a sentence where it is missing or none.
 *
 * @category clutch
 * @since 0.1.0
 */
export const retryMeta = (fields: Fields): Result.Result<RetryMeta, string> => {
  const clutch = field(fields, "clutch")
  if (clutch === undefined) return Result.fail(`the entry has no field "clutch"`)
  try {
    const meta = retryOf(JSON.parse(clutch.toString()))
    return typeof meta === "object" ? Result.succeed(meta) : Result.fail(`the field "clutch" cannot be read: ${meta}`)
  } catch (thrown) {
    return Result.fail(`the field "clutch" cannot be read: ${String(thrown)}`)
  }
}

/**
 * Reads `clutch` of a dead letter; a sentence where it is missing or none.
 *
 * @category clutch
 * @since 0.1.0
 */
export const deadMeta = (fields: Fields): Result.Result<DeadMeta, string> => {
  const clutch = field(fields, "clutch")
  if (clutch === undefined) return Result.fail(`the dead letter has no field "clutch"`)
  const meta = decodeDead(clutch)
  if (Result.isFailure(meta)) return Result.fail(`the field "clutch" cannot be read: ${meta.failure}`)
  const { attempts, cause, failed, first, from, original, reason, redriven } = meta.success
  return Result.succeed({ original, reason, cause, attempts, from: from ?? "", first, failed, redriven })
}

/**
 * What a worker says of a failure. The times are the script's to add, from the server's clock: `clutch` is the text of a
 * JSON object that is still open at its end.
 *
 * @category models
 * @since 0.1.0
 */
export interface OpenMeta {
  /** Without its closing brace: the script adds the times. */
  readonly clutch: string
  /** The fields that are kept, as netstrings: text where all of them are UTF-8, as that is what a client writes quickest. */
  readonly fields: Buffer | string
}

const open = (object: Readonly<Record<string, string | number | undefined>>): string =>
  JSON.stringify(object).slice(0, -1)

/** A field `clutch` that Clutch did not write, or can no longer read, is somebody's data: kept under another name. */
const keep = (fields: Fields, origin: Entry["origin"]): Buffer | string => {
  const own = field(fields, "clutch")
  if (own === undefined) return textOrBytes(fields)
  const kept = without(fields, "clutch")
  const ours = origin === "retry" && Result.isSuccess(retryMeta(fields))
  return textOrBytes(ours ? kept : [...kept, Buffer.from("clutch.original"), own])
}

/** Netstrings, whose lengths are those of the bytes. */
const textOrBytes = (fields: Fields): Buffer | string => {
  let text = ""
  for (const part of fields) {
    if (!isUtf8(part)) return netstrings(fields)
    text += `${part.length}:${part.toString()},`
  }
  return text
}

/**
 * What `fail` and `order` store of a delivery that is retried or parked. `attempt` counts the attempts made, this one included.
 *
 * @category clutch
 * @since 0.1.0
 */
export const openRetry = (
  origin: Entry["origin"],
  fields: Fields,
  {
    attempt,
    cause,
    key,
    original,
    redriven
  }: Omit<RetryMeta, "first" | "failed" | "key"> & Partial<Pick<RetryMeta, "key">>
): OpenMeta => ({ clutch: open({ original, attempt, redriven, key, cause }), fields: keep(fields, origin) })

/**
 * What `fail` stores of a delivery that becomes a dead letter.
 *
 * @category clutch
 * @since 0.1.0
 */
export const openDead = (
  origin: Entry["origin"],
  fields: Fields,
  { attempts, cause, from, original, reason, redriven }: Omit<DeadMeta, "first" | "failed">
): OpenMeta => ({
  clutch: open({ original, reason, attempts, from, redriven, cause }),
  fields: keep(fields, origin)
})
