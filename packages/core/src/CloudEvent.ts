/**
 * A message in CloudEvents' JSON event format (1.0, JSON Event Format §3): what other systems read and write.
 *
 * A header whose name CloudEvents allows for an extension (lower-case letters and digits, up to 20, §3.1 of the
 * specification) becomes an extension attribute of that name; the others travel together in the extension
 * `clutchheaders`, as JSON text. Reading turns every extension it does not know into a header, so that nothing of a
 * foreign event is lost but its `dataschema`.
 *
 * @since 0.1.0
 */
import * as DateTime from "effect/DateTime"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import type { Message } from "./Message.ts"
import type { DataCodec } from "./Source.ts"

const Core = Schema.Struct({
  specversion: Schema.Literal("1.0"),
  id: Schema.NonEmptyString,
  source: Schema.NonEmptyString,
  type: Schema.NonEmptyString,
  time: Schema.optional(Schema.DateTimeUtcFromString),
  subject: Schema.optional(Schema.String),
  datacontenttype: Schema.optional(Schema.String),
  partitionkey: Schema.optional(Schema.String),
  traceparent: Schema.optional(Schema.String),
  tracestate: Schema.optional(Schema.String),
  clutchheaders: Schema.optional(Schema.String),
  data: Schema.optional(Schema.Unknown)
})

const decodeCore = Schema.decodeUnknownExit(Core)

/** Names that a header must not take as an extension: CloudEvents' own, in this version or as data. */
const known: ReadonlySet<string> = new Set([...Object.keys(Core.fields), "data_base64", "dataschema"])

const isExtensionName = (name: string): boolean => /^[a-z0-9]{1,20}$/.test(name) && !known.has(name)

/**
 * A CloudEvent as a JSON value.
 *
 * @category models
 * @since 0.1.0
 */
export type CloudEvent = { readonly [attribute: string]: unknown }

/**
 * Writes a message as a CloudEvent. Build it once for a schema. Fails where the data does not fit the schema.
 *
 * @category encoding
 * @since 0.1.0
 */
export const encode = <S extends DataCodec>(
  schema: S
): ((message: Message<S["Type"]>) => Result.Result<CloudEvent, Schema.SchemaError>) => {
  const encodeData = Schema.encodeUnknownExit(Schema.toCodecJson(schema))
  return (message) => {
    const data = encodeData(message.data)
    if (Exit.isFailure(data)) return failure(data)
    const headers = Object.entries(message.headers)
    const others = headers.filter(([name]) => !isExtensionName(name))
    return Result.succeed({
      specversion: "1.0",
      id: message.id,
      source: message.source,
      type: message.type,
      time: DateTime.formatIso(message.time),
      ...optional("subject", message.subject),
      ...optional("partitionkey", message.partitionkey),
      ...optional("traceparent", message.traceparent),
      ...optional("tracestate", message.tracestate),
      ...Object.fromEntries(headers.filter(([name]) => isExtensionName(name))),
      ...optional("clutchheaders", others.length === 0 ? undefined : JSON.stringify(Object.fromEntries(others))),
      datacontenttype: "application/json",
      data: data.value
    })
  }
}

/**
 * Reads a CloudEvent. Build it once for a schema. An event without `time` gets the epoch: CloudEvents leaves it open.
 * Fails where an attribute or the data does not fit.
 *
 * @category decoding
 * @since 0.1.0
 */
export const decode = <S extends DataCodec>(
  schema: S
): ((event: unknown) => Result.Result<Message<S["Type"]>, Schema.SchemaError>) => {
  const decodeData = Schema.decodeUnknownExit(Schema.toCodecJson(schema))
  return (event) => {
    const core = decodeCore(event)
    if (Exit.isFailure(core)) return failure(core)
    const data = decodeData(core.value.data)
    if (Exit.isFailure(data)) return failure(data)
    const {
      clutchheaders,
      datacontenttype: _json,
      data: _encoded,
      specversion: _version,
      time,
      ...attributes
    } = core.value
    const extensions = Object.entries(event as CloudEvent) // decodeCore has shown that it is an object
      .filter(([name, value]) => !known.has(name) && value !== null)
      .map(([name, value]) => [name, typeof value === "string" ? value : JSON.stringify(value)] as const)
    return Result.succeed({
      ...attributes,
      time: time ?? DateTime.makeUnsafe(0),
      headers: { ...Object.fromEntries(extensions), ...otherHeaders(clutchheaders) },
      data: data.value
    })
  }
}

/** By hand, as a header may be called `__proto__`. What is no object of texts was written by somebody else: a header. */
const otherHeaders = (text: string | undefined): Readonly<Record<string, string>> => {
  if (text === undefined) return {}
  try {
    const headers: unknown = JSON.parse(text)
    if (isTexts(headers)) return headers
  } catch {
    // no JSON at all
  }
  return { clutchheaders: text }
}

const isTexts = (value: unknown): value is Readonly<Record<string, string>> =>
  typeof value === "object" && value !== null && Object.values(value).every((text) => typeof text === "string")

const optional = (name: string, value: string | undefined) => (value === undefined ? {} : { [name]: value })

const failure = (exit: Exit.Failure<unknown, Schema.SchemaError>) =>
  Option.match(Exit.findErrorOption(exit), {
    onSome: (error) => Result.fail(error),
    // a schema without services, run synchronously, fails with a SchemaError or has a defect of its own
    onNone: () => {
      throw exit.cause
    }
  })
