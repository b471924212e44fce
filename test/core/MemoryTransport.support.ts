/** The words of the tests of MemoryTransport: one log, the groups `billing` and `shipping`, and what a consumer does. */
import * as MemoryTransport from "@clutch/core/MemoryTransport"
import {
  type Consumer,
  type Entry,
  type FetchLimit,
  type Outcome,
  type Settled,
  Transport
} from "@clutch/core/Transport"
import { assert } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Scope from "effect/Scope"

export const orders = { topic: "orders", partition: 0 }
export const billing = { ...orders, subscription: "billing" }
export const shipping = { ...orders, subscription: "shipping" }
export const everything = { maxLength: undefined, maxAge: undefined }
export const free: FetchLimit = { count: 100, bytes: Infinity, alone: false, maxAttempts: 6 }
export const alone: FetchLimit = { ...free, alone: true }

export const publish = (...data: readonly [string, ...ReadonlyArray<string>]) => publishKeeping(everything, ...data)
export const publishKeeping = (
  retention: { readonly maxLength: number | undefined; readonly maxAge: Duration.Duration | undefined },
  ...[first, ...others]: readonly [string, ...ReadonlyArray<string>]
) =>
  Transport.use((transport) =>
    transport.publish(
      orders,
      [{ data: first, attributes: undefined }, ...others.map((data) => ({ data, attributes: undefined }))],
      retention
    )
  )

export type Joining = Partial<Parameters<Transport["Service"]["join"]>[0]>
export const joinOnly = (options: Joining = {}) =>
  Transport.use((transport) =>
    transport.join({
      group: billing,
      consumer: undefined,
      visibilityTimeout: Duration.seconds(30),
      from: "new",
      ownConnection: false,
      ...options
    })
  )
export const join = (options: Joining = {}) =>
  Effect.tap(joinOnly(options), (consumer) => Effect.sync(() => consumer.keep()))

/** A consumer whose Scope the test closes. */
export const joinIn = (scope: Scope.Scope, options: Joining = {}) => Scope.provide(join(options), scope)

export const take = (consumer: Consumer, limit: Partial<FetchLimit> = {}) =>
  Effect.map(consumer.fetch({ ...free, ...limit }), ({ entries }) => entries)
export const takeOne = (consumer: Consumer, limit: Partial<FetchLimit> = {}) =>
  Effect.map(take(consumer, { count: 1, ...limit }), (entries) => {
    const [entry] = entries
    assert(entry !== undefined && entries.length === 1)
    return entry
  })

export const settle = (consumer: Consumer, entry: Entry, outcome: Outcome, repeated = false) =>
  Effect.map(
    consumer.settle([{ entry, outcome, repeated }]),
    ([settled]): Settled => settled ?? assert.fail("no answer")
  )
export const ack: Outcome = { _tag: "Ack" }
export const release: Outcome = { _tag: "Release" }
export const retry = (delay: Duration.Input): Outcome => ({
  _tag: "Retry",
  delay: Duration.fromInputUnsafe(delay),
  cause: "it failed"
})
export const deadLetter: Outcome = { _tag: "DeadLetter", reason: "exhausted", cause: "it failed", attempts: 1 }

export const tend = Transport.use((transport) => transport.tend(billing))
export const nextTending = Effect.map(tend, ({ next }) => Option.map(next, Duration.toMillis))
export const outstanding = (through: string, due: "wait" | "ignore" = "wait") =>
  Transport.use((transport) => transport.outstanding(billing, { through, due }))
export const inspect = Transport.use((transport) => transport.inspect(billing))
export const deadLetters = Transport.use((transport) =>
  transport.deadLetters.page(billing, { after: undefined, limit: 100 })
)

export const dataOf = (entry: { readonly content: Entry["content"] }): string =>
  Result.match(entry.content, {
    onSuccess: ({ data }) => new TextDecoder().decode(data),
    onFailure: (problem) => `unreadable: ${problem}`
  })
export const datas = (entries: ReadonlyArray<Entry>) => entries.map(dataOf)

/** Settles one delivery as dead letter, and lets a consumer of it remain. */
export const die = Effect.fnUntraced(function* (...data: readonly [string, ...ReadonlyArray<string>]) {
  const consumer = yield* join({ from: "beginning" })
  yield* publish(...data)
  for (const entry of yield* take(consumer, { count: data.length })) yield* settle(consumer, entry, deadLetter)
  return consumer
})

/** A test body over a log of its own. */
export const given =
  <Eff extends Effect.Effect<unknown, unknown, Transport | Scope.Scope>>(body: () => Generator<Eff, void, never>) =>
  () =>
    Effect.provide(Effect.gen(body), MemoryTransport.layerTransport)
