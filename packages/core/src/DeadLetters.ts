/**
 * Messages that will not be tried again, kept for each subscription with the reason: to see, redrive or discard.
 *
 * Every function takes a subscription or its `Address` (`Subscription.address(name, topic)`), so that a tool needs no
 * handler. Redriving and discarding are atomic for each message and idempotent: run twice, or broken off half way,
 * nothing is lost or doubled.
 *
 * @since 0.1.0
 */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import * as Number from "effect/Number"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import * as Stream from "effect/Stream"
import type { Address } from "./Address.ts"
import { InvalidOption, TransportError } from "./Errors.ts"
import * as address from "./internal/address.ts"
import * as durations from "./internal/durations.ts"
import { type DeadLetter, inGroup, letter } from "./internal/letter.ts"
import { tagsOf } from "./internal/observe.ts"
import { shown } from "./internal/shown.ts"
import { spelling } from "./internal/spelling.ts"
import * as Metrics from "./Metrics.ts"
import { type Group, Transport } from "./Transport.ts"

export type { DeadLetter } from "./internal/letter.ts"
export type { Poison } from "./internal/read.ts"

const selectionOptions: ReadonlySet<string> = new Set(["ids", "where"])
const redriveOptions: ReadonlySet<string> = new Set(["ids", "where", "delay"])

/** A page is what one step on the log reads: bounded, so that a million dead letters stop nobody. */
const pageSize = 100

/**
 * The dead letters of a subscription, oldest first, read page by page; of several partitions, one after the other.
 *
 * @category reading
 * @since 0.1.0
 */
export const list = <A>(self: Address<A>): Stream.Stream<DeadLetter<A>, TransportError, Transport> =>
  Stream.unwrap(
    Effect.map(located(self), ({ groups, transport }) =>
      Stream.flatMap(Stream.fromIterable(groups), (group) =>
        Stream.paginate<string | undefined, DeadLetter<A>, TransportError>(undefined, (after) =>
          Effect.map(transport.deadLetters.page(group, { after, limit: pageSize }), (page) => [
            page.map((entry) => letter(self.source, { namespace: transport.namespace, group }, entry)),
            page.length < pageSize ? Option.none() : Option.some(page.at(-1)?.id)
          ])
        )
      )
    )
  )

/**
 * One dead letter; none where there is none of that id.
 *
 * @category reading
 * @since 0.1.0
 */
export const get = <A>(
  self: Address<A>,
  id: string
): Effect.Effect<Option.Option<DeadLetter<A>>, TransportError, Transport> =>
  Effect.flatMap(located(self), ({ groups, transport }) => {
    const group = groups.find((group) => inGroup(group, id) !== undefined)
    const own = group && inGroup(group, id)
    return group === undefined || own === undefined
      ? Effect.succeedNone
      : Effect.map(
          transport.deadLetters.get(group, own),
          Option.map((entry) => letter(self.source, { namespace: transport.namespace, group }, entry))
        )
  })

/**
 * How many there are.
 *
 * @category reading
 * @since 0.1.0
 */
export const count = (self: Address): Effect.Effect<number, TransportError, Transport> =>
  Effect.flatMap(located(self), ({ groups, transport }) =>
    Effect.map(
      Effect.forEach(groups, (group) => transport.deadLetters.count(group), { concurrency: "unbounded" }),
      Number.sumAll
    )
  )

/**
 * Which dead letters are meant: those with an id in `ids`, those that satisfy `where`, those that do both, or all.
 *
 * @category models
 * @since 0.1.0
 */
export interface Selection<A> {
  /**
   * Ids among the dead letters (`DeadLetter.id`), not those of messages. What is not found is passed over; an empty
   * list means none. Default: any id.
   */
  readonly ids?: Iterable<string> | undefined
  /**
   * Asked of each letter, or of those in `ids`, oldest first; undecodable ones are among them. Default: any letter. With
   * it the dead letters are read page by page; `ids` alone are not read. One that throws, or answers with neither true nor
   * false, is refused with `InvalidOption`.
   */
  readonly where?: ((letter: DeadLetter<A>) => boolean) | undefined
}

/**
 * Gives dead letters back to the subscription whose they are, and to no other, with their attempts reset: at once or
 * after `delay`. A redriven message keeps its trace and its original id. Returns how many were redriven; without a
 * selection all are that are there when it begins.
 *
 * @category moving
 * @since 0.1.0
 */
export const redrive = <A>(
  self: Address<A>,
  selection: Selection<NoInfer<A>> & {
    /** How long until they are due. Default: at once. */
    readonly delay?: Duration.Input | undefined
  } = {}
): Effect.Effect<number, TransportError, Transport> =>
  Effect.gen(function* () {
    yield* check("redrive", selection, redriveOptions)
    const delay = durations.finite(selection.delay ?? 0)
    if (Option.isNone(delay)) {
      return yield* refuse("redrive", new InvalidOption({ option: "delay", problem: "give a finite duration from 0" }))
    }
    return yield* each(self, selection, (ids, { group, transport }) =>
      transport.deadLetters.redrive(group, ids, delay.value)
    )
  })

/**
 * Removes dead letters for good, and counts them. `"all"` says that all are meant; there is no default, and a selection
 * that names none is refused with `InvalidOption`.
 *
 * @category moving
 * @since 0.1.0
 */
