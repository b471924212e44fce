/**
 * Running handlers: which effect a delivery runs in, and what its end means. Fibers are forked from a captured context,
 * as that is an order of magnitude cheaper than a set of supervised ones; they are owned here, and interrupted and
 * awaited when the subscription closes.
 */
import type { NonEmptyReadonlyArray } from "effect/Array"
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import { Delivery } from "../Delivery.ts"
import { Unsettled } from "../Errors.ts"
import * as Tracing from "../Tracing.ts"
import type { Group } from "../Transport.ts"
import type { Definition } from "./definition.ts"
import { HandlerTimeout } from "./failure.ts"
import type { Handling } from "./handling.ts"
import * as observe from "./observe.ts"
import type { Policy } from "./policy.ts"

export interface Options {
  readonly definition: Definition
  readonly policy: Policy
  readonly group: Group
  readonly system: string
  readonly context: Context.Context<never>
  /** A handler ended, after so many seconds; `now` is in milliseconds of the runtime's clock. */
  readonly ended: (handlings: NonEmptyReadonlyArray<Handling>, how: Ended, seconds: number, now: number) => void
  /** What `ended` did died of a defect. */
  readonly died: (cause: unknown) => void
}

export type Ended =
  | { readonly _tag: "Succeeded" }
  | { readonly _tag: "Closed" }
  | { readonly _tag: "Failed"; readonly cause: Cause.Cause<unknown> }

export interface Handlers {
  readonly running: () => number
  readonly start: (handlings: NonEmptyReadonlyArray<Handling>, now: number) => void
  /** Interrupts what runs, as closing and not as a failure. */
  readonly interrupt: () => void
  /** Waits for what runs. */
  readonly await: Effect.Effect<void>
}

export const make = (options: Options): Handlers => {
  const { context, definition, group, policy, system } = options
  const clock = Context.get(context, Clock.Clock)
  const traced = Tracing.isActive(context)
  // a batch has several publishers, and is no child of one of them
  const relation = definition.kind === "batch" ? "link" : Context.get(context, Tracing.ProcessSpan)
  const running: Array<Run> = []

  const scoped = (handler: Effect.Effect<void, unknown, unknown>) =>
    policy.timeout === undefined ? Effect.onExitPrimitive(handler, closeScope) : boundedBy(handler, policy.timeout)
  // the same for all, as it finds its delivery around it: one made for each message would be felt
  const each = scoped(Effect.withFiber(({ context }) => definition.handler([deliveryOf(context)])))

  const effectOf = (handlings: NonEmptyReadonlyArray<Handling>): Effect.Effect<void, unknown, unknown> => {
    const handler = definition.kind === "each" ? each : scoped(Effect.suspend(() => definition.handler(handlings)))
    const whole = policy.ack === "onReceive" ? Effect.andThen(ackAll(handlings), handler) : handler
    return traced ? observe.processSpan(whole, { group, system, relation }, handlings) : whole
  }

  const contextOf = (handlings: NonEmptyReadonlyArray<Handling>): Context.Context<never> => {
    const [first] = handlings
    const around = definition.kind === "batch" ? context : observe.traceContext(context, first.message)
    const given = definition.kind === "each" ? Context.add(around, Delivery, first) : around
    return Context.add(given, Scope.Scope, Scope.makeUnsafe())
  }

  const start = (handlings: NonEmptyReadonlyArray<Handling>, begun: number) => {
    // what the handler requires is in the context that was captured where the subscription was started
    const effect = effectOf(handlings) as Effect.Effect<void, unknown>
    const fiber = Effect.runForkWith(contextOf(handlings))(effect)
    const exit = fiber.pollUnsafe()
    if (exit !== undefined) return end(handlings, begun, exit)
    const run = new Run(fiber, handlings, running.length)
    running.push(run)
    fiber.addObserver((exit) => {
      run.leave(running)
      end(handlings, begun, handlings[0].closing ? ownEnd(fiber, exit) : exit)
    })
  }

  const end = (handlings: NonEmptyReadonlyArray<Handling>, begun: number, exit: Exit.Exit<void, unknown>) => {
    try {
      const now = clock.currentTimeMillisUnsafe()
      options.ended(handlings, endOf(handlings, exit, policy), (now - begun) / 1000, now)
    } catch (defect) {
      // thrown in an observer of a fiber it would be heard by nobody
      options.died(defect)
    }
  }

  return {
    running: () => running.length,
    start,
    interrupt: () => {
      // who ends by it leaves its place to another
      for (const { fiber, handlings } of running.slice()) {
        for (const handling of handlings) handling.closing = true
        fiber.interruptUnsafe()
      }
    },
    await: Effect.suspend(() => Effect.asVoid(Fiber.awaitAll(running.map(({ fiber }) => fiber))))
  }
}

