/** Another number of partitions for a topic, where nobody uses it and nothing is left to do. */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import { InvalidOption, Refused, TransportError } from "../Errors.ts"
import * as Names from "../Names.ts"
import { type Source, TypeId } from "../Source.ts"
import {
  type Consumer,
  type EnrollOptions,
  type Group,
  type GroupStanding,
  type Inspection,
  type Log,
  Transport,
  type Worker
} from "../Transport.ts"
import { topicProblem } from "./address.ts"
import { forget, logsOf } from "./partitions.ts"

const operation = "repartition"

/** A place that is left as soon as it is taken: any will do. */
const visibilityTimeout = Duration.seconds(30)

/** So that whoever publishes before the first worker is there does not publish before the group. */
const createGroup = (
  transport: Transport["Service"],
  group: Group,
  ordered: boolean
): Effect.Effect<void, TransportError> => {
  const options: EnrollOptions = { group, consumer: undefined, from: "new", visibilityTimeout }
  const place: Effect.Effect<Pick<Consumer | Worker, "keep">, TransportError, Scope.Scope> = ordered
    ? transport.enroll(options)
    : transport.join({ ...options, ownConnection: false })
  return Effect.scoped(Effect.map(place, ({ keep }) => keep()))
}

const refuse = (reason: TransportError["reason"]) => Effect.fail(new TransportError({ operation, reason }))

/**
 * The groups of a log as they stand without the workers that died long ago: where nobody is left to reclaim, nobody else has
 * cleared them away. Another program's group may have a name that no subscription can have: it is left alone.
 */
const groupsOf = Effect.fnUntraced(function* (transport: Transport["Service"], log: Log) {
  const found = yield* transport.groups(log)
  const ours = found.filter(({ name }) => Names.invalid("subscription", name) === undefined)
  const manned = ours.filter(({ consumers }) => consumers > 0)
  for (const { name } of manned) yield* transport.tend({ ...log, subscription: name })
  const standing = manned.length === 0 ? found : yield* transport.groups(log)
  return { standing, ours: ours.map(({ name }) => name) }
})

/** What a group has that stands in the way, and the way out. */
const obstacle = (
  { partition }: Log,
  { consumers, holds }: GroupStanding,
  { deadLetters, due, parked, pending }: Inspection,
  to: number
): string | undefined => {
  if (consumers > 0) {
    return `has workers (${consumers}): stop them (one that died counts for five minutes at least), or remove it`
  }
  if (Option.isSome(holds) || due + parked + pending > 0) {
    return "has not settled all there is: let it finish, or remove it"
  }
  return deadLetters > 0 && partition >= to
    ? `has dead letters (${deadLetters}) in partition ${partition}, where nothing finds them then: redrive or discard them`
    : undefined
}

/** The subscriptions of a topic, where nothing stands in the way. */
const finished = Effect.fnUntraced(function* (
  transport: Transport["Service"],
  topic: string,
  { from, to }: { readonly from: number; readonly to: number }
) {
  const subscriptions = new Set<string>()
  for (const log of logsOf(topic, from)) {
    const { ours, standing } = yield* groupsOf(transport, log)
    for (const group of standing) {
      const inspection = yield* transport.inspect({ ...log, subscription: group.name })
      const why = obstacle(log, group, inspection, to)
      if (why === undefined) continue
      return yield* refuse(new Refused({ detail: `subscription "${group.name}" ${why}, then try again` }))
    }
    for (const name of ours) subscriptions.add(name)
  }
  return subscriptions
})

const change = (
  transport: Transport["Service"],
  topic: string,
  { from, to }: { readonly from: number; readonly to: number }
): Effect.Effect<void, TransportError> =>
  Effect.flatMap(transport.repartition(topic, { from, to }), (recorded) => {
    forget(transport, topic)
    if (recorded === to) return Effect.void
    const told = `somebody else has just changed the topic from ${from} to ${recorded}`
    return refuse(new InvalidOption({ option: "partitions", problem: `${told}: give ${recorded}, or try again` }))
  })

export const repartition = (self: Source<unknown>): Effect.Effect<number, TransportError, Transport> =>
  Effect.gen(function* () {
    const { topic } = self
    const { ordered, partitions } = self[TypeId]
    const wrong = topicProblem(self)
    if (wrong !== undefined) return yield* refuse(wrong)
    const transport = yield* Transport
    const from = yield* transport.partitions(topic, partitions)
    if (from === partitions) return from
    const subscriptions = yield* finished(transport, topic, { from, to: partitions })
    // written down as it is, so that logs of further partitions are not taken for what is left of a larger number
    yield* change(transport, topic, { from, to: from })
    for (const log of logsOf(topic, partitions).slice(from)) {
      const there = new Set(Array.from(yield* transport.groups(log), ({ name }) => name))
      for (const subscription of subscriptions) {
        if (!there.has(subscription)) yield* createGroup(transport, { ...log, subscription }, ordered)
      }
    }
    yield* change(transport, topic, { from, to: partitions })
    return from
  })
