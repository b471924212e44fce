/**
 * What lies between a worker and the log: requests and replies, which take their time, get lost, or find nobody at home.
 *
 * The log runs in a process of its own. A call becomes a message to it and a message back, so a worker that is frozen or
 * dead hears nothing, while what it has sent is done all the same.
 */
import type { NonEmptyReadonlyArray } from "effect/Array"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import { TransportError, Unavailable, Unknown } from "../../Errors.ts"
import * as MemoryTransport from "../../MemoryTransport.ts"
import type {
  Consumer,
  EnrollOptions,
  Entry,
  Fetched,
  FetchLimit,
  Group,
  JoinOptions,
  Owner,
  OwnerLimit,
  Settled,
  Settlement,
  Worker as Enrolled
} from "../../Transport.ts"
import { Transport } from "../../Transport.ts"
import type { Dice } from "./Dice.ts"
import type { Call, Chaos, Fault, Kind } from "./Faults.ts"
import type { Ledger } from "./Ledger.ts"
import type { Process, World } from "./World.ts"

/** One life of a worker. */
export interface Worker {
  /** From 1; 0 is who publishes. */
  readonly index: number
  readonly process: Process
  /** What waits at the log for an answer, and is gone with the connection. */
  readonly waiting: Set<Request>
  /** What it hears of from the log, and is gone with the connection too. */
  readonly watches: Set<Scope.Closeable>
  /** It was told to close. */
  isClosing: boolean
  /** Its subscriptions are paused, and know it. */
  isPaused: boolean
  /** Since when nothing has befallen it. */
  calmSince: number
  /** Which of the history's messages it publishes, where it does nothing else. */
  readonly publishes?: ReadonlyArray<{ readonly number: number; readonly key: string | undefined }> | undefined
}

export interface Request {
  cancelled: boolean
  fiber: Fiber.Fiber<unknown, unknown> | undefined
}

/** What befalls a worker as a whole. */
export interface Fate {
  readonly crash: (worker: Worker, restartAfter: number) => void
  readonly freeze: (worker: Worker, millis: number) => void
  readonly close: (worker: Worker, reopenAfter: number) => void
  readonly pause: (worker: Worker, millis: number) => void
}

/** How what lasts comes to its end. */
const endings = { join: "leave", enroll: "leave", claim: "cede", watch: "watch" } as const

/** Nothing is left of these where they fail, be it by a reply that was lost. */
const undone: ReadonlySet<Call> = new Set<Call>(["join", "enroll", "claim"])

/** These strike when the log has answered. */
const behind: ReadonlySet<Kind> = new Set<Kind>(["losesReply", "replyIsLate", "crashesAfter", "freezesAfter"])

interface Handling<A, E> {
  /** The group that it is about. */
  readonly group?: Group
  /** It waits at the log: nobody wants it done once the caller is gone. */
  readonly waits?: boolean
  /** Closed while the log takes back what an interrupted call had done: no other of the kind may overtake that. */
  readonly nothingLeft?: Latch.Latch | undefined
  /** Takes back what was done, where the caller has gone or will never know. */
  readonly undo?: (value: A) => void
  /** Does it by half. */
  readonly half?: () => Effect.Effect<A, E>
  /** Takes note of the answer, where and when the worker has it. */
  readonly heard?: (value: A) => void
}

export class Network {
  private readonly world: World
  private readonly dice: Dice
  private readonly chaos: Chaos
  private readonly ledger: Ledger
  private readonly log: Transport["Service"]
  private readonly server: Process
  private readonly fate: Fate
  private readonly serve: <A, E>(effect: Effect.Effect<A, E>) => Fiber.Fiber<A, E>

  constructor(options: {
    readonly world: World
    readonly dice: Dice
    readonly chaos: Chaos
    readonly ledger: Ledger
    readonly log: Transport["Service"]
    readonly server: Process
    readonly context: Context.Context<never>
    readonly fate: Fate
  }) {
    this.world = options.world
    this.dice = options.dice
    this.chaos = options.chaos
    this.ledger = options.ledger
    this.log = options.log
    this.server = options.server
    this.fate = options.fate
    this.serve = Effect.runForkWith(options.context)
  }

