/**
 * What every case of the suite works with: topics of its own, time that passes, and recorded handlers.
 *
 * A case never sleeps to get lucky. It waits for a signal with `passing`, or for a state with `eventually`; both let time
 * pass meanwhile, virtual or real, and give up after a bound with a sentence that says what did not happen.
 *
 * @since 0.1.0
 */
import { describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Queue from "effect/Queue"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import { Delivery, type Message, type Reclaimer, Subscription, Topic, type Transport } from "../index.ts"

/**
 * A place on the log that a hook writes to.
 *
 * @category models
 * @since 0.1.0
 */
export interface RawTarget {
  readonly topic: string
  readonly subscription: string
  readonly log: "main" | "retry"
}

/**
 * How the suite runs on a backend.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /** Built afresh for each test. Topics have random names, so that the tests of one server do not meet. */
  readonly layer: Layer.Layer<Transport | Reclaimer, unknown>
  /** Whether the clock is `TestClock` (`"virtual"`) or the machine's. */
  readonly time: "virtual" | "real"
  /** Lets time pass: `TestClock.adjust`, or `Effect.sleep`. */
  readonly pass: (duration: Duration.Input) => Effect.Effect<void>
  /** What short delays are made of: long enough that one is told from two. Memory "1 second", Redis "40 millis". */
  readonly tick: Duration.Input
  /** The visibility timeout of workers that die. Default 4 ticks. */
  readonly lease?: Duration.Input | undefined
  /** Fewer messages in the storms, for local loops. Default false. */
  readonly short?: boolean | undefined
  /** Appends an entry whose data are these bytes, past every codec. Cases that need it are skipped where it is absent. */
  readonly appendRaw?: ((target: RawTarget, bytes: Uint8Array) => Effect.Effect<void, unknown, Transport>) | undefined
  /** Every key that exists for a topic. Cases that need it are skipped where it is absent. */
  readonly keys?: ((topic: string) => Effect.Effect<ReadonlyArray<string>, unknown, Transport>) | undefined
}

/**
 * A handler's call, as recorded.
 *
 * @category models
 * @since 0.1.0
 */
export interface Call<A = string> {
  readonly data: A
  readonly message: Message<A>
  readonly attempt: number
  readonly messageId: string
  readonly originalId: string
  readonly stream: string
  readonly group: string
  readonly consumer: string
  readonly firstDelivered: number
  readonly redriven: string | undefined
  /** Milliseconds, by the test's clock. */
  readonly at: number
}

/**
 * Records the calls of the handlers it makes.
 *
 * @category models
 * @since 0.1.0
 */
export interface Probe<A = string> {
  readonly calls: Array<Call<A>>
  readonly queue: Queue.Queue<Call<A>>
  /** What the calls carried, in order. */
  readonly data: () => ReadonlyArray<A>
  /** A handler that records its call, then does as told. */
  readonly handler: <E = never, R = never>(
    then?: (call: Call<A>) => Effect.Effect<void, E, R>
  ) => (message: Message<A>) => Effect.Effect<void, E, R | Delivery>
}

/**
 * A subscription that can be closed before its test ends.
 *
 * @category models
 * @since 0.1.0
 */
export interface Opened {
  readonly handle: Subscription.Handle
  /** Closes its scope and waits until it has closed, while time passes. */
  readonly close: Effect.Effect<void>
}

/** What a test's body may need. */
type Env = Transport | Reclaimer | Scope.Scope

/**
 * What a case is given. Ticks are those of `Options.tick`.
 *
 * @category models
 * @since 0.1.0
 */
