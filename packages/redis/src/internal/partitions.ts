/**
 * How many partitions a topic has.
 */
import type { TransportError } from "@clutch/core/Errors"
import * as Effect from "effect/Effect"
import * as Keys from "../RedisKeys.ts"
import * as Scripts from "../Scripts.ts"
import type { Shared } from "./shared.ts"

/** Records the number again, where a group had disappeared, and the record probably with it. */
export const recordAgain = async ({ client, namespace, partitions }: Shared, topic: string): Promise<void> => {
  const count = partitions.get(topic)
  if (count !== undefined) {
    await client.execute(Scripts.partitions, { keys: Keys.topic(namespace, topic), count, from: 1 })
  }
}

export const make = ({ client, namespace, partitions }: Shared) => {
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

  const known = (topic: string, count: number): number => {
    if (count > 1) partitions.set(topic, count)
    else partitions.delete(topic)
    return count
  }

  return {
    partitions: (topic: string, count: number) =>
      Effect.flatMap(ask(topic, count), (found) =>
        found.recorded || found.count === count
          ? Effect.succeed(found.count)
          : Effect.flatMap(areThere(topic, count), (there) => (there ? change(topic, 1, count) : Effect.succeed(1)))
      ).pipe(Effect.map((found) => known(topic, found))),
    repartition: (topic: string, { from, to }: { readonly from: number; readonly to: number }) =>
      Effect.map(change(topic, from, to), (found) => known(topic, found))
  }
}