  // -----------------------------------------------------------------------------
  // requests and replies
  // -----------------------------------------------------------------------------

  private send(to: Process, millis: number, run: () => void): void {
    const after = millis + (this.dice.chance(0.75) ? 0 : this.dice.between(1, 3))
    if (after === 0) to.post(run)
    else this.world.after(to, after, run)
  }

  /** A call to the log: sent, done there, answered; or what a fault makes of it. */
  private call<A, E extends TransportError>(
    worker: Worker,
    what: Call,
    perform: () => Effect.Effect<A, E>,
    handling: Handling<A, E> = {}
  ): Effect.Effect<A, E | TransportError> {
    return Effect.callback((resume) => {
      // what it was about to do in the very step in which it died
      if (worker.process.state === "dead") return
      const fault = this.chaos.at(worker.index, what)
      const isBehind = fault !== undefined && behind.has(fault.kind)
      if (fault !== undefined && !isBehind) this.ledger.struck(worker, fault)
      const request: Request = { cancelled: false, fiber: undefined }
      let done: { readonly value: A } | undefined

      const answer = (exit: Exit.Exit<A, E>) => {
        worker.waiting.delete(request)
        if (isBehind) this.ledger.struck(worker, fault)
        if (Exit.isSuccess(exit)) done = exit
        const isLost = fault?.kind === "losesReply" && Exit.isSuccess(exit)
        if (isLost && undone.has(what)) undo()
        if (request.cancelled) return undo()
        this.send(worker.process, fault?.kind === "replyIsLate" ? fault.millis : 0, () => {
          if (request.cancelled) return
          done = undefined
          if (isLost) return resume(Effect.fail(failed(what, "losesReply")))
          if (Exit.isSuccess(exit)) handling.heard?.(exit.value)
          resume(exit)
        })
        this.strikeAfter(worker, fault)
      }
      const undo = () => {
        if (done !== undefined) handling.undo?.(done.value)
        done = undefined
      }
      const execute = () => {
        if (request.cancelled && handling.waits === true) return
        if (worker.process.state === "dead" && handling.waits === true) return
        if (fault?.kind === "vanishes" && handling.group !== undefined) this.lose(handling.group)
        const effect = fault?.kind === "isHalfDone" && handling.half !== undefined ? handling.half() : perform()
        const fiber = this.serve(effect)
        if (handling.waits === true) {
          request.fiber = fiber
          worker.waiting.add(request)
        }
        fiber.addObserver(answer)
        if (fault?.kind === "isDoubled") this.send(this.server, 0, () => void this.serve(perform()))
      }

      switch (fault?.kind) {
        case "fails":
          this.send(worker.process, 0, () => resume(Effect.fail(failed(what, "fails"))))
          break
        case "crashesBefore":
          this.fate.crash(worker, fault.millis)
          break
        case "freezesBefore":
          // in this process's queue: sent when it goes on
          this.fate.freeze(worker, fault.millis)
          worker.process.post(() => this.send(this.server, 0, execute))
          break
        case "closes":
          this.fate.close(worker, fault.millis)
          this.send(this.server, 0, execute)
          break
        case "pauses":
          this.fate.pause(worker, fault.millis)
          this.send(this.server, 0, execute)
          break
        default:
          this.send(this.server, fault?.kind === "isLate" ? fault.millis : 0, execute)
      }
      return Effect.sync(() => {
        request.cancelled = true
        if (handling.waits !== true) return
        const { nothingLeft } = handling
        nothingLeft?.closeUnsafe()
        this.send(this.server, 0, () => {
          request.fiber?.interruptUnsafe()
          undo()
          if (nothingLeft !== undefined) this.send(worker.process, 0, () => nothingLeft.openUnsafe())
        })
      })
    })
  }

  private strikeAfter(worker: Worker, fault: Fault | undefined): void {
    if (fault?.kind === "crashesAfter") this.fate.crash(worker, fault.millis)
    else if (fault?.kind === "freezesAfter") this.fate.freeze(worker, fault.millis)
  }

  private lose(group: Group): void {
    const lost = Effect.provideService(MemoryTransport.loseGroup(group), Transport, this.log)
    void this.serve(noting(lost, (ids) => this.ledger.vanished(group, ids)))
  }