export interface Kit {
  readonly options: Options
  readonly virtual: boolean
  readonly lease: Duration.Duration
  readonly ticks: (count: number) => Duration.Duration
  /** `count` ticks in milliseconds. */
  readonly millis: (count: number) => number
  /** Lets so many ticks pass. */
  readonly pass: (count: number) => Effect.Effect<void>
  /** The effect, while time passes; a defect that names `what` where it does not end in time. */
  readonly passing: <A, E, R>(effect: Effect.Effect<A, E, R>, what?: string) => Effect.Effect<A, E, R>
  /** Waits until the check is true, while time passes. */
  readonly eventually: <E, R>(what: string, check: Effect.Effect<boolean, E, R>) => Effect.Effect<void, E, R>
  /** The next calls of a probe. */
  readonly take: <A>(probe: Probe<A>, count?: number) => Effect.Effect<ReadonlyArray<Call<A>>>
  /** The next call of a probe. */
  readonly next: <A>(probe: Probe<A>) => Effect.Effect<Call<A>>
  /** `n`, or a tenth of it in short mode. */
  readonly many: (n: number) => number
  /** A topic of texts with a name of its own. */
  readonly topic: () => Topic.Topic<string>
  /** A name nobody else has. */
  readonly fresh: (prefix: string) => string
  readonly open: <A, E, R>(self: Subscription.Subscription<A, E, R>) => Effect.Effect<Opened, unknown, Env | R>
  /** Waits until everything published so far is settled, while time passes. */
  readonly idle: (
    self: Subscription.Address,
    options?: { readonly due?: "wait" | "ignore" | undefined }
  ) => Effect.Effect<void, unknown, Transport>
  /** Runs a body as a case is run: with a backend of its own, closed while time passes. */
  readonly run: (body: () => Effect.Effect<unknown, unknown, Env>) => Effect.Effect<void, unknown>
  /** Registers a case, named "<clause>. <guarantee>". */
  readonly test: (name: string, body: () => Effect.Effect<unknown, unknown, Env>) => void
  readonly testIf: (condition: boolean, name: string, body: () => Effect.Effect<unknown, unknown, Env>) => void
}

const LIMIT_TICKS = 3000
const LIMIT_MILLIS = 20_000

/**
 * A probe with nothing recorded.
 *
 * @category constructors
 * @since 0.1.0
 */
export const probe = <A = string>(): Effect.Effect<Probe<A>> =>
  Effect.gen(function* () {
    const calls: Array<Call<A>> = []
    const queue = yield* Queue.unbounded<Call<A>>()
    return {
      calls,
      queue,
      data: () => calls.map((call) => call.data),
      handler: (then) => (message) =>
        Effect.gen(function* () {
          const delivery = yield* Delivery
          const call: Call<A> = {
            data: message.data,
            message,
            attempt: delivery.attempt,
            messageId: delivery.messageId,
            originalId: delivery.originalId,
            stream: delivery.stream,
            group: delivery.group,
            consumer: delivery.consumer,
            firstDelivered: delivery.firstDelivered.epochMilliseconds,
            redriven: delivery.redriven,
            at: yield* Clock.currentTimeMillis
          }
          calls.push(call)
          Queue.offerUnsafe(queue, call)
          if (then !== undefined) yield* then(call)
        })
    }
  })

/** Lets everything that can run without time passing run. */
const settle = (rounds: number) =>
  Effect.gen(function* () {
    for (let i = 0; i < rounds; i++) yield* Effect.yieldNow
  })

/** What a handler fails with on purpose is logged by the runtime: expected here, and noise. */
const quiet = process.env["CLUTCH_LOG"] === undefined ? Logger.layer([]) : Layer.empty

