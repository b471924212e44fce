/**
 * A Transport that fails where a test wants it to.
 *
 * Every call passes through one function, which may do it, fail before it, fail after it (as when a reply is lost), die,
 * or never come back. Calls are numbered, so that a test can try each of them in turn.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { Transport, TransportError } from "../index.ts"
import { Unavailable, Unknown } from "../Errors.ts"

/**
 * What of a Transport, of its consumers and of its dead letters can fail.
 *
 * @category models
 * @since 0.1.0
 */
export type Operation =
  | "publish"
  | "join"
  | "fetch"
  | "settle"
  | "extend"
  | "mark"
  | "enroll"
  | "roster"
  | "rest"
  | "claim"
  | "partitions"
  | "repartition"
  | "tend"
  | "watch"
  | "trim"
  | "groups"
  | "removeGroup"
  | "inspect"
  | "lastId"
  | "outstanding"
  | "progress"
  | "page"
  | "get"
  | "count"
  | "redrive"
  | "discard"

/**
 * Which call this is: the `nth` of all, and the `ofKind`-th of its operation, both from 1.
 *
 * @category models
 * @since 0.1.0
 */
export interface Step {
  readonly operation: Operation
  readonly nth: number
  readonly ofKind: number
}

/**
 * What becomes of a call.
 *
 * @category models
 * @since 0.1.0
 */
export interface Injector {
  <A, E, R>(step: Step, call: Effect.Effect<A, E, R>): Effect.Effect<A, E | TransportError, R>
}

/**
 * Nothing was done.
 *
 * @category constructors
 * @since 0.1.0
 */
export const unavailable = (operation: string): TransportError =>
  new TransportError({ operation, reason: new Unavailable({ detail: "cut by a test" }) })

/**
 * It may have been done.
 *
 * @category constructors
 * @since 0.1.0
 */
export const unknown = (operation: string): TransportError =>
  new TransportError({ operation, reason: new Unknown({ detail: "reply cut by a test" }) })

/**
 * The Transport with every call passed through `inject`.
 *
 * @category combinators
 * @since 0.1.0
 */
export const wrap = (self: Transport["Service"], inject: Injector): Transport["Service"] => {
  let nth = 0
  const kinds = new Map<Operation, number>()
  const at = <A, E, R>(operation: Operation, call: Effect.Effect<A, E, R>) =>
    Effect.suspend(() => {
      const ofKind = (kinds.get(operation) ?? 0) + 1
      kinds.set(operation, ofKind)
      return inject({ operation, nth: ++nth, ofKind }, call)
    })
  return Transport.of({
    ...self,
    publish: (...args) => at("publish", self.publish(...args)),
    join: (options) =>
      Effect.map(at("join", self.join(options)), (consumer) => ({
        name: consumer.name,
        keep: consumer.keep,
        fetch: (limit) => at("fetch", consumer.fetch(limit)),
        settle: (settlements) => at("settle", consumer.settle(settlements)),
        extend: (entries) => at("extend", consumer.extend(entries)),
        mark: (origin, id) => at("mark", consumer.mark(origin, id))
      })),
    enroll: (options) =>
      Effect.map(at("enroll", self.enroll(options)), (worker) => ({
        name: worker.name,
        keep: worker.keep,
        watch: (changed) => at("watch", worker.watch(changed)),
        roster: at("roster", worker.roster),
        rest: at("rest", worker.rest),
        claim: Effect.map(
          at("claim", worker.claim),
          Option.map((owner) => ({
            ...owner,
            fetch: (limit) => at("fetch", owner.fetch(limit)),
            settle: (settlements) => at("settle", owner.settle(settlements)),
            extend: (entries) => at("extend", owner.extend(entries)),
            mark: (origin, ids) => at("mark", owner.mark(origin, ids))
          }))
        )
      })),
    partitions: (topic, partitions) => at("partitions", self.partitions(topic, partitions)),
    repartition: (topic, change) => at("repartition", self.repartition(topic, change)),
    tend: (group) => at("tend", self.tend(group)),
    watch: (log, changed) => at("watch", self.watch(log, changed)),
    trim: (log) => at("trim", self.trim(log)),
    groups: (log) => at("groups", self.groups(log)),
    removeGroup: (group) => at("removeGroup", self.removeGroup(group)),
    inspect: (group) => at("inspect", self.inspect(group)),
    lastId: (log) => at("lastId", self.lastId(log)),
    outstanding: (group, options) => at("outstanding", self.outstanding(group, options)),
    progress: (group) => Effect.orDie(at("progress", self.progress(group))),
    deadLetters: {
      page: (group, options) => at("page", self.deadLetters.page(group, options)),
      get: (group, id) => at("get", self.deadLetters.get(group, id)),
      count: (group) => at("count", self.deadLetters.count(group)),
      redrive: (group, ids, delay) => at("redrive", self.deadLetters.redrive(group, ids, delay)),
      discard: (group, ids) => at("discard", self.deadLetters.discard(group, ids))
    }
  })
}

/**
 * The three ways a call can go wrong without an answer to act on.
 *
 * @category models
 * @since 0.1.0
 */
export type Kind = "fails" | "dies" | "is interrupted"

/**
 * The fault itself, in place of the call.
 *
 * @category constructors
 * @since 0.1.0
 */
export const fault = (kind: Kind, operation: Operation): Effect.Effect<never, TransportError> => {
  if (kind === "fails") return Effect.fail(unavailable(operation))
  return kind === "dies" ? Effect.die(new Error(`${operation} died, as a test wanted`)) : Effect.interrupt
}
