/** A stored entry as a message: what is derived from its id and place, overlaid with its attributes. */
import * as DateTime from "effect/DateTime"
import * as Option from "effect/Option"
import type { Attributes, Message } from "../Message.ts"
import * as dates from "./dates.ts"

export interface Stored<out A> {
  readonly namespace: string
  readonly topic: string
  /** Default 0. */
  readonly partition?: number | undefined
  readonly originalId: string
  /** The data as JSON, of which the type is derived. */
  readonly json: unknown
  /** The data as the message shows it. */
  readonly data: A
  readonly attributes: Attributes | undefined
}

export const message = <A>(entry: Stored<A>): Message<A> => {
  const { attributes, data, json, namespace, originalId, partition = 0, topic } = entry
  const derived = {
    // ids are made anew by each log
    id: partition === 0 ? originalId : `${originalId}/${partition}`,
    source: `/${namespace}/${topic}`,
    type: typeOf(topic, json),
    time: timeOf(millisOf(originalId)),
    data,
    headers: noHeaders
  }
  if (attributes === undefined) return derived
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

export const millisOf = (entryId: string): number => Number(entryId.slice(0, entryId.indexOf("-")))

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
