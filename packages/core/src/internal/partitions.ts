/** Which partition a message goes to, and whether a topic has as many as it is said to have. */
import * as Effect from "effect/Effect"
import { InvalidOption, TransportError } from "../Errors.ts"
import type { Log, Transport } from "../Transport.ts"
import { shown } from "./shown.ts"

/** More than this many logs cost every worker more than they can spread. */
const most = 1024

export const partitionsProblem = (partitions: number): InvalidOption | undefined =>
  Number.isSafeInteger(partitions) && partitions >= 1 && partitions <= most
    ? undefined
    : new InvalidOption({
        option: "partitions",
        problem: `${shown(partitions)} is no count of partitions: give a whole number from 1 to ${most}, or leave it out for 1`
      })

export const logsOf = (topic: string, partitions: number): ReadonlyArray<Log> =>
  Array.from({ length: partitions }, (_, partition) => ({ topic, partition }))

/** The partition of a key: MurmurHash3 (x86, 32 bits, seed 0) of its UTF-8, modulo the number of partitions. */
export const partitionOf = (key: string, partitions: number): number =>
  partitions === 1 ? 0 : murmur3(encoder.encode(key)) % partitions

const encoder = /* @__PURE__ */ new TextEncoder()

const rotate = (bits: number, by: number) => (bits << by) | (bits >>> (32 - by))
const scramble = (block: number) => Math.imul(rotate(Math.imul(block, 0xcc9e2d51), 15), 0x1b873593)

/** Austin Appleby's MurmurHash3_x86_32, which is in the public domain, with seed 0. */
export const murmur3 = (bytes: Uint8Array): number => {
  const blocks = bytes.length & ~3
  let hash = 0
  for (let at = 0; at < blocks; at += 4) {
    const block =
      (bytes[at] ?? 0) | ((bytes[at + 1] ?? 0) << 8) | ((bytes[at + 2] ?? 0) << 16) | ((bytes[at + 3] ?? 0) << 24)
    hash = (Math.imul(rotate(hash ^ scramble(block), 13), 5) + 0xe6546b64) | 0
  }
  let tail = 0
  for (let at = bytes.length - 1; at >= blocks; at -= 1) tail = (tail << 8) | (bytes[at] ?? 0)
  if (bytes.length > blocks) hash ^= scramble(tail)
  hash ^= bytes.length
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b)
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35)
  return (hash ^ (hash >>> 16)) >>> 0
}

/** What a Transport said of its topics. It is asked once for each: a count changes only where nobody uses the topic. */
const known = new WeakMap<Transport["Service"], Map<string, number>>()

export const forget = (transport: Transport["Service"], topic: string): void => {
  known.get(transport)?.delete(topic)
}

const turns = new WeakMap<Transport["Service"], Map<string, number>>()

/** A number for each topic of a Transport. */
const topicsOf = (numbers: typeof known, transport: Transport["Service"]): Map<string, number> => {
  const topics = numbers.get(transport) ?? new Map<string, number>()
  numbers.set(transport, topics)
  return topics
}

/** Whether the log has agreed before. */
export const isConfirmed = (transport: Transport["Service"], topic: string, partitions: number): boolean =>
  topicsOf(known, transport).get(topic) === partitions

/** Succeeds where the log agrees that the topic has so many partitions. */
export const confirm = (
  transport: Transport["Service"],
  topic: string,
  partitions: number,
  operation: string
): Effect.Effect<void, TransportError> =>
  Effect.suspend(() => {
    if (isConfirmed(transport, topic, partitions)) return Effect.void
    return Effect.flatMap(transport.partitions(topic, partitions), (recorded) => {
      if (recorded !== partitions) {
        const problem = `the topic has ${recorded}, not ${partitions}: give ${recorded}, or change it by Topic.repartition`
        return Effect.fail(
          new TransportError({ operation, reason: new InvalidOption({ option: "partitions", problem }) })
        )
      }
      topicsOf(known, transport).set(topic, recorded)
      return Effect.void
    })
  })

/** The next partition of a topic without a key. */
export const turn = (transport: Transport["Service"], topic: string, partitions: number): number => {
  if (partitions === 1) return 0
  const topics = topicsOf(turns, transport)
  const next = topics.get(topic) ?? 0
  topics.set(topic, (next + 1) % partitions)
  return next % partitions
}
