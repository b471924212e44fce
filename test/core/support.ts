/** The words of core's tests: a log of one's own under virtual time, recorded handlers, captured log lines, faults. */
import * as MemoryTransport from "@clutch/core/MemoryTransport"
import { Delivery } from "@clutch/core/Delivery"
import { TransportError, Unavailable, Unknown } from "@clutch/core/Errors"
import type { Message } from "@clutch/core/Message"
import { Reclaimer } from "@clutch/core/Reclaimer"
import * as Subscription from "@clutch/core/Subscription"
import { layerTest } from "@clutch/core/testing"
import * as Topic from "@clutch/core/Topic"
import { type Consumer, type FetchLimit, type Owner, Transport, type Worker } from "@clutch/core/Transport"
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Metric from "effect/Metric"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import * as References from "effect/References"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import { TestClock } from "effect/testing"
import { DrainAtOnce } from "../../packages/core/src/internal/drain.ts"

// -----------------------------------------------------------------------------
// running
// -----------------------------------------------------------------------------

/** A log line as it was written. */
export interface Line {
  readonly level: string
  readonly text: string
  readonly cause: Cause.Cause<unknown>
  readonly annotations: Readonly<Record<string, unknown>>
}

/** What was logged so far in this test. */
export class Lines extends Context.Service<Lines, Array<Line>>()("test/Lines") {}

export type Env = Transport | Reclaimer | Lines | Scope.Scope
export type Body = () => Generator<Effect.Effect<unknown, unknown, Env>, void, never>

const textOf = (message: unknown): string => (Array.isArray(message) ? message.map(String).join(" ") : String(message))

/** A body over a log, with log lines and metrics of its own. Its scope closes before the log does. */
export const run = (layer: Layer.Layer<Transport | Reclaimer>, body: Body): Effect.Effect<void, unknown> =>
  Effect.suspend(() => {
    const lines: Array<Line> = []
    const logger = Logger.make(({ cause, fiber, logLevel, message }) => {
      const annotations = fiber.getRef(References.CurrentLogAnnotations)
      lines.push({ level: logLevel, text: textOf(message), cause, annotations })
    })
    return Effect.scoped(Effect.gen(body)).pipe(
      Effect.provide(Layer.fresh(layer)),
      Effect.provideService(Lines, lines),
      Effect.provideService(Metric.MetricRegistry, new Map()),
      Effect.provide(Logger.layer([logger]))
    )
  })

/** A test's body over an in-memory log whose scopes close at once. */
export const given = (body: Body) => () => run(layerTest, body)

// -----------------------------------------------------------------------------
// time
// -----------------------------------------------------------------------------

/** Lets everything that can run without time passing run. */
export const settled: Effect.Effect<void> = Effect.gen(function* () {
  for (let i = 0; i < 50; i++) yield* Effect.yieldNow
})

export const pass = (duration: Duration.Input): Effect.Effect<void> =>
  settled.pipe(Effect.andThen(TestClock.adjust(duration)), Effect.andThen(settled))

/** The effect, while time passes in steps; a defect where it does not end within so many of them. */
export const passing =
  (step: Duration.Input, most = 2000) =>
  <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
    Effect.gen(function* () {
      const fiber = yield* Effect.forkChild(effect, { startImmediately: true })
      for (let i = 0; fiber.pollUnsafe() === undefined; i++) {
        if (i === most)
          return yield* Effect.die(
            new Error(`did not end within ${most} steps of ${Duration.format(Duration.fromInputUnsafe(step))}`)
          )
        yield* pass(step)
      }
      return yield* Fiber.join(fiber)
    })

// -----------------------------------------------------------------------------
// topics, handlers, subscriptions
// -----------------------------------------------------------------------------

export const Texts = Topic.make("texts", { schema: Schema.String })

export interface Call<A = string> {
  readonly data: A
  readonly attempt: number
  /** By the test's clock. */
  readonly at: number
  readonly message: Message<A>
  readonly delivery: Delivery["Service"]
}