  /** The connection of a worker that died. */
  hangUp(worker: Worker): void {
    this.send(this.server, 0, () => {
      for (const { fiber } of worker.waiting) fiber?.interruptUnsafe()
      for (const scope of worker.watches) void this.serve(Scope.close(scope, Exit.void))
      worker.waiting.clear()
      worker.watches.clear()
    })
  }

  /** A call to another system: `effect` is done there, as one step, unless it waits. */
  remote<A, E>(worker: Worker, effect: Effect.Effect<A, E>): Effect.Effect<A, E> {
    // no fault of this kind makes an error: what another system answers is the user's to say
    return this.call(worker, "remote", () => effect as Effect.Effect<A, never>) as Effect.Effect<A, E>
  }

  // -----------------------------------------------------------------------------
  // the log, as a worker sees it
  // -----------------------------------------------------------------------------

  client(worker: Worker): Transport["Service"] {
    const { ledger, log } = this
    const look = <A>(perform: () => Effect.Effect<A, TransportError>) => this.call(worker, "look", perform)
    return Transport.of({
      ...log,
      publish: (address, messages, retention, replication) =>
        this.call(worker, "publish", () =>
          noting(log.publish(address, messages, retention, replication), ({ ids }) =>
            ledger.published(worker, address, messages, ids)
          )
        ),
      join: (options) => this.join(worker, options),
      enroll: (options) => this.enroll(worker, options),
      tend: (group) =>
        this.call(worker, "tend", () => noting(log.tend(group), (tended) => ledger.tended(worker, group, tended)), {
          group
        }),
      watch: (address, changed) =>
        Effect.asVoid(
          this.scoped(worker, "watch", (scope) =>
            Scope.provide(
              log.watch(address, () => this.send(worker.process, 0, changed)),
              scope
            )
          )
        ),
      trim: (address) =>
        this.call(worker, "trim", () =>
          noting(log.trim(address), ({ trimmed }) => ledger.trims(worker, address, trimmed))
        ),
      groups: (address) => look(() => log.groups(address)),
      removeGroup: (group) => look(() => log.removeGroup(group)),
      inspect: (group) => look(() => log.inspect(group)),
      lastId: (address) => look(() => log.lastId(address)),
      outstanding: (group, options) => look(() => log.outstanding(group, options)),
      // this log would tell, but only those who wait in its own process
      progress: () => Effect.sleep(10),
      deadLetters: {
        page: (group, options) => look(() => log.deadLetters.page(group, options)),
        get: (group, id) => look(() => log.deadLetters.get(group, id)),
        count: (group) => look(() => log.deadLetters.count(group)),
        redrive: (group, ids, delay) => look(() => log.deadLetters.redrive(group, ids, delay)),
        discard: (group, ids) => look(() => log.deadLetters.discard(group, ids))
      }
    })
  }

  /** Something that lasts at the log until the worker's scope closes, or its connection does. */
  private scoped<A>(
    worker: Worker,
    what: keyof typeof endings,
    open: (scope: Scope.Closeable) => Effect.Effect<A, TransportError>
  ): Effect.Effect<{ readonly value: A; readonly scope: Scope.Closeable }, TransportError, Scope.Scope> {
    const close = (scope: Scope.Closeable) => void this.serve(Scope.close(scope, Exit.void))
    const acquire = this.call(
      worker,
      what,
      () => {
        const scope = Scope.makeUnsafe()
        if (what === "watch") worker.watches.add(scope)
        return Effect.map(open(scope), (value) => ({ value, scope }))
      },
      { waits: true, undo: ({ scope }) => close(scope) }
    )
    return Effect.acquireRelease(
      acquire,
      ({ scope }) =>
        what === "watch"
          ? Effect.sync(() => this.send(this.server, 0, () => close(scope)))
          : // nobody is left who could act on an error
            Effect.ignore(this.call(worker, endings[what], () => Scope.close(scope, Exit.void))),
      { interruptible: true }
    )
  }

