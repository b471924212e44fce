/**
 * One subscription at work: takes deliveries, starts handlers, and drains when it closes.
 *
 * Everything that it owns lives in one Scope. Fetching is a fiber; starting handlers and counting are plain functions
 * called from wherever something changed, so that a message costs no fiber switch of ours.
 */
import type { NonEmptyReadonlyArray } from "effect/Array"
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as FiberHandle from "effect/FiberHandle"
import * as FiberSet from "effect/FiberSet"
import * as Latch from "effect/Latch"
import * as Result from "effect/Result"
import type { Scope } from "effect/Scope"
import { SubscriptionFailed, type TransportError } from "../Errors.ts"
import { fromEntry, millisOf } from "../Message.ts"
import * as Tracing from "../Tracing.ts"
import type { Consumer, Entry, Group, Outcome, Settled, Transport } from "../Transport.ts"
import type { Definition } from "./definition.ts"
import { DrainAtOnce } from "./drain.ts"
import { maxAttempts } from "./failure.ts"
import { loop } from "./fetching.ts"
import * as handlers from "./handlers.ts"
import { type Desk, Handling } from "./handling.ts"
import * as Health from "./health.ts"
import * as hooks from "./hooks.ts"
import * as intake from "./intake.ts"
import * as leases from "./leases.ts"
import * as marks from "./marks.ts"
import * as observe from "./observe.ts"
import type { Policy } from "./policy.ts"
import { type Reading, readFiltered } from "./read.ts"
import * as settlements from "./settlements.ts"
import { Turns } from "./turns.ts"
import * as verdicts from "./verdicts.ts"
import { Waiting } from "./waiting.ts"

/** A subscription that has its place on the log, and has not begun to fetch. */
export interface Joined {
  readonly definition: Definition
  readonly policy: Policy
  readonly group: Group
  readonly transport: Transport["Service"]
  readonly consumer: Consumer
}

export interface Running {
  /** Lets joining stand, and begins to fetch. */
  readonly begin: Effect.Effect<void>
  readonly pause: Effect.Effect<void>
  readonly resume: Effect.Effect<void>
  readonly inFlight: () => number
  readonly problem: () => TransportError | undefined
  readonly state: () => "running" | "paused" | "draining" | "unhealthy"
  readonly join: Effect.Effect<never, SubscriptionFailed>
}

/** How long a closing subscription waits for the log to take its last settlements, beyond `drainTimeout`. */
const lastWords = Duration.seconds(2)

/** A run of quick handlers gives the event loop back after so long: heartbeats and other subscriptions need it too. */
const sliceMillis = 10

/** Deliveries of a stream that are out at once, unless `prefetch` says otherwise. */
const streamPrefetch = 16

const acked: Outcome = { _tag: "Ack" }
const released: Outcome = { _tag: "Release" }

