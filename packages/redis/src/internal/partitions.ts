/**
 * How many partitions a topic has.
 */
import type { TransportError } from "@clutch/core/Errors"
import * as Effect from "effect/Effect"
import * as Keys from "../RedisKeys.ts"
import * as Scripts from "../Scripts.ts"
import type { Shared } from "./shared.ts"

export const make = ({ client, namespace }: Shared) => {
  const ask = (topic: string, count: number, from?: number): Effect.Effect<Scripts.Counted, TransportError> =>
    client.run(Scripts.partitions, { keys: Keys.topic(namespace, topic), count, from })
  const change = (topic: string, from: number, to: number): Effect.Effect<number, TransportError> =>
    Effect.map(ask(topic, to, from), ({ count }) => count)

  /** The record may be gone, with a key or a server, while the others go on: logs of further partitions tell of them. */
  const areThere = (topic: string, count: number): Effect.Effect<boolean, TransportError> =>
    client.attempt("partitions", async () => {
      const further = Array.from({ length: count - 1 }, (_, i) => Keys.log(namespace, { topic, partition: i + 1 }).main)
      const found = await Promise.all(further.map((main) => client.at(main).submit("EXISTS", [main])))
      return found.includes(1)
    })

  return {
    partitions: (topic: string, count: number) =>
      Effect.flatMap(ask(topic, count), (found) =>
        found.recorded || found.count === count
          ? Effect.succeed(found.count)
          : Effect.flatMap(areThere(topic, count), (there) => (there ? change(topic, 1, count) : Effect.succeed(1)))
      ),
    repartition: (topic: string, { from, to }: { readonly from: number; readonly to: number }) =>
      change(topic, from, to)
  }
}
