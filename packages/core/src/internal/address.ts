/** From what a user holds (a subscription, an address) to a group on the log, with its names checked. */
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import type { Address } from "../Address.ts"
import { type InvalidName, type InvalidOption, TransportError } from "../Errors.ts"
import * as Names from "../Names.ts"
import { type Source, TypeId } from "../Source.ts"
import type { Group, Log } from "../Transport.ts"
import { partitionsProblem } from "./partitions.ts"

export const check = ({ name, source }: Address): Result.Result<Group, InvalidName | InvalidOption> => {
  const problem =
    Names.invalid("topic", source.topic) ??
    Names.invalid("subscription", name) ??
    source[TypeId].problem ??
    partitionsProblem(source[TypeId].partitions)
  return problem === undefined
    ? Result.succeed({ topic: source.topic, partition: 0, subscription: name })
    : Result.fail(problem)
}

/** Every log of a topic. */
export const logs = (source: Source<unknown>, operation: string): Effect.Effect<ReadonlyArray<Log>, TransportError> =>
  Effect.suspend(() => {
    const { partitions, problem } = source[TypeId]
    const reason = Names.invalid("topic", source.topic) ?? problem ?? partitionsProblem(partitions)
    return reason === undefined
      ? Effect.succeed(Array.from({ length: partitions }, (_, partition) => ({ topic: source.topic, partition })))
      : Effect.fail(new TransportError({ operation, reason }))
  })

export const group = (self: Address, operation: string): Effect.Effect<Group, TransportError> =>
  Effect.suspend(() =>
    Effect.fromResult(Result.mapError(check(self), (reason) => new TransportError({ operation, reason })))
  )