/**
 * A handler that did not end at once, and its place among these. Not in a map: its outgrown tables hold each other, and by
 * them messages that were handled long ago, until the engine collects all of its memory.
 */
class Run {
  readonly fiber: Fiber.Fiber<void, unknown>
  readonly handlings: NonEmptyReadonlyArray<Handling>
  private place: number

  constructor(fiber: Fiber.Fiber<void, unknown>, handlings: NonEmptyReadonlyArray<Handling>, place: number) {
    this.fiber = fiber
    this.handlings = handlings
    this.place = place
  }

  leave(running: Array<Run>): void {
    const last = running.pop()
    if (last === undefined || last === this) return
    running[this.place] = last
    last.place = this.place
  }
}

/** What `contextOf` put there. */
const deliveryOf = (context: Context.Context<never>) => Context.getUnsafe(context, Delivery) as Handling

const scopeOf = (context: Context.Context<never>) => Context.getUnsafe(context, Scope.Scope) as Scope.Closeable // of `contextOf`

/** As `Effect.scoped` does, which makes a scope, a context and a function for each: that would be felt. */
const closeScope = (exit: Exit.Exit<void, unknown>) => {
  const { context } = Fiber.getCurrent() as Fiber.Fiber<void, unknown> // the handler's own
  const scope = scopeOf(context)
  const finalizers = Scope.closeUnsafe(scope, exit)
  if (finalizers === undefined) return undefined
  unfinished.add(scope)
  return Effect.andThen(
    finalizers,
    Effect.sync(() => unfinished.delete(scope))
  )
}

/** Their finalizers have begun, and not all of them have succeeded. */
const unfinished = new WeakSet<Scope.Scope>()

/** The handler runs in a fiber of its own, which may end by itself while the one that waits for it is interrupted. */
const boundedBy = (handler: Effect.Effect<void, unknown, unknown>, timeout: Duration.Duration) =>
  Effect.suspend(() => {
    let own: Exit.Exit<void, unknown> | undefined
    const noted = Effect.onExitPrimitive(handler, (exit) => {
      own = exit
      return undefined
    })
    const orElse = () => Effect.fail(new HandlerTimeout(timeout))
    return Effect.onExitPrimitive(Effect.timeoutOrElse(noted, { duration: timeout, orElse }), (exit) =>
      closeScope(own !== undefined && isInterrupted(exit) ? own : exit)
    )
  })

const isInterrupted = (exit: Exit.Exit<void, unknown>) => Exit.isFailure(exit) && Cause.hasInterruptsOnly(exit.cause)

const ackAll = (handlings: ReadonlyArray<Handling>) =>
  Effect.forEach(handlings, (handling) => handling.ack, { discard: true, concurrency: "unbounded" })

/** A fiber takes some steps from its handler's end to its own: who is interrupted in between has closed its scope by then. */
const ownEnd = ({ context }: Fiber.Fiber<void, unknown>, exit: Exit.Exit<void, unknown>) => {
  const scope = scopeOf(context)
  if (!isInterrupted(exit) || scope.state._tag !== "Closed" || unfinished.has(scope)) return exit
  return scope.state.exit as Exit.Exit<void, unknown> // the handler's
}

const endOf = (handlings: NonEmptyReadonlyArray<Handling>, exit: Exit.Exit<void, unknown>, policy: Policy): Ended => {
  if (Exit.isFailure(exit)) {
    // an interrupt is a release only while the subscription closes: a handler that interrupts itself would be
    // released for ever
    return handlings[0].closing && isInterrupted(exit) ? closed : { _tag: "Failed", cause: exit.cause }
  }
  return policy.ack === "manual" && handlings.some(({ outcome }) => outcome === undefined)
    ? { _tag: "Failed", cause: Cause.fail(new Unsettled({})) }
    : succeeded
}

const closed: Ended = { _tag: "Closed" }
const succeeded: Ended = { _tag: "Succeeded" }