/** Makes a joined subscription ready to begin; closing the scope drains it. What can fail was done by joining. */
export const start = (
  { consumer, definition, group, policy, transport }: Joined,
  surroundings: Context.Context<never>
): Effect.Effect<Running, never, Scope> =>
  Effect.gen(function* () {
    const context = observe.ownContext(surroundings)
    const clock = Context.get(context, Clock.Clock)
    const drainAtOnce = Context.get(context, DrainAtOnce)
    const turns = Context.get(context, Turns)
    const traced = Tracing.isActive(context)
    const annotations = { topic: group.topic, subscription: group.subscription }
    const health = Health.make()
    const observer = observe.make(group, transport.system, context)
    const died = Deferred.makeUnsafe<never, SubscriptionFailed>()
    // of a stream, whoever takes from it is the handler
    const concurrency = definition.kind === "stream" ? (policy.prefetch ?? streamPrefetch) : policy.concurrency
    const slots = concurrency * policy.size

    const waiting = new Waiting()
    const held = new Set<Handling>()
    let bytes = 0
    let jobs = 0
    let busy = 0
    let counted = 0
    let seconds: number | undefined
    let cautious = false
    let dispatching = false
    let again = false
    let woken = false
    let dead = false
    let state: "running" | "paused" | "draining" = "running"
    const mayFetch = Latch.makeUnsafe(true)
    const nothingHeld = Latch.makeUnsafe(true)
    const nothingRuns = Latch.makeUnsafe(true)

    const set = (latch: Latch.Latch, open: boolean) => (open ? latch.openUnsafe() : latch.closeUnsafe())
    const background = yield* FiberSet.makeRuntime()
    const run = (effect: Effect.Effect<void>) => background(Effect.annotateLogs(effect, annotations))
    const log = (handling: Handling, line: Effect.Effect<void>) => {
      const { attempt, messageId, originalId } = handling
      run(Effect.annotateLogs(line, { messageId, originalId, attempt }))
    }
    const crashed = (cause: unknown) => {
      dead = true
      Deferred.doneUnsafe(died, Effect.fail(new SubscriptionFailed({ ...annotations, cause })))
      run(Effect.logFatal("the loop of the subscription died", cause))
    }

    const room = () =>
      intake.room({
        slots,
        prefetch: policy.prefetch,
        seconds,
        unsettled: held.size,
        bytes,
        waiting: waiting.size,
        free: slots - busy,
        cautious
      })
    /** What depends on the numbers: not after each message, but once for all that came or ended together. */
    const changed = () => {
      if (busy !== counted) observer.running(busy - counted)
      counted = busy
      set(mayFetch, room() > 0)
      set(nothingHeld, held.size === 0)
      set(nothingRuns, busy === 0)
      lease.holding(held.size > 0)
      mark.waiting(waiting.counts)
    }

    // --- settling ------------------------------------------------------------------------------------------------

    const settle = (handling: Handling, outcome: Outcome) => {
      handling.outcome = outcome
      handling.onOutcome?.()
      book.add(handling as Handling & { readonly outcome: Outcome }) // by the line above
    }
    const release = (handlings: ReadonlyArray<Handling>) => {
      for (const handling of handlings) settle(handling, released)
    }
    const forget = (handling: Handling) => {
      if (held.delete(handling)) bytes -= handling.entry.size
    }
    const settled = (handling: Handling, outcome: Outcome, how: Exclude<Settled, TransportError>) => {
      forget(handling)
      handling.tell(how === "lost" ? "lost" : "settled")
      if (how === "lost") leaseLost(handling)
      else if (how === "unknown") observer.settledUnknown()
      else if (outcome._tag === "Ack") {
        observer.acked((clock.currentTimeMillisUnsafe() - millisOf(handling.originalId)) / 1000)
      } else if (outcome._tag === "Retry") observer.retried()
      else if (outcome._tag === "Release") observer.released()
      else observer.deadLettered(outcome.reason)
      if (typeof how === "object") hook.deadLettered(handling, how.id)
    }
    const leaseLost = (handling: Handling) => {
      observer.leaseLost()
      log(
        handling,
        Effect.logWarning("the lease was lost: another consumer owns the message, nothing was settled here")
      )
    }

    // --- taking --------------------------------------------------------------------------------------------------

    const { namespace } = transport
    const read = ({ content, originalId }: Entry): Reading =>
      Result.isFailure(content)
        ? { _tag: "Poison", problem: content.failure }
        : readFiltered(definition.source, { namespace, originalId, content: content.success })
    // nobody sees it: it only stands for a message that cannot be read, or is not wanted
    const unseen = ({ originalId }: Entry) =>
      fromEntry({
        namespace,
        topic: group.topic,
        originalId,
        json: undefined,
        attributes: undefined
      })

    const accept = (entries: ReadonlyArray<Entry>) => {
      const now = clock.currentTimeMillisUnsafe()
      observer.consumed(entries.length)
      for (const entry of entries) {
        const reading = read(entry)
        const message = reading._tag === "Message" ? reading.message : unseen(entry)
        const handling = new Handling(desk, entry, message, now)
        held.add(handling)
        bytes += entry.size
        if (reading._tag === "Poison") verdict.poison(handling, reading.problem)
        else if (reading._tag === "Filtered") {
          observer.filtered()
          settle(handling, acked)
        } else if (entry.attempt > maxAttempts(policy)) verdict.worn(handling)
        else if (reading._tag === "Threw") verdict.failed(handling, Cause.die(reading.thrown))
        else waiting.push(handling)
      }
      // before handlers run: one may block, and its lease begins now
      changed()
      dispatchSoon()
    }

    // --- handling ------------------------------------------------------------------------------------------------

    const next = (): NonEmptyReadonlyArray<Handling> | undefined => {
      if (state !== "running" || jobs >= concurrency) return undefined
      const first = waiting.first
      if (first === undefined || !mark.mayStart(first)) return undefined
      if (definition.kind === "batch" && waiting.size < policy.size && !ripe(first)) return undefined
      waiting.shift()
      const batch: [Handling, ...Array<Handling>] = [first]
      while (batch.length < policy.size && waiting.first !== undefined && mark.mayStart(waiting.first)) {
        batch.push(waiting.first)
        waiting.shift()
      }
      return batch
    }
    /** A batch that is not full waits for `within`, counted from its oldest. */
    const ripe = ({ taken }: Handling): boolean => {
      const left = taken + Duration.toMillis(policy.within) - clock.currentTimeMillisUnsafe()
      if (left <= 0) return true
      if (!ripening) {
        ripening = true
        run(
          Effect.andThen(
            Effect.sleep(left),
            Effect.sync(() => {
              ripening = false
              dispatch()
            })
          )
        )
      }
      return false
    }
    let ripening = false

    const dispatch = () => {
      // called from within (a mark that moved at once, a handler that ended at once): the loop below looks again
      if (dispatching) {
        again = true
        return
      }
      dispatching = true
      const sliceEnd = turns.time() + sliceMillis
      do {
        again = false
        for (let batch = next(); batch !== undefined; batch = next()) {
          begin(batch)
          if (turns.time() <= sliceEnd) continue
          run(Effect.andThen(Effect.yieldNow, Effect.sync(dispatch)))
          again = false
          break
        }
      } while (again)
      dispatching = false
      changed()
    }
    /** At the end of this turn: the next read is under way while handlers run, and what ended together is one look. */
    const dispatchSoon = () => {
      if (woken) return
      woken = true
      turns.afterThis(() => {
        woken = false
        try {
          dispatch()
        } catch (defect) {
          crashed(defect)
        }
      })
    }
    const begin = (batch: NonEmptyReadonlyArray<Handling>) => {
      jobs += 1
      busy += batch.length
      for (const handling of batch) mark.started(handling)
      handler.start(batch)
    }

    const ended = (batch: NonEmptyReadonlyArray<Handling>, how: handlers.Ended, took: number) => {
      jobs -= 1
      busy -= batch.length
      observer.processed(took)
      seconds = intake.average(seconds, took)
      cautious = false
      for (const handling of batch) {
        if (how._tag === "Failed") verdict.failed(handling, how.cause)
        else if (handling.outcome === undefined) settle(handling, how._tag === "Closed" ? released : acked)
      }
      // a handler that ended at once was started by the loop, which looks again
      if (dispatching) again = true
      else dispatchSoon()
    }

    // --- the parts -----------------------------------------------------------------------------------------------

    const desk: Desk = {
      group,
      consumer: consumer.name,
      settle: (handling, outcome) => verdict.chosen(handling, outcome),
      settledTwice: (handling) => {
        observer.settledTwice()
        log(handling, Effect.logWarning("a delivery was settled twice; the first settlement stands"))
      },
      retry: (handling, after, cause) => verdict.retry(handling, after, cause)
    }
    const verdict = verdicts.make({ policy, observer, context, settle, log })
    const hook = hooks.make({ policy, source: definition.source, group, transport, context, log })
    const handler = handlers.make({
      definition,
      policy,
      group,
      system: transport.system,
      context,
      ended,
      died: crashed
    })
    const annotated = Effect.annotateLogs(annotations)
    const book = yield* settlements
      .make({
        consumer,
        health,
        settled,
        answered: changed,
        died: crashed,
        around: (items, call) =>
          traced
            ? observe.settleSpan(
                call,
                { group, system: transport.system },
                items.map(({ handling }) => handling)
              )
            : call
      })
      .pipe(annotated)
    const mark = yield* marks
      .make({ consumer, health, queue: waiting, step: slots, onMoved: () => dispatch(), died: crashed })
      .pipe(annotated)
    const lease = yield* leases
      .make({
        consumer,
        policy,
        health,
        held,
        died: crashed,
        lost: (lost) => {
          for (const handling of lost) handling.lost = true
          for (const handling of waiting.remove((handling) => handling.lost)) {
            forget(handling)
            leaseLost(handling)
          }
          changed()
        },
        beat: (now) =>
          Effect.suspend(() => {
            // what waits for its batch to fill waits for no handler
            if (jobs < concurrency) return Effect.void
            const halfway = now - Duration.toMillis(policy.visibilityTimeout) / 2
            const stale = waiting.remove((handling) => handling.taken <= halfway)
            if (stale.length === 0) return Effect.void
            cautious = true
            release(stale)
            changed()
            return Effect.logInfo(`released ${stale.length} deliveries that waited too long for a free handler`)
          }),
        blocked: (millis) =>
          Effect.suspend(() => {
            observer.blockedLoop()
            return Effect.logWarning(
              `the event loop was blocked for ${Math.round(millis)} ms: a handler that computes for long loses its leases`
            )
          })
      })
      .pipe(annotated)

    // --- fetching ------------------------------------------------------------------------------------------------

    const fetching = loop({
      consumer,
      health,
      accept,
      limit: () => ({
        count: Math.max(1, room()),
        bytes: Math.max(1, intake.maxBytes - bytes),
        maxAttempts: maxAttempts(policy)
      }),
      room: mayFetch.await,
      // what was settled before its handler ends may still kill the process
      alone: Effect.andThen(nothingHeld.await, nothingRuns.await)
    }).pipe(
      Effect.tapDefect((defect) => Effect.sync(() => crashed(defect))),
      Effect.annotateLogs(annotations)
    )
    const fetcher = yield* FiberHandle.make()
    const stopFetching = Effect.suspend(() =>
      Effect.andThen(
        FiberHandle.clear(fetcher),
        Effect.sync(() => {
          release(waiting.remove(() => true))
          changed()
        })
      )
    )

    // --- closing -------------------------------------------------------------------------------------------------

    const bounded = (wait: Effect.Effect<void>, atMost: Duration.Duration) => Effect.timeoutOption(wait, atMost)
    /** Gives the log a while to take what was decided; nobody waits for what it has not taken then. */
    const lastly = (wait: Effect.Effect<void>) =>
      Effect.andThen(
        Effect.suspend(() => {
          if (dead) return Effect.void
          if (!drainAtOnce) return Effect.asVoid(bounded(wait, lastWords))
          return health.problem() === undefined ? wait : Effect.void
        }),
        Effect.sync(() => {
          for (const handling of held) if (handling.outcome !== undefined) handling.abandon(health.problem())
        })
      )
    const drain = Effect.gen(function* () {
      state = "draining"
      yield* stopFetching
      if (!drainAtOnce) yield* bounded(Effect.andThen(nothingRuns.await, hook.idle), policy.drainTimeout)
      handler.interrupt()
      // a handler may settle while it ends: without an end to that, it and the log would wait for each other
      yield* lastly(Effect.andThen(handler.await, book.empty))
      if (handler.running() > 0) {
        // given up, it would run beside its redelivery
        yield* Effect.logWarning(`closing waits for ${handler.running()} handlers that cannot be interrupted`)
        yield* handler.await
        yield* lastly(book.empty)
      }
      if (!drainAtOnce) yield* bounded(hook.idle, lastWords)
      yield* hook.close
    })
    yield* Effect.addFinalizer(() => Effect.annotateLogs(drain, annotations))

    changed()
    return {
      begin: Effect.suspend(() => {
        consumer.keep()
        return Effect.asVoid(FiberHandle.run(fetcher, fetching))
      }),
      pause: Effect.suspend(() => {
        if (state !== "running") return Effect.void
        state = "paused"
        return stopFetching
      }),
      resume: Effect.suspend(() => {
        if (state !== "paused") return Effect.void
        state = "running"
        return Effect.asVoid(FiberHandle.run(fetcher, fetching))
      }),
      inFlight: () => busy,
      problem: health.problem,
      state: () => (state === "running" && health.problem() !== undefined ? "unhealthy" : state),
      join: Deferred.await(died)
    }
  })
