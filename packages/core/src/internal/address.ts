/** From what a user holds (a subscription, an address) to its groups on the log, with its names checked. */
import type { NonEmptyReadonlyArray } from "effect/Array"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import type { Address } from "../Address.ts"
import { type InvalidName, type InvalidOption, TransportError } from "../Errors.ts"
import * as Names from "../Names.ts"
import { type Source, TypeId } from "../Source.ts"
import { type Group, type Log, Transport } from "../Transport.ts"
import { confirm, logsOf, partitionsProblem } from "./partitions.ts"

/** A subscription's groups, one a partition. */
export type Groups = NonEmptyReadonlyArray<Group>

export const check = ({ name, source }: Address): Result.Result<Groups, InvalidName | InvalidOption> => {
  const { partitions, problem } = source[TypeId]
  const wrong =
    Names.invalid("topic", source.topic) ??
    Names.invalid("subscription", name) ??
    problem ??
    partitionsProblem(partitions)
  if (wrong !== undefined) return Result.fail(wrong)
  const [first, ...others] = logsOf(source.topic, partitions).map((log) => ({ ...log, subscription: name }))
  return Result.succeed([first ?? { topic: source.topic, partition: 0, subscription: name }, ...others])
}

/** What is wrong with a topic, whoever uses it. */
export const topicProblem = (
  source: Pick<Source<unknown>, "topic" | typeof TypeId>
): InvalidName | InvalidOption | undefined =>
  Names.invalid("topic", source.topic) ?? source[TypeId].problem ?? partitionsProblem(source[TypeId].partitions)

/** Every log of a topic. */
export const logs = (
  source: Source<unknown>,
  operation: string
): Effect.Effect<ReadonlyArray<Log>, TransportError, Transport> =>
  Effect.gen(function* () {
    const { partitions } = source[TypeId]
    const reason = topicProblem(source)
    if (reason !== undefined) return yield* new TransportError({ operation, reason })
    yield* confirm(yield* Transport, source.topic, partitions, operation)
    return logsOf(source.topic, partitions)
  })

/** Checked against the log too: with another number of partitions, some would not be looked at. */
export const groups = (self: Address, operation: string): Effect.Effect<Groups, TransportError, Transport> =>
  Effect.suspend(() => {
    const checked = Result.mapError(check(self), (reason) => new TransportError({ operation, reason }))
    return Effect.flatMap(Effect.fromResult(checked), (groups) =>
      Effect.flatMap(Transport, (transport) =>
        Effect.as(confirm(transport, self.source.topic, groups.length, operation), groups)
      )
    )
  })
