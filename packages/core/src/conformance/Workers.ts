/**
 * Workers that die: members of a group that take deliveries and are never heard of again.
 *
 * @since 0.1.0
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import { type Source, Transport, type TransportError } from "../index.ts"
import type * as T from "../Transport.ts"
import * as Faults from "./Faults.ts"
import type { Kit } from "./Kit.ts"

/** The group of a subscription on a topic's only partition. */
export const group = (source: Source<unknown>, subscription: string): T.Group => ({
  topic: source.topic,
  partition: 0,
  subscription
})

/** A member that only does what the test tells it: joined, and kept until the test ends. */
export const join = (
  kit: Kit,
  source: Source<unknown>,
  subscription: string,
  options?: {
    readonly consumer?: string | undefined
    readonly visibility?: Duration.Duration | undefined
    readonly from?: T.StartPosition | undefined
  }
): Effect.Effect<T.Consumer, TransportError, Transport | Scope.Scope> =>
  Effect.gen(function* () {
    const transport = yield* Transport
    const consumer = yield* transport.join({
      group: group(source, subscription),
      consumer: options?.consumer ?? "dead",
      visibilityTimeout: options?.visibility ?? kit.lease,
      from: options?.from ?? "beginning",
      ownConnection: false
    })
    consumer.keep()
    return consumer
  })

/** A worker that owns the topic's only partition, and does nothing but what the test tells it. */
export const own = (
  kit: Kit,
  source: Source<unknown>,
  subscription: string,
  consumer: string
): Effect.Effect<T.Owner, TransportError, Transport | Scope.Scope> =>
  Effect.gen(function* () {
    const transport = yield* Transport
    const worker = yield* transport.enroll({
      group: group(source, subscription),
      consumer,
      from: "beginning",
      visibilityTimeout: kit.lease
    })
    worker.keep()
    return Option.getOrThrow(yield* worker.claim)
  })

/** The first two deliveries of an owner. */
export const two = (kit: Kit, owner: T.Owner) =>
  Effect.gen(function* () {
    const limit = { count: 2, bytes: 1_000_000, alone: false, maxAttempts: Infinity, unread: true }
    const fetched = yield* kit.passing(owner.fetch(limit), "two deliveries")
    const [first, second] = fetched === "lost" ? [] : fetched.entries
    if (first === undefined || second === undefined) return yield* Effect.die(new Error("two were not delivered"))
    return [first, second] as const
  })

/** Takes exactly so many deliveries. */
export const fetch = (
  kit: Kit,
  consumer: T.Consumer,
  count: number
): Effect.Effect<ReadonlyArray<T.Entry>, TransportError> =>
  Effect.gen(function* () {
    const entries: Array<T.Entry> = []
    while (entries.length < count) {
      const limit = { count: count - entries.length, bytes: 64 * 1024 * 1024, alone: false, maxAttempts: Infinity }
      const fetched = yield* kit.passing(consumer.fetch(limit), `delivery ${entries.length + 1} of ${count}`)
      entries.push(...fetched.entries)
      if (fetched.suspects && fetched.entries.length === 0) {
        const alone = yield* kit.passing(consumer.fetch({ ...limit, alone: true }), "a delivery that must run alone")
        entries.push(...alone.entries)
      }
    }
    return entries
  })

/** Settles, and answers in words. */
export const settle = (
  consumer: T.Consumer,
  settlements: Parameters<T.Consumer["settle"]>[0]
): Effect.Effect<ReadonlyArray<string>, TransportError> =>
  Effect.map(consumer.settle(settlements), (settled) =>
    settled.map((one) => (typeof one === "string" ? one : one._tag))
  )

/** Lets a worker of the group take so many messages and die with them. */
export const die = (
  kit: Kit,
  source: Source<unknown>,
  subscription: string,
  count: number,
  options?: Parameters<typeof join>[3]
): Effect.Effect<ReadonlyArray<T.Entry>, TransportError, Transport | Scope.Scope> =>
  Effect.flatMap(join(kit, source, subscription, options), (consumer) => fetch(kit, consumer, count))

/** A Transport that can be cut off: from then on it settles, extends and fetches nothing. */
export const cuttable: Effect.Effect<
  {
    readonly transport: Transport["Service"]
    readonly cut: Effect.Effect<void>
    readonly mend: Effect.Effect<void>
  },
  never,
  Transport | Scope.Scope
> = Effect.gen(function* () {
  const off = yield* Latch.make()
  const silent = new Set<Faults.Operation>(["settle", "extend", "mark", "roster", "claim"])
  const inject: Faults.Injector = <A, E, R>(step: Faults.Step, call: Effect.Effect<A, E, R>) =>
    Effect.suspend((): Effect.Effect<A, E | TransportError, R> => {
      if (step.operation === "fetch") {
        if (off.isOpen()) return Effect.interruptible(Effect.never)
        // what waits for a delivery is cut off too, or it would take what is reclaimed from it
        const cut = Effect.andThen(off.await, Effect.fail(Faults.unavailable("fetch")))
        return Effect.interruptible(Effect.raceFirst(Effect.uninterruptible(call), cut))
      }
      if (!off.isOpen()) return call
      return silent.has(step.operation) ? Effect.fail(Faults.unavailable(step.operation)) : call
    })
  const transport = Faults.wrap(yield* Transport, inject)
  const mend = Effect.asVoid(off.close)
  yield* Effect.addFinalizer(() => mend)
  return {
    transport,
    cut: Effect.asVoid(off.open),
    mend
  }
})
