/** Another number of partitions for a topic, where nobody uses it and nothing is left to do. */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { InvalidOption, Refused, TransportError } from "../Errors.ts"
import { type Source, TypeId } from "../Source.ts"
import { Transport } from "../Transport.ts"
import { topicProblem } from "./address.ts"
import { forget, logsOf } from "./partitions.ts"

const operation = "repartition"

const refuse = (reason: TransportError["reason"]) => Effect.fail(new TransportError({ operation, reason }))

export const repartition = (self: Source<unknown>): Effect.Effect<number, TransportError, Transport> =>
  Effect.gen(function* () {
    const { topic } = self
    const { partitions } = self[TypeId]
    const wrong = topicProblem(self)
    if (wrong !== undefined) return yield* refuse(wrong)
    const transport = yield* Transport
    const from = yield* transport.partitions(topic, partitions)
    if (from === partitions) return from
    for (const log of logsOf(topic, from)) {
      for (const { consumers, holds, name } of yield* transport.groups(log)) {
        const { due, parked, pending } = yield* transport.inspect({ ...log, subscription: name })
        const left = Option.isSome(holds) || due + parked + pending > 0
        if (consumers === 0 && !left) continue
        const why =
          consumers > 0 ? `has workers (${consumers}): stop them` : "has not settled all there is: let it finish"
        return yield* refuse(new Refused({ detail: `subscription "${name}" ${why}, or remove it, then try again` }))
      }
    }
    const recorded = yield* transport.repartition(topic, { from, to: partitions })
    forget(transport, topic)
    if (recorded === partitions) return from
    const told = `somebody else has just changed the topic from ${from} to ${recorded}`
    return yield* refuse(
      new InvalidOption({ option: "partitions", problem: `${told}: give ${recorded}, or try again` })
    )
  })