  private join(worker: Worker, options: JoinOptions): Effect.Effect<Consumer, TransportError, Scope.Scope> {
    const { ledger, log } = this
    const { group } = options
    const joining = this.scoped(worker, "join", (scope) =>
      Effect.flatMap(Scope.provide(log.join(options), scope), (consumer) => {
        ledger.joined(worker, group, consumer)
        return ending(scope, consumer, () => ledger.left(worker, group, consumer))
      })
    )
    return Effect.map(joining, ({ value }) => this.consumer(worker, group, value))
  }

  private enroll(worker: Worker, options: EnrollOptions): Effect.Effect<Enrolled, TransportError, Scope.Scope> {
    const { ledger, log } = this
    const { group } = options
    const enrolling = this.scoped(worker, "enroll", (scope) =>
      Effect.flatMap(Scope.provide(log.enroll(options), scope), (place) => {
        ledger.joined(worker, group, place)
        return ending(scope, place, () => ledger.left(worker, group, place))
      })
    )
    return Effect.map(enrolling, ({ value: place }) => ({
      name: place.name,
      keep: () => {
        place.keep()
        ledger.kept(group)
      },
      roster: this.call(worker, "roster", () => place.roster),
      rest: this.call(worker, "roster", () => place.rest),
      watch: (changed) =>
        Effect.asVoid(
          this.scoped(worker, "watch", (scope) =>
            Scope.provide(
              place.watch(() => this.send(worker.process, 0, changed)),
              scope
            )
          )
        ),
      claim: Effect.suspend(() => this.claim(worker, options, place))
    }))
  }

  private claim(
    worker: Worker,
    { group, visibilityTimeout }: EnrollOptions,
    place: Enrolled
  ): Effect.Effect<Option.Option<Owner>, TransportError, Scope.Scope> {
    const { ledger } = this
    const claiming = this.scoped(worker, "claim", (scope) =>
      Effect.flatMap(Scope.provide(place.claim, scope), (owner): Effect.Effect<Option.Option<Owner>> => {
        if (Option.isNone(owner)) return Effect.succeed(owner)
        const { fence } = owner.value
        ledger.claimed(worker, group, fence)
        return ending(scope, owner, () => ledger.ceded(worker, group, fence))
      })
    )
    return Effect.flatMap(claiming, ({ value }): Effect.Effect<Option.Option<Owner>, never, Scope.Scope> =>
      Option.isNone(value)
        ? Effect.succeed(value)
        : Effect.as(
            Effect.addFinalizer(() => Effect.sync(() => ledger.dropped(worker, group))),
            Option.some(this.owner(worker, group, value.value, Duration.toMillis(visibilityTimeout)))
          )
    )
  }

  private owner(worker: Worker, group: Group, owner: Owner, lease: number): Owner {
    let lost = false
    let taken = 0
    const timed = {
      ...owner,
      fetch: (limit: OwnerLimit) => noting(owner.fetch(limit), () => (taken = this.world.now))
    }
    const lose = (): "lost" => {
      lost = true
      return "lost"
    }
    const end = Effect.sync(lose)
    const { extend, fetch, settle } = this.calls<OwnerLimit, ReadonlyArray<Entry>, "lost">(
      worker,
      group,
      timed,
      owner.fence
    )
    return {
      ...owner,
      // what a lost reply has delivered is known to nobody, and what a late one has may be another's: it is to be claimed anew
      fetch: (limit) =>
        Effect.suspend(() => (lost ? end : fetch(limit))).pipe(
          Effect.flatMap((fetched) => (this.world.now - taken >= lease ? end : Effect.succeed(fetched))),
          Effect.catchIf(
            ({ reason }) => reason._tag === "Unknown",
            () => end
          )
        ),
      settle,
      extend: (entries) => Effect.map(extend(entries), (answer) => (answer === "lost" ? lose() : answer)),
      mark: (origin, ids) =>
        Effect.map(
          this.call(worker, "mark", () => owner.mark(origin, ids)),
          (answer) => (answer === "lost" ? lose() : answer)
        )
    }
  }

  private consumer(worker: Worker, group: Group, consumer: Consumer): Consumer {
    return {
      ...consumer,
      keep: () => {
        consumer.keep()
        this.ledger.kept(group)
      },
      mark: (origin, id) => this.call(worker, "mark", () => consumer.mark(origin, id)),
      ...this.calls<FetchLimit, NonEmptyReadonlyArray<Entry>, never>(worker, group, consumer, undefined)
    }
  }