/**
 * The kit for a backend.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (options: Options): Kit => {
  const virtual = options.time === "virtual"
  const tick = Duration.toMillis(Duration.fromInputUnsafe(options.tick))
  const ticks = (count: number) => Duration.millis(tick * count)

  const step = virtual ? Effect.andThen(options.pass(tick), settle(10)) : options.pass(Math.min(tick, 10))

  const passing: Kit["passing"] = (effect, what = "what the test waits for") =>
    virtual
      ? Effect.gen(function* () {
          const fiber = yield* Effect.forkChild(effect, { startImmediately: true })
          const end = performance.now() + LIMIT_MILLIS
          for (let i = 0; i < 50 && fiber.pollUnsafe() === undefined; i++) yield* Effect.yieldNow
          for (let i = 0; fiber.pollUnsafe() === undefined; i++) {
            if (i === LIMIT_TICKS || performance.now() > end) {
              fiber.interruptUnsafe()
              return yield* Effect.die(new Error(`${what} did not happen within ${i} ticks`))
            }
            yield* step
          }
          return yield* Fiber.join(fiber)
        })
      : Effect.timeoutOrElse(effect, {
          duration: LIMIT_MILLIS,
          orElse: () => Effect.die(new Error(`${what} did not happen within ${LIMIT_MILLIS} ms`))
        })

  const eventually: Kit["eventually"] = (what, check) =>
    Effect.gen(function* () {
      const end = performance.now() + LIMIT_MILLIS
      for (let i = 0; !(yield* check); i++) {
        if ((virtual && i === LIMIT_TICKS) || performance.now() > end) {
          return yield* Effect.die(new Error(`never true: ${what}`))
        }
        if (virtual && i < 20) yield* settle(5)
        else yield* step
      }
    })

  const pass: Kit["pass"] = (count) =>
    virtual
      ? Effect.gen(function* () {
          yield* settle(20)
          for (let i = 0; i < Math.floor(count); i++) yield* step
          if (count % 1 > 0) yield* Effect.andThen(options.pass(tick * (count % 1)), settle(10))
        })
      : options.pass(tick * count)

  const take: Kit["take"] = (probe, count = 1) =>
    passing(Queue.takeBetween(probe.queue, count, count), `handler call ${count} more, after ${probe.calls.length}`)

  let made = 0
  const run = Math.random().toString(36).slice(2, 8)
  const fresh = (prefix: string) => `${prefix}-${run}-${++made}`

  const body = (self: () => Effect.Effect<unknown, unknown, Env>): Effect.Effect<void, unknown> =>
    Effect.acquireUseRelease(
      Scope.make(),
      (scope) =>
        Effect.gen(function* () {
          const context = yield* Layer.buildWithScope(Layer.fresh(options.layer), scope)
          yield* Effect.provide(Effect.suspend(self), Context.add(context, Scope.Scope, scope))
        }),
      (scope, exit) => passing(Scope.close(scope, exit), "the closing of the test's scope")
    ).pipe(Effect.asVoid, Effect.provide(quiet))

  const testIf: Kit["testIf"] = (condition, name, self) => {
    const register = virtual ? it.effect : it.live
    if (condition) register(name, () => body(self), 30_000)
    else register.skip(name, () => Effect.void)
  }

  return {
    options,
    virtual,
    lease: options.lease === undefined ? ticks(4) : Duration.fromInputUnsafe(options.lease),
    ticks,
    millis: (count) => tick * count,
    pass,
    passing,
    eventually,
    take,
    next: (probe) =>
      Effect.flatMap(take(probe), ([call]) => (call === undefined ? Effect.die("no call") : Effect.succeed(call))),
    many: (n) => (options.short === true ? Math.ceil(n / 10) : n),
    topic: () => Topic.make(fresh("topic"), { schema: Schema.String }),
    fresh,
    open: (self) =>
      Effect.gen(function* () {
        const scope = yield* Scope.fork(yield* Effect.scope)
        const handle = yield* Scope.provide(Subscription.subscribe(self), scope)
        return { handle, close: passing(Scope.close(scope, Exit.void), `the closing of "${self.name}"`) }
      }),
    idle: (self, idleOptions) => passing(Subscription.awaitIdle(self, idleOptions), `idleness of "${self.name}"`),
    run: body,
    test: (name, self) => testIf(true, name, self),
    testIf
  }
}

/**
 * A group of cases.
 *
 * @category models
 * @since 0.1.0
 */
export type Category = (kit: Kit) => void

/**
 * Registers categories under one name each.
 *
 * @category constructors
 * @since 0.1.0
 */
export const describeAll = (name: string, kit: Kit, categories: Readonly<Record<string, Category>>): void => {
  describe(name, () => {
    for (const [category, register] of Object.entries(categories)) describe(category, () => register(kit))
  })
}

/**
 * The first error of an exit, as text; empty where it succeeded.
 *
 * @category getters
 * @since 0.1.0
 */
export const failureText = (exit: Exit.Exit<unknown, unknown>): string =>
  Exit.isSuccess(exit) ? "" : String(Cause.squash(exit.cause))
