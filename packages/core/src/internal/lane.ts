/**
 * One partition of a subscription at work: takes deliveries, has handlers started, and drains when it closes.
 *
 * Everything that it owns lives in one Scope. Fetching is a fiber; counting is plain functions called from wherever
 * something changed, so that a message costs no fiber switch of ours.
 */
import type { NonEmptyReadonlyArray } from "effect/Array"
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as FiberHandle from "effect/FiberHandle"
import * as Latch from "effect/Latch"
import * as Result from "effect/Result"
import type { Scope } from "effect/Scope"
import { Refused, TransportError } from "../Errors.ts"
import { fromEntry, millisOf } from "../Message.ts"
import * as Tracing from "../Tracing.ts"
import type { Entry, Group, Outcome, Settled, Transport } from "../Transport.ts"
import type { Definition } from "./definition.ts"
import type { Dispatcher, Lane } from "./dispatcher.ts"
import { DrainAtOnce } from "./drain.ts"
import { maxAttempts } from "./failure.ts"
import { loop } from "./fetching.ts"
import * as handlers from "./handlers.ts"
import { type Desk, Handling } from "./handling.ts"
import { Held } from "./held.ts"
import type * as Health from "./health.ts"
import * as hooks from "./hooks.ts"
import * as intake from "./intake.ts"
import { keyOf, KeyOrder } from "./keyOrder.ts"
import * as leases from "./leases.ts"
import * as marks from "./marks.ts"
import * as observe from "./observe.ts"
import type { Policy } from "./policy.ts"
import { type Reading, reader } from "./read.ts"
import type { Seat } from "./seat.ts"
import * as settlements from "./settlements.ts"
import { once, Turns } from "./turns.ts"
import * as verdicts from "./verdicts.ts"
import { Waiting } from "./waiting.ts"

export interface Options {
  readonly definition: Definition
  readonly policy: Policy
  readonly group: Group
  readonly transport: Transport["Service"]
  /** How many partitions the topic has. */
  readonly partitions: number
  readonly seat: Seat
  readonly dispatcher: Dispatcher
  readonly health: Health.Health
  readonly observer: observe.Observer
  /** Where handlers run. */
  readonly context: Context.Context<never>
  readonly run: (effect: Effect.Effect<void>) => void
  /** A loop died of a defect. */
  readonly died: (cause: unknown) => void
  /** Whether a loop has died: nothing more is taken by the log then. */
  readonly isDead: () => boolean
  /** The partition belongs to another worker by now, or must be claimed anew. */
  readonly lost: () => void
}

export interface Running {
  readonly begin: Effect.Effect<void>
  /** Takes nothing more; what runs goes on, what waits is released. */
  readonly pause: Effect.Effect<void>
  readonly resume: Effect.Effect<void>
  /** Waits until no handler of it runs. */
  readonly idle: Effect.Effect<void>
}

/** How long a closing subscription waits for the log to take its last settlements, beyond `drainTimeout`. */
const lastWords = Duration.seconds(2)

/** Deliveries of a stream that are out at once, unless `prefetch` says otherwise. */
const streamPrefetch = 16

/** How many handlers of a subscription run at once: of a stream, whoever takes from it is the handler. */
export const concurrencyOf = (definition: Definition, policy: Policy): number =>
  definition.kind === "stream" ? (policy.prefetch ?? streamPrefetch) : policy.concurrency

/** Fewer deliveries are handled before the next read is asked for: to wait for it is what their handlers would notice. */
const worthAhead = 16

const none = { keys: 0, since: undefined }

/** What may fail here and go on trying, as its health knows it. */
const loops: ReadonlyArray<Health.Loop> = ["fetching", "settling", "extending leases", "marking", "reading"]
const acked: Outcome = { _tag: "Ack" }
const released: Outcome = { _tag: "Release" }
const parked: Outcome = { _tag: "Park" }

/** In the order in which it will start. */
function* unstarted(waiting: Waiting, order: KeyOrder | undefined): IterableIterator<Handling> {
  yield* waiting
  if (order !== undefined) yield* order.waiting()
}

/**
 * Makes ready to begin; closing the scope drains. What can fail was done by joining.
 *
 * A generator at the top of a module, here and where subscriptions start: each closure that is one is given a map of its
 * own by V8, which holds on to all that the closure sees until a major collection.
 */