  /** What is asked by whoever is delivered something, be it a consumer or an owner. */
  private calls<Limit extends FetchLimit, Some extends ReadonlyArray<Entry>, Lost extends "lost">(
    worker: Worker,
    group: Group,
    place: Place<Limit, Some, Lost>,
    fence: number | undefined
  ): Place<Limit, Some, Lost> {
    const { ledger } = this
    const settle = (settlements: NonEmptyReadonlyArray<Settlement>) =>
      noting(place.settle(settlements), (results) => ledger.settled(worker, group, settlements, results))
    const release = (entries: ReadonlyArray<Entry>) => {
      const [first, ...rest] = entries.map((entry): Settlement => ({
        entry,
        outcome: { _tag: "Release" },
        repeated: false
      }))
      if (first !== undefined) this.serve(settle([first, ...rest]))
    }
    const settleHalf = ([first, ...rest]: NonEmptyReadonlyArray<Settlement>): Effect.Effect<
      ReadonlyArray<Settled>,
      TransportError
    > => {
      const full = failed("settle", "fails")
      if (rest.length === 0) return Effect.succeed([full])
      const stored = rest.slice(0, Math.ceil(rest.length / 2) - 1)
      return Effect.map(settle([first, ...stored]), (results) => [
        ...results,
        ...rest.slice(stored.length).map((): Settled => full)
      ])
    }
    // without a key nothing has a place that it could lose
    const nothingLeft = fence === undefined ? undefined : Latch.makeUnsafe(true)
    return {
      fetch: (limit) => {
        const fetched = this.call(
          worker,
          "fetch",
          () => {
            const since = this.world.now
            return noting(place.fetch(limit), (fetched) => {
              if (!isLost(fetched)) ledger.taken(worker, group, fetched.entries, limit, since, fence)
            })
          },
          {
            group,
            waits: true,
            nothingLeft,
            undo: (fetched) => (isLost(fetched) ? undefined : release(fetched.entries)),
            heard: (fetched) => (isLost(fetched) ? undefined : ledger.heard(worker, group, fetched.entries))
          }
        )
        return Effect.interruptible(nothingLeft === undefined ? fetched : Effect.andThen(nothingLeft.await, fetched))
      },
      settle: (settlements) =>
        this.call(worker, "settle", () => settle(settlements), {
          group,
          half: () => settleHalf(settlements),
          heard: (results) => ledger.told(worker, group, settlements, results)
        }),
      extend: (entries) =>
        this.call(
          worker,
          "extend",
          () =>
            noting(place.extend(entries), (lost) => {
              if (!isLost(lost)) ledger.extended(worker, group, entries, lost, fence)
            }),
          {
            group,
            heard: (lost) => (isLost(lost) ? undefined : ledger.lost(worker, group, lost))
          }
        )
    }
  }
}

/** What consumers and owners have in common. */
interface Place<Limit extends FetchLimit, Some extends ReadonlyArray<Entry>, Lost extends "lost"> extends Pick<
  Consumer,
  "settle"
> {
  readonly fetch: (limit: Limit) => Effect.Effect<Fetched | Lost, TransportError>
  readonly extend: (entries: Some) => Effect.Effect<ReadonlyArray<Entry> | Lost, TransportError>
}

/** Takes note of what the log has done, in the same step. */
const noting = <A, E>(done: Effect.Effect<A, E>, note: (value: A) => void): Effect.Effect<A, E> =>
  Effect.map(done, (value) => {
    note(value)
    return value
  })

const isLost = (answer: object | "lost"): answer is "lost" => answer === "lost"

/** Calls `ended` when the scope has closed, which takes back what was opened in it before. */
const ending = <A>(scope: Scope.Closeable, value: A, ended: () => void): Effect.Effect<A> =>
  Effect.as(Scope.addFinalizer(scope, Effect.sync(ended)), value)

const failed = (operation: string, how: "fails" | "losesReply"): TransportError =>
  new TransportError({
    operation,
    reason:
      how === "fails"
        ? new Unavailable({ detail: "the simulator cut it off" })
        : new Unknown({ detail: "the simulator lost the reply" })
  })