export interface Probe<A = string> {
  readonly calls: ReadonlyArray<Call<A>>
  readonly data: () => Array<A>
  /** Records its call, then does as told. */
  readonly handler: <E = never, R = never>(
    then?: (call: Call<A>) => Effect.Effect<void, E, R>
  ) => (message: Message<A>) => Effect.Effect<void, E, R | Delivery>
  /** Waits, without moving the clock, for the next call. */
  readonly next: Effect.Effect<Call<A>>
}

export const probe = <A = string>(): Effect.Effect<Probe<A>> =>
  Effect.map(Queue.unbounded<Call<A>>(), (queue): Probe<A> => {
    const calls: Array<Call<A>> = []
    return {
      calls,
      data: () => calls.map(({ data }) => data),
      handler: (then) => (message) =>
        Effect.gen(function* () {
          const delivery = yield* Delivery
          const at = yield* Clock.currentTimeMillis
          const call = { data: message.data, attempt: delivery.attempt, at, message, delivery }
          calls.push(call)
          Queue.offerUnsafe(queue, call)
          if (then !== undefined) yield* then(call)
        }),
      next: Queue.take(queue)
    }
  })

/** Started in a scope that can be closed before the test ends. */
export const open = <A, E, R>(self: Subscription.Subscription<A, E, R>) =>
  Effect.gen(function* () {
    const scope = yield* Scope.fork(yield* Effect.scope)
    const handle = yield* Scope.provide(Subscription.subscribe(self), scope)
    return { handle, close: Scope.close(scope, Exit.void) }
  })

export const groupOf = (subscription: string, topic = Texts.topic) => ({ topic, partition: 0, subscription })

// -----------------------------------------------------------------------------
// faults
// -----------------------------------------------------------------------------

export const unavailable = (operation = "test") =>
  new TransportError({ operation, reason: new Unavailable({ detail: "the log is down" }) })

export const unknown = (operation = "test") =>
  new TransportError({ operation, reason: new Unknown({ detail: "no reply came" }) })

/** An in-memory log whose Transport was changed by the test. */
export const layerWith = (
  change: (self: Transport["Service"]) => Transport["Service"],
  drainAtOnce = true
): Layer.Layer<Transport | Reclaimer> =>
  Layer.merge(
    Reclaimer.layer.pipe(Layer.provideMerge(Layer.effect(Transport, Effect.map(MemoryTransport.make, change)))),
    Layer.succeed(DrainAtOnce, drainAtOnce)
  )

/** A Transport whose consumers were changed by the test. */
export const withConsumers =
  (change: (self: Consumer) => Partial<Consumer>) =>
  (self: Transport["Service"]): Transport["Service"] => ({
    ...self,
    join: (options) => Effect.map(self.join(options), (consumer) => ({ ...consumer, ...change(consumer) }))
  })

/** A Transport whose workers were changed by the test. */
export const withWorkers =
  (change: (self: Worker) => Partial<Worker>) =>
  (self: Transport["Service"]): Transport["Service"] => ({
    ...self,
    enroll: (options) => Effect.map(self.enroll(options), (worker) => ({ ...worker, ...change(worker) }))
  })

/** A Transport whose owners were changed by the test. */
export const withOwners = (change: (self: Owner) => Partial<Owner>) =>
  withWorkers(({ claim }) => ({
    claim: Effect.map(
      claim,
      Option.map((owner) => ({ ...owner, ...change(owner) }))
    )
  }))

/** A log whose fetches are recorded, and may be replaced. */
export const recordingFetches = () => {
  const limits: Array<FetchLimit & { readonly at: number }> = []
  let fault: Effect.Effect<never, TransportError> | undefined
  const layer = layerWith(
    withConsumers(({ fetch }) => ({
      fetch: (limit) =>
        Effect.flatMap(Clock.currentTimeMillis, (at) => {
          limits.push({ ...limit, at })
          return fault ?? fetch(limit)
        })
    }))
  )
  return { layer, limits, breakWith: (error: Effect.Effect<never, TransportError> | undefined) => void (fault = error) }
}

/** The first error of an exit. */
export const errorOf = (exit: Exit.Exit<unknown, unknown>): unknown =>
  Exit.isFailure(exit) ? Cause.squash(exit.cause) : undefined

/** What the numbers of a subscription say of the order of keys, where there is none. */
export const unordered = { heldBack: 0, parked: 0, oldestHeldBack: Option.none() }
