/** A stored entry as a message: what is derived from its id and place, overlaid with its attributes. */
import * as DateTime from "effect/DateTime"
import * as Option from "effect/Option"
import type { Attributes, Message } from "../Message.ts"
import * as dates from "./dates.ts"

/** Where entries are stored: what their messages have in common. */
export interface Place {
  readonly namespace: string
  readonly topic: string
  /** Default 0. */
  readonly partition?: number | undefined
}

export interface Stored<out A> extends Place {
  readonly originalId: string
  /** The data as JSON, of which the type is derived. */
  readonly json: unknown
  /** The data as the message shows it. */
  readonly data: A
  readonly attributes: Attributes | undefined
}

export const message = <A>(entry: Stored<A>): Message<A> => {
  const { attributes, data, json, originalId, topic } = entry
  return made(sourceOf(entry), entry, originalId, typeOf(topic, json), data, attributes)
}

/** The same for many of one place. */
export const messages = (
  place: Place
): (<A>(originalId: string, type: string, data: A, attributes: Attributes | undefined) => Message<A>) => {
  const source = sourceOf(place)
  return (originalId, type, data, attributes) => made(source, place, originalId, type, data, attributes)
}

const sourceOf = ({ namespace, topic }: Place): string => `/${namespace}/${topic}`

const made = <A>(
  source: string,
  { partition = 0 }: Place,
  originalId: string,
  type: string,
  data: A,
  attributes: Attributes | undefined
): Message<A> => {
  // ids are made anew by each log
  const id = partition === 0 ? originalId : `${originalId}/${partition}`
  const derived = new Derived(id, source, type, timeOf(millisOf(originalId)), data)
  return attributes === undefined ? derived : overlaid(derived, attributes)
}

type Derive = new <A>(id: string, source: string, type: string, time: DateTime.Utc, data: A) => Message<A>

/** Makes plain objects, but by `new`: those of literals are allotted among what lives long, once many waited for handlers. */
const Derived = function <A>(
  this: { -readonly [K in keyof Message<A>]: Message<A>[K] },
  id: string,
  source: string,
  type: string,
  time: DateTime.Utc,
  data: A
) {
  this.id = id
  this.source = source
  this.type = type
  this.time = time
  this.data = data
  this.headers = noHeaders
} as unknown as Derive // no class has plain objects
Derived.prototype = Object.prototype

const overlaid = <A>(derived: Message<A>, attributes: Attributes): Message<A> => {
  const { headers, time, ...others } = attributes
  const given = time === undefined ? Option.none() : DateTime.make(time)
  return {
    ...derived,
    ...others,
    id: attributes.id ?? derived.id,
    source: attributes.source ?? derived.source,
    type: attributes.type ?? derived.type,
    time: Option.isSome(given) ? DateTime.toUtc(given.value) : derived.time,
    headers: headers ?? noHeaders
  }
}

/** What stands before the sequence in the last id that was looked at, and what it says: ids of one millisecond come together. */
let lastPrefix = "0-"
let lastMillis = 0

export const millisOf = (entryId: string): number => {
  if (entryId.startsWith(lastPrefix)) return lastMillis
  const dash = entryId.indexOf("-")
  if (dash < 1) return Number.NaN
  lastPrefix = entryId.slice(0, dash + 1)
  return (lastMillis = Number(entryId.slice(0, dash)))
}

const isTagged = (json: unknown): json is { readonly _tag: string } =>
  typeof json === "object" && json !== null && "_tag" in json && typeof json._tag === "string"

export const typeOf = (topic: string, json: unknown): string => (isTagged(json) ? json._tag : topic)

let lastTime = /* @__PURE__ */ DateTime.makeUnsafe(0)

/** Entries of one millisecond share theirs: it costs as much as the rest of a message. */
const timeOf = (millis: number): DateTime.Utc => {
  if (lastTime.epochMilliseconds !== millis) lastTime = dates.ofMillis(millis)
  return lastTime
}

const noHeaders: Readonly<Record<string, string>> = {}