export const discard = <A>(
  self: Address<A>,
  selection: Selection<NoInfer<A>> | "all"
): Effect.Effect<number, TransportError, Transport> =>
  Effect.gen(function* () {
    if (selection !== "all") {
      yield* check("discard", selection, selectionOptions)
      if (selection.ids === undefined && selection.where === undefined) {
        return yield* refuse(
          "discard",
          new InvalidOption({ option: "selection", problem: `it names no dead letters: give ids, where, or "all"` })
        )
      }
    }
    const { groups, transport } = yield* located(self)
    const metric = Metric.withAttributes(Metrics.discarded, tagsOf(groups[0], transport.system))
    // counted page by page: where a later page fails, the earlier ones are gone all the same
    const discarded = yield* each(self, selection === "all" ? {} : selection, (ids, { group }) =>
      Effect.tap(transport.deadLetters.discard(group, ids), (count) => Metric.update(metric, count))
    )
    yield* Effect.logInfo(`discarded ${discarded} dead letters`).pipe(
      Effect.annotateLogs({ topic: self.source.topic, subscription: self.name })
    )
    return discarded
  })

interface Located {
  readonly groups: address.Groups
  readonly transport: Transport["Service"]
}

const located = (self: Address): Effect.Effect<Located, TransportError, Transport> =>
  Effect.gen(function* () {
    const groups = yield* address.groups(self, "deadLetters")
    return { groups, transport: yield* Transport }
  })

const refuse = (operation: string, reason: InvalidOption) => Effect.fail(new TransportError({ operation, reason }))

/** A misspelt selection must not mean all, nor one id its characters: a text is a list of those, for the compiler too. */
const check = (
  operation: string,
  selection: Selection<never>,
  known: ReadonlySet<string>
): Effect.Effect<void, TransportError> => {
  const wrong = (option: string, problem: string) => refuse(operation, new InvalidOption({ option, problem }))
  const given: unknown = selection
  if (!Predicate.isObject(given)) return wrong("selection", 'give an object, such as { ids: ["…"] }')
  const problem = spelling(known, selection)
  if (problem !== undefined) return refuse(operation, problem)
  const { ids, where }: { readonly ids?: unknown; readonly where?: unknown } = selection
  if (typeof ids === "string") return wrong("ids", "it is one text: give a list of ids")
  if (ids !== undefined && !Predicate.isIterable(ids)) return wrong("ids", "give a list of ids")
  if (where !== undefined && typeof where !== "function") return wrong("where", "give a function of a dead letter")
  return Effect.void
}

/** What a promise or anything else stands for is nobody's guess, where letters are removed for good. */
const isMeant = <A>(
  where: NonNullable<Selection<A>["where"]>,
  letter: DeadLetter<A>
): Effect.Effect<boolean, TransportError> => {
  const wrong = (what: string) =>
    refuse("deadLetters", new InvalidOption({ option: "where", problem: `it ${what}: answer true or false` }))
  try {
    const answer: unknown = where(letter)
    return typeof answer === "boolean" ? Effect.succeed(answer) : wrong(`answered with ${shown(answer)}`)
  } catch (thrown) {
    return wrong(`threw ${thrown instanceof Error ? String(thrown) : shown(thrown)}`)
  }
}

const each = <A>(
  self: Address<A>,
  selection: Selection<A>,
  move: (ids: ReadonlyArray<string>, at: At) => Effect.Effect<number, TransportError>
): Effect.Effect<number, TransportError, Transport> =>
  Effect.gen(function* () {
    const { groups, transport } = yield* located(self)
    const ids = selection.ids === undefined ? undefined : [...selection.ids]
    let moved = 0
    for (const group of groups)
      moved += yield* eachOf(self, { ids, where: selection.where }, move, { group, transport })
    return moved
  })

interface At {
  readonly group: Group
  readonly transport: Transport["Service"]
}

/** Of one partition. */
const eachOf = <A>(
  self: Address<A>,
  { ids, where }: { readonly ids: ReadonlyArray<string> | undefined; readonly where: Selection<A>["where"] },
  move: (ids: ReadonlyArray<string>, at: At) => Effect.Effect<number, TransportError>,
  at: At
): Effect.Effect<number, TransportError> =>
  Effect.gen(function* () {
    const wanted = ids === undefined ? undefined : new Set(ids.flatMap((id) => inGroup(at.group, id) ?? []))
    if (wanted?.size === 0) return 0
    if (wanted !== undefined && where === undefined) return yield* move([...wanted], at)
    let moved = 0
    let after: string | undefined
    // what is dead-lettered meanwhile (a redriven message may fail at once) is not part of this call
    let left = yield* at.transport.deadLetters.count(at.group)
    while (left > 0) {
      const page = yield* at.transport.deadLetters.page(at.group, { after, limit: Math.min(pageSize, left) })
      const place = { namespace: at.transport.namespace, group: at.group }
      const ids: Array<string> = []
      for (const entry of page) {
        if (wanted?.has(entry.id) === false) continue
        if (where === undefined || (yield* isMeant(where, letter(self.source, place, entry)))) ids.push(entry.id)
      }
      if (ids.length > 0) moved += yield* move(ids, at)
      after = page.at(-1)?.id
      left = page.length === 0 ? 0 : left - page.length
    }
    return moved
  })