export const start: (options: Options) => Effect.Effect<Running, never, Scope> = Effect.fnUntraced(function* (
  options: Options
) {
  const { context, definition, dispatcher, group, health, observer, policy, run, seat, transport } = options
  const clock = Context.get(context, Clock.Clock)
  const drainAtOnce = Context.get(context, DrainAtOnce)
  const traced = Tracing.isActive(context)
  const annotations = { topic: group.topic, subscription: group.subscription }
  const slots = concurrencyOf(definition, policy) * policy.size
  // what fails to the end is nobody's trouble behind it
  yield* Effect.addFinalizer(() =>
    Effect.sync(() => {
      for (const loop of loops) health.over(loop)
    })
  )
  const visibility = Duration.toMillis(policy.visibilityTimeout)

  const waiting = new Waiting()
  const held = new Held()
  /** Taken, and not read yet. */
  const arrived: Array<Entry> = []
  /** When the first of them was asked for. */
  let asked = Infinity
  let bytes = 0
  let running = 0
  let told = 0
  let seconds: number | undefined
  let cautious = false
  let lost = false
  let state: "running" | "paused" | "draining" = "running"
  const mayFetch = Latch.makeUnsafe(true)
  const nothingHeld = Latch.makeUnsafe(true)
  const nothingRuns = Latch.makeUnsafe(true)

  const set = (latch: Latch.Latch, open: boolean) => (open ? latch.openUnsafe() : latch.closeUnsafe())
  const log = observe.logger(context, run)
  const lose = () => {
    if (lost) return
    lost = true
    options.lost()
  }
  const over = Latch.makeUnsafe(false)
  /** The log has said so: nothing that runs here can be settled any more. */
  const loseAll = () => {
    over.openUnsafe()
    lose()
  }

  const taken = () => held.size + arrived.length
  const stuck = () => order?.stuck ?? 0
  const room = () =>
    intake.room({
      slots,
      prefetch: policy.prefetch,
      // a bound of the user's holds also while partitions come one by one
      partitions: policy.prefetch === undefined ? Math.max(1, dispatcher.size) : options.partitions,
      seconds,
      // what waits for its key takes nobody's turn, unless the user set the bound
      unsettled: policy.prefetch === undefined ? taken() - stuck() : taken(),
      stuck: stuck(),
      bytes,
      waiting: waiting.size + arrived.length,
      free: slots - dispatcher.busy,
      settling: held.size - waiting.size - running - stuck(),
      cautious
    })
  const counted = () => {
    const { main, retry } = waiting.counts
    return order === undefined ? waiting.counts : { main: main + order.stuck, retry }
  }
  /** What depends on the numbers: not after each message, but once for all that came or ended together. */
  const refresh = () => {
    // as long as it is cautious it waits for a free handler, which another partition's may have become
    lane.stale = cautious
    if (running !== told) observer.running(running - told)
    told = running
    hold()
    set(nothingRuns, running === 0)
    mark.waiting(counted())
  }
  const hold = () => {
    set(mayFetch, room() > 0)
    set(nothingHeld, taken() === 0)
    lease.holding(taken() > 0 || seat.order !== undefined)
  }
  const dispatch = () => dispatcher.dispatch()

  // --- settling ------------------------------------------------------------------------------------------------

  const settle = (handling: Handling, outcome: Outcome) => {
    handling.outcome = outcome
    handling.onOutcome?.()
    const asItIs = handling as Handling & { readonly outcome: Outcome } // by the line above
    if (order === undefined) return book.add(asItIs)
    const key = keyOf(handling)
    const isRetry = handling.entry.origin === "retry"
    // given back here, it could be overtaken on its way: its key is held back instead
    const given: Outcome =
      outcome._tag === "Release" && key !== undefined && !isRetry && state === "running" ? parked : outcome
    const moves = given._tag === "Retry" || given._tag === "Park" || (isRetry && given._tag !== "Release")
    if (key !== undefined && moves) {
      keyBook.add({ handling, entry: handling.entry, outcome: given, repeated: false, key })
    } else book.add(asItIs)
    // behind what holds the key back, also in the book
    if (outcome._tag === "Retry" || given !== outcome) order.hold(handling)
  }
  const release = (handlings: ReadonlyArray<Handling>) => {
    for (const handling of handlings) settle(handling, released)
  }
  const forget = (handling: Handling) => {
    if (held.delete(handling)) bytes -= handling.entry.size
  }
  const settled = (handling: Handling, outcome: Outcome, how: Exclude<Settled, TransportError>, now: number) => {
    forget(handling)
    // who acks before it handles must not handle what another may have acked
    const doubtful = how === "unknown" && policy.ack === "onReceive"
    handling.tell(how === "lost" || doubtful ? "lost" : "settled")
    if (how === "lost") leaseLost(handling)
    else if (how === "unknown") observer.settledUnknown()
    else if (handling.outcome?._tag === "Release") observer.released()
    else if (outcome._tag === "Ack") {
      observer.acked((now - millisOf(handling.originalId)) / 1000)
    } else if (outcome._tag === "Retry") observer.retried()
    else if (outcome._tag === "DeadLetter") observer.deadLettered(outcome.reason)
    if (typeof how === "object") hook.deadLettered(handling, how.id)
    if (order !== undefined) {
      order.settled(handling, how)
      tellFull(order)
    }
  }
  const answered = () => {
    refresh()
    if (order !== undefined) dispatcher.soon()
  }
  let full = false
  const mayRead = Latch.makeUnsafe(true)
  /**
   * Beyond `maxWaiting` nothing new is read, which looks like an idle partition: so it is said. And it is over where half of
   * them are gone: while they go one by one, others take their places.
   */
  const tellFull = ({ parked }: KeyOrder) => {
    set(mayRead, parked < policy.maxWaiting)
    if (full ? parked > policy.maxWaiting / 2 : parked < policy.maxWaiting) return
    full = !full
    const detail = `at least ${parked} messages of partition ${group.partition} are waiting behind others of their keys`
    const fix = "new ones are read when there are fewer: see to what fails, or raise maxWaiting"
    const error = new TransportError({ operation: "fetch", reason: new Refused({ detail: `${detail}; ${fix}` }) })
    run(full ? health.failed("reading", error) : health.worked("reading"))
  }
  const leaseLost = (handling: Handling) => {
    if (order !== undefined) loseAll()
    observer.leaseLost()
    log(
      handling,
      "Warn",
      "the lease was lost: another consumer owns the message, or the log has lost it; nothing was settled here"
    )
  }

  // --- taking --------------------------------------------------------------------------------------------------

  const { namespace } = transport
  const { partition } = group
  const readContent = reader(definition.source, { namespace, partition })
  const read = ({ content, originalId }: Entry): Reading =>
    Result.isFailure(content) ? { _tag: "Poison", problem: content.failure } : readContent(originalId, content.success)
  // nobody sees it: it only stands for a message that cannot be read, or is not wanted
  const unseen = ({ originalId }: Entry) =>
    fromEntry({
      namespace,
      topic: group.topic,
      originalId,
      json: undefined,
      attributes: undefined
    })

  const ready = (handling: Handling) => {
    if (handling.thrown === undefined) return waiting.push(handling)
    verdict.failed(handling, handling.thrown)
    order?.ended(handling)
  }
  const order =
    seat.order === undefined
      ? undefined
      : new KeyOrder({
          ...seat.order,
          ready,
          park: (handling) => settle(handling, parked),
          outOfOrder: lose
        })

  /** Of many only counts: what comes next is on its way while these are read. */
  const accept = (entries: ReadonlyArray<Entry>, since: number) => {
    observer.consumed(entries.length)
    asked = Math.min(asked, since)
    for (const entry of entries) {
      arrived.push(entry)
      bytes += entry.size
    }
    hold()
    if (arrived.length < worthAhead) begin()
    else soon()
  }
  const admit = () => {
    const now = clock.currentTimeMillisUnsafe()
    const leased = asked
    asked = Infinity
    for (const entry of arrived.splice(0)) {
      const reading = read(entry)
      const message = reading._tag === "Message" ? reading.message : unseen(entry)
      const handling = new Handling(desk, entry, message, now)
      handling.leased = leased
      held.add(handling)
      if (reading._tag === "Poison") verdict.poison(handling, reading.problem)
      else if (reading._tag === "Filtered") {
        observer.filtered()
        settle(handling, acked)
      } else if (entry.attempt > maxAttempts(policy)) verdict.worn(handling)
      else {
        if (reading._tag === "Threw") handling.thrown = Cause.die(reading.thrown)
        if (order === undefined) ready(handling)
        else order.offer(handling)
      }
    }
    refresh()
    // what was waited for so long may have been delivered long ago: nothing of it starts before the log says that it is ours
    if (order !== undefined && now - leased >= visibility / 2) run(lease.extend)
  }
  const begin = () => {
    try {
      admit()
      dispatch()
    } catch (defect) {
      options.died(defect)
    }
  }
  const soon = once(Context.get(context, Turns), begin)

  // --- handling ------------------------------------------------------------------------------------------------

  const mayStart = ({ leased }: Handling, now: number) => {
    if (state !== "running" || lost) return false
    // whoever was frozen for so long may have lost the partition, or the message, and does not know it yet
    return order === undefined || now - Math.min(lease.renewed(), leased) < visibility
  }
  const next = (now: number): NonEmptyReadonlyArray<Handling> | undefined => {
    const first = waiting.first
    if (first === undefined || !mayStart(first, now) || !mark.mayStart(first)) return undefined
    if (definition.kind === "batch" && waiting.size < policy.size && !ripe(first, now)) return undefined
    waiting.shift()
    const batch: [Handling, ...Array<Handling>] = [first]
    for (let more = waiting.first; batch.length < policy.size && more !== undefined; more = waiting.first) {
      if (!mayStart(more, now) || !mark.mayStart(more)) break
      batch.push(more)
      waiting.shift()
    }
    return batch
  }
  /** A batch that is not full waits for `within`, counted from its oldest. */
  const ripe = ({ taken }: Handling, now: number): boolean => {
    const left = taken + Duration.toMillis(policy.within) - now
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

  const lane: Lane = {
    stale: false,
    refresh,
    next,
    begin: (batch, now) => {
      running += batch.length
      for (const handling of batch) handling.begun = now
      handler.start(batch, now)
    }
  }

  const ended = (batch: NonEmptyReadonlyArray<Handling>, how: handlers.Ended, took: number, now: number) => {
    running -= batch.length
    lane.stale = true
    dispatcher.ended(batch, now)
    observer.processed(took)
    seconds = intake.average(seconds, took)
    cautious = false
    for (const handling of batch) {
      if (how._tag === "Failed") verdict.failed(handling, how.cause)
      else if (handling.outcome === undefined) settle(handling, how._tag === "Closed" ? released : acked)
      order?.ended(handling)
    }
    dispatcher.soon()
  }

  // --- the parts -----------------------------------------------------------------------------------------------

  const desk: Desk = {
    group,
    consumer: seat.name,
    fence: seat.order?.fence,
    settle: (handling, outcome) => verdict.chosen(handling, outcome),
    settledTwice: (handling) => {
      observer.settledTwice()
      log(handling, "Warn", "a delivery was settled twice; the first settlement stands")
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
    died: options.died
  })
  const annotated = Effect.annotateLogs(annotations)
  const bookOf = (inOrder: boolean) =>
    settlements
      .make({
        consumer: seat,
        health,
        turns: Context.get(context, Turns),
        inOrder,
        settled,
        answered,
        died: options.died,
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
  const book = yield* bookOf(false)
  // of what moves keys, each waits for the one before it; the others do not wait for these
  const keyBook = order === undefined ? book : yield* bookOf(true)
  const unsettled = Effect.andThen(book.empty, keyBook.empty)
  const queue = { [Symbol.iterator]: () => unstarted(waiting, order) }
  const mark = yield* marks
    .make({ consumer: seat, health, held, queue, step: slots, onMoved: dispatch, lost: loseAll, died: options.died })
    .pipe(annotated)
  const lease = yield* leases
    .make({
      seat,
      policy,
      health,
      held,
      died: options.died,
      renewed: dispatch,
      lost: (gone) => {
        if (gone === "lost") return loseAll()
        for (const handling of gone) handling.lost = true
        for (const handling of waiting.remove((handling) => handling.lost)) {
          forget(handling)
          leaseLost(handling)
        }
        if (order !== undefined && gone.length > 0) loseAll()
        refresh()
      },
      beat: (now) =>
        Effect.suspend(() => {
          if (order !== undefined) {
            observer.heldBack(group.partition, order.heldBack(), now)
            // nobody else may take it
            return Effect.void
          }
          // what waits for its batch to fill waits for no handler
          if (!dispatcher.isFull) return Effect.void
          const halfway = now - visibility / 2
          const stale = waiting.remove((handling) => handling.taken <= halfway)
          if (stale.length === 0) return Effect.void
          cautious = true
          release(stale)
          refresh()
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
  dispatcher.add(lane)

  // --- fetching ------------------------------------------------------------------------------------------------

  const fetching = loop({
    seat,
    clock,
    health,
    accept,
    lost: lose,
    limit: () => ({
      count: Math.max(1, room()),
      bytes: Math.max(1, intake.maxBytes - bytes),
      maxAttempts: maxAttempts(policy),
      unread: mayRead.isOpen()
    }),
    room: mayFetch.await,
    unread: mayRead.await,
    nothingHeld: nothingHeld.await,
    alone: (self) => dispatcher.quarantine(lane, nothingHeld.await, self)
  }).pipe(
    Effect.tapDefect((defect) => Effect.sync(() => options.died(defect))),
    Effect.annotateLogs(annotations)
  )
  const fetcher = yield* FiberHandle.make()
  const stopFetching = Effect.suspend(() =>
    Effect.andThen(
      FiberHandle.clear(fetcher),
      Effect.sync(() => {
        admit()
        const given = waiting.remove(() => true)
        release(given)
        if (order !== undefined) release(order.clear(given))
        refresh()
      })
    )
  )

  // --- closing -------------------------------------------------------------------------------------------------

  const bounded = (wait: Effect.Effect<void>, atMost: Duration.Duration) => Effect.timeoutOption(wait, atMost)
  /** Gives the log a while to take what was decided; nobody waits for what it has not taken then. */
  const lastly = (wait: Effect.Effect<void>) =>
    Effect.andThen(
      Effect.suspend(() => {
        if (options.isDead()) return Effect.void
        if (!drainAtOnce) return Effect.asVoid(bounded(wait, lastWords))
        return health.problem() === undefined ? wait : Effect.void
      }),
      Effect.sync(() => {
        for (const handling of held) if (handling.outcome !== undefined) handling.abandon(health.problem())
      })
    )
  const patiently = (wait: Effect.Effect<void>, atMost: Duration.Duration) =>
    drainAtOnce ? Effect.void : bounded(wait, atMost)
  const stubborn = Effect.suspend(() => {
    if (handler.running() === 0) return Effect.void
    // given up, it would run beside its redelivery
    return Effect.logWarning(`closing waits for ${handler.running()} handlers that cannot be interrupted`).pipe(
      Effect.andThen(handler.await),
      Effect.andThen(lastly(unsettled))
    )
  })
  const drain = Effect.suspend(() => {
    state = "draining"
    return stopFetching
  }).pipe(
    Effect.andThen(
      patiently(
        // what could not be settled is waited for in vain, and the partition with it
        Effect.raceFirst(Effect.andThen(nothingRuns.await, hook.idle), over.await),
        policy.drainTimeout
      )
    ),
    Effect.andThen(Effect.sync(() => handler.interrupt())),
    // a handler may settle while it ends: without an end to that, it and the log would wait for each other
    Effect.andThen(lastly(Effect.andThen(handler.await, unsettled))),
    Effect.andThen(stubborn),
    Effect.andThen(patiently(hook.idle, lastWords)),
    Effect.andThen(hook.close),
    Effect.andThen(
      Effect.sync(() => {
        dispatcher.remove(lane)
        if (order !== undefined) observer.heldBack(group.partition, none, 0)
      })
    )
  )
  yield* Effect.addFinalizer(() => Effect.annotateLogs(drain, annotations))

  if (order !== undefined) tellFull(order)
  refresh()
  return {
    begin: Effect.asVoid(FiberHandle.run(fetcher, fetching)),
    pause: Effect.suspend(() => {
      if (state !== "running") return Effect.void
      state = "paused"
      return stopFetching
    }),
    resume: Effect.suspend(() => {
      if (state !== "paused") return Effect.void
      state = "running"
      // what was given back comes before what is behind it: the log is to have it first
      const given = order === undefined ? Effect.void : unsettled
      return Effect.asVoid(FiberHandle.run(fetcher, Effect.andThen(given, fetching)))
    }),
    idle: nothingRuns.await
  }
})
