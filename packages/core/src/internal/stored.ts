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
  const derived = {
    // ids are made anew by each log
    id: partition === 0 ? originalId : `${originalId}/${partition}`,
    source,
    type,
    time: timeOf(originalId),
    data,
    headers: noHeaders
  }
  return attributes === undefined ? derived : overlaid(derived, attributes)
}

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

/** Digit by digit, as it is asked once a message at least, and a text made each time would cost more. */
export const millisOf = (entryId: string): number => {
  let millis = 0
  for (let at = 0; at < entryId.length; at++) {
    const digit = entryId.charCodeAt(at) - 48
    if (digit >= 0 && digit <= 9) millis = millis * 10 + digit
    else return digit === dash && at > 0 ? millis : Number.NaN
  }
  return Number.NaN
}

const dash = "-".charCodeAt(0) - 48

const isTagged = (json: unknown): json is { readonly _tag: string } =>
  typeof json === "object" && json !== null && "_tag" in json && typeof json._tag === "string"

export const typeOf = (topic: string, json: unknown): string => (isTagged(json) ? json._tag : topic)

let lastTime = /* @__PURE__ */ DateTime.makeUnsafe(0)
let lastMillis = "0-"

/** Entries of one millisecond share theirs: it costs as much as the rest of a message. */
const timeOf = (entryId: string): DateTime.Utc => {
  if (entryId.startsWith(lastMillis)) return lastTime
  const time = dates.ofMillis(millisOf(entryId))
  const dash = entryId.indexOf("-")
  if (dash > 0) {
    lastTime = time
    lastMillis = entryId.slice(0, dash + 1)
  }
  return time
}

const noHeaders: Readonly<Record<string, string>> = {}
