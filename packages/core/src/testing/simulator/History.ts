/** One history: workers, a log, faults and chance, from the first join until everything is at rest. */
import type { NonEmptyReadonlyArray } from "effect/Array"
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Random from "effect/Random"
import * as References from "effect/References"
import * as Result from "effect/Result"
import * as Scheduler from "effect/Scheduler"
import * as Formatter from "effect/Formatter"
import { type PublishError, SubscribeError, type TransportError } from "../../Errors.ts"
import { anEffect } from "../../internal/anEffect.ts"
import type { Definition } from "../../internal/definition.ts"
import { confirm, logsOf } from "../../internal/partitions.ts"
import * as policies from "../../internal/policy.ts"
import { sumOf } from "../../internal/stats.ts"
import { type Started, subscribeAll } from "../../internal/subscribe.ts"
import { Turns } from "../../internal/turns.ts"
import { WriterId } from "../../internal/writer.ts"
import * as MemoryTransport from "../../MemoryTransport.ts"
import { Reclaimer } from "../../Reclaimer.ts"
import { TypeId } from "../../Source.ts"
import * as Subscription from "../../Subscription.ts"
import * as Topic from "../../Topic.ts"
import { Transport } from "../../Transport.ts"
import { Dice } from "./Dice.ts"
import * as Faults from "./Faults.ts"
import { type Event, Ledger } from "./Ledger.ts"
import { broken, type GroupModel, type MessageModel, type Violation } from "./Model.ts"
import { Network, type Worker } from "./Network.ts"
import { here } from "./Remote.ts"
import { type Publication, type Scenario, storedHere } from "./Scenario.ts"
import { epoch, mostSteps, Process, World } from "./World.ts"

/**
 * Which history to run. A seed is enough; the rest narrows it down, and is what a failing history is printed with.
 *
 * @category models
 * @since 0.1.0
 */
export interface Plan {
  /** Decides about everything that is not said below. */
  readonly seed: string
  /** How many workers there are at once. */
  readonly workers: number
  /** Another order of events, all else being equal. Default 0. */
  readonly order?: number | undefined
  /** Which of the scenario's subscriptions run, from 1. Default: all. */
  readonly subscriptions?: ReadonlyArray<number> | undefined
  /** Which of the scenario's messages are published, from 1. Default: all. */
  readonly messages?: ReadonlyArray<number> | undefined
  /** These faults and no others. Default: drawn by the seed, at least as many as `faults` of the options, 3 without. */
  readonly faults?: ReadonlyArray<Faults.Fault> | undefined
}

/** How a history went. */
export interface Outcome {
  /** With the faults that struck: what makes the same history again. */
  readonly plan: Plan & { readonly faults: ReadonlyArray<Faults.Fault> }
  readonly violation: Violation | undefined
  readonly events: ReadonlyArray<Event>
  readonly subscriptions: number
  /** Messages that the log stored. */
  readonly messages: number
  readonly deliveries: number
  /** Virtual time, in milliseconds. */
  readonly millis: number
  /** What it took to run it. */
  readonly steps: number
}

export interface Setup {
  readonly scenario: Effect.Effect<Scenario>
  readonly plan: Plan
  readonly leastFaults: number
  readonly recording: boolean
  /** What the log is, if not `MemoryTransport.make`: a test gives one that misbehaves. */
  readonly log: Effect.Effect<Transport["Service"]>
}

/** What every process has around it: its own time, chance and order; no log lines, as a history is told otherwise. */
const contextOf = (process: Process, dice: Dice): Context.Context<never> =>
  Context.make(Scheduler.Scheduler, process).pipe(
    Context.add(Clock.Clock, process.clock),
    Context.add(Random.Random, dice),
    Context.add(References.MinimumLogLevel, "None"),
    Context.add(Turns, turnsOf(process, dice))
  )

/** Time stands still while a process runs; but handlers take some of it, and its slices end. */
const turnsOf = (process: Process, dice: Dice): Turns => {
  let spent = 0
  return { time: (now) => now + (spent += dice.below(3)), afterThis: (run) => process.post(run) }
}

/** Why a subscription may not start now, and start later. */
const passing: ReadonlySet<string> = new Set(["Unavailable", "Unknown"])

class History {
  private readonly plan: Plan
  private readonly scenario: Scenario
  private readonly world: World
  private readonly server: Process
  private readonly publisher: Process
  private readonly ledger: Ledger
  private readonly chaos: Faults.Chaos
  private readonly network: Network
  private readonly log: Transport["Service"]
  private readonly chance: Dice
  private readonly serverContext: Context.Context<never>
  private readonly publisherContext: Context.Context<never>
  private readonly definitions: ReadonlyArray<{ readonly definition: Definition; readonly policy: policies.Policy }>
  /** Longest visibility timeout of the subscriptions, in milliseconds. */
  private readonly lease: number
  private readonly allReclaim: boolean
  /** No fiber yet, of one that is starting: its first call may be its last. */
  private readonly alive = new Map<Worker, Fiber.Fiber<unknown, unknown> | undefined>()
  /** What they have started. */
  private readonly subscriptions = new WeakMap<Worker, ReadonlyArray<Started>>()
  private publishing = 0
  private published = false
  private ending = false

  constructor({ leastFaults, log, plan, recording, scenario }: Setup) {
    const { seed } = plan
    this.plan = plan
    this.scenario = Effect.runSyncWith(Context.make(Random.Random, new Dice(`${seed}/scenario`)))(scenario)
    const chosen = this.scenario.subscriptions.filter((_, i) => plan.subscriptions?.includes(i + 1) ?? true)
    this.definitions = chosen.map(Subscription.definitionOf).map((definition) => ({
      definition,
      policy: Result.getOrThrow(policies.make(definition.options, definition.kind))
    }))
    this.lease = Math.max(1, ...this.definitions.map(({ policy }) => Duration.toMillis(policy.visibilityTimeout)))
    this.allReclaim = new Dice(`${seed}/reclaiming`).chance(0.3)
    this.chance = new Dice(`${seed}/order ${plan.order ?? 0}`)
    this.world = new World(this.chance)
    this.server = new Process(this.world, "log")
    this.publisher = new Process(this.world, "publisher")
    this.ledger = new Ledger({
      world: this.world,
      definitions: this.definitions,
      messages: this.scenario.messages.length,
      poison: new Set(this.scenario.messages.flatMap(({ _tag }, i) => (_tag === "Raw" ? [i + 1] : []))),
      recording,
      onKept: () => this.publish()
    })
    this.chaos =
      plan.faults === undefined
        ? Faults.drawn(new Dice(`${seed}/faults`), leastFaults, this.lease)
        : Faults.noted(plan.faults)
    // each step of a log is whole
    this.serverContext = Context.add(contextOf(this.server, this.chance), Scheduler.PreventSchedulerYield, true)
    this.publisherContext = contextOf(this.publisher, this.chance)
    this.log = Effect.runSyncWith(this.serverContext)(log)
    this.network = new Network({
      world: this.world,
      dice: this.chance,
      chaos: this.chaos,
      ledger: this.ledger,
      log: this.log,
      server: this.server,
      context: this.serverContext,
      fate: {
        crash: (worker, after) => this.crash(worker, after),
        freeze: (worker, millis) => this.freeze(worker, millis),
        close: (worker, after) => this.close(worker, after),
        pause: (worker, millis) => this.pause(worker, millis)
      }
    })
  }

  // -----------------------------------------------------------------------------
  // workers
  // -----------------------------------------------------------------------------

  private boot(index: number): void {
    if (this.ending) return
    const process = new Process(this.world, `worker ${index}`)
    const worker: Worker = {
      index,
      process,
      waiting: new Set(),
      watches: new Set(),
      isClosing: false,
      isPaused: false,
      calmSince: this.world.now
    }
    this.ledger.note(process.name, () => "starts")
    const definitions = this.definitions.map(({ definition }, i) => this.observed(worker, definition, i))
    const main = Effect.scoped(
      Effect.flatMap(subscribeAll(definitions), (started) => {
        this.subscriptions.set(worker, started)
        return Effect.forEach(started, ({ running }) => running.join, { concurrency: "unbounded", discard: true })
      })
    ).pipe(Effect.provide(Layer.merge(this.scenario.services, this.reclaims(index))))
    const context = contextOf(process, this.chance).pipe(
      Context.add(Transport, this.network.client(worker)),
      Context.add(here, { worker, network: this.network, context: this.serverContext })
    )
    this.alive.set(worker, undefined)
    const fiber = Effect.runForkWith(context)(main)
    if (this.alive.has(worker)) this.alive.set(worker, fiber)
    fiber.addObserver((exit) => this.exited(worker, exit))
  }

  /** All workers reclaim, or one does for all of them. */
  private reclaims(index: number) {
    return index === 1 || this.allReclaim ? Reclaimer.layer : Reclaimer.layerElsewhere
  }

  /** The user's handler, and what the ledger writes around it. */
  private observed(worker: Worker, definition: Definition, i: number): Definition {
    const { ledger } = this
    const group = ledger.groups[i]
    if (group === undefined) return definition
    return {
      ...definition,
      handler: (handlings) =>
        Effect.suspend(() => {
          const deliveries = ledger.started(worker, group, handlings)
          // one that throws before it gives an Effect has failed like any other, and so has one that gives none
          const handled = Effect.scoped(Effect.suspend(() => anEffect("the handler", definition.handler(handlings))))
          // told in the very step in which it ends: who closes may interrupt its fiber at the next
          return Effect.onExitPrimitive(handled, (exit) => {
            ledger.ended(worker, group, deliveries, exit)
            return undefined
          })
        })
    }
  }

  private exited(worker: Worker, exit: Exit.Exit<unknown, unknown>): void {
    if (worker.process.state === "dead") return
    this.alive.delete(worker)
    worker.process.kill()
    this.network.hangUp(worker)
    if (worker.isClosing) return this.ledger.note(worker.process.name, () => "is closed")
    const cause = Exit.isFailure(exit) ? exit.cause : Cause.empty
    const error = Cause.squash(cause)
    // what the log could not answer then it can answer later; what is wrong with a subscription stays so
    const mayStartLater = error instanceof SubscribeError && passing.has(error.reason._tag)
    if (!mayStartLater) {
      this.ledger.violate({ promise: "runtime", problem: `${worker.process.name} ended: ${Cause.pretty(cause)}` })
    }
    this.ledger.note(worker.process.name, () => `cannot start: ${Cause.pretty(cause)}`)
    this.restart(worker, 20)
  }

  private restart(worker: Worker, after: number): void {
    // until it has joined again
    this.ledger.disturbed(worker, after + 30)
    this.world.after(this.server, after, () => this.boot(worker.index))
  }

  private crash(worker: Worker, restartAfter: number): void {
    if (!this.alive.delete(worker)) return
    worker.process.kill()
    this.network.hangUp(worker)
    this.restart(worker, restartAfter)
  }

  private freeze(worker: Worker, millis: number): void {
    worker.process.freeze()
    this.world.after(this.server, millis, () => worker.process.thaw())
  }

  private close(worker: Worker, reopenAfter?: number): void {
    if (!this.alive.has(worker) || worker.isClosing) return
    worker.isClosing = true
    worker.process.post(() => this.alive.get(worker)?.interruptUnsafe())
    if (reopenAfter !== undefined) this.restart(worker, reopenAfter)
  }

  private pause(worker: Worker, millis: number): void {
    worker.process.post(() => this.steer(worker, ({ running }) => running.pause))
    this.world.after(worker.process, millis, () => this.steer(worker, ({ running }) => running.resume))
  }

  private steer(worker: Worker, how: (started: Started) => Effect.Effect<void>): void {
    const started = this.subscriptions.get(worker)
    if (started === undefined || worker.isClosing) return
    worker.isPaused = false
    const steered = Effect.forEach(started, how, { discard: true })
    Effect.runForkWith(contextOf(worker.process, this.chance))(steered).addObserver(() => {
      worker.isPaused = started.every(({ running }) => running.state() === "paused")
    })
  }

  // -----------------------------------------------------------------------------
  // publishing
  // -----------------------------------------------------------------------------

  /** Publishes in batches, at times that chance gives: drawn for all messages, so that leaving some out moves no other. */
  private publish(): void {
    if (this.published || !this.ledger.isReady) return
    this.published = true
    const dice = new Dice(`${this.plan.seed}/publishing`)
    const spread = dice.pick(0, this.lease / 4, this.lease, this.lease * 3)
    const { messages } = this.scenario
    for (let first = 0; first < messages.length;) {
      const size = dice.pick(1, 1, 1, 2, 4)
      const at = Math.round(dice.below(spread + 1))
      const numbers: Array<number> = []
      const { topic, _tag } = messages[first] ?? {}
      for (let i = first; i < Math.min(first + size, messages.length); i++) {
        if (i > first && (messages[i]?.topic !== topic || messages[i]?._tag !== _tag || _tag === "Raw")) break
        numbers.push(i + 1)
      }
      first += numbers.length
      this.publishLater(
        numbers.filter((number) => this.plan.messages?.includes(number) ?? true),
        at
      )
    }
  }

  private publishLater(numbers: ReadonlyArray<number>, at: number): void {
    const publications = numbers.flatMap((number) => this.scenario.messages[number - 1] ?? [])
    const [head, ...tail] = publications
    if (head === undefined) return
    const worker: Worker = {
      index: 0,
      process: this.publisher,
      waiting: new Set(),
      watches: new Set(),
      isClosing: false,
      isPaused: false,
      calmSince: this.world.now,
      publishes: numbers.map((number) => ({ number, key: keyOf(this.scenario.messages[number - 1]) }))
    }
    const context = Context.add(this.publisherContext, Transport, this.network.client(worker))
    this.publishing++
    const fiber = Effect.runForkWith(context)(Effect.delay(publishing([head, ...tail]), at))
    fiber.addObserver((exit) => {
      this.publishing--
      this.ledger.violate(this.judge(numbers, exit))
    })
  }

  private judge(
    numbers: ReadonlyArray<number>,
    exit: Exit.Exit<unknown, { readonly reason: { readonly _tag: string } }>
  ) {
    const times = numbers.map((number) => this.ledger.storedTimes.get(number) ?? 0)
    if (Exit.isSuccess(exit)) {
      return times.includes(0) ? broken(13, `messages ${numbers.join()} are confirmed, and not stored`) : undefined
    }
    const error = Cause.squash(exit.cause) as { readonly reason?: { readonly _tag: string } }
    if (error.reason?._tag === "Encode") {
      return { promise: "scenario", problem: `messages ${numbers.join()} cannot be published: ${messageOf(error)}` }
    }
    const [first] = numbers
    const topic = this.scenario.messages[(first ?? 0) - 1]
    // a batch that is spread over partitions may be stored in some of them
    const isOne = topic?._tag !== "Message" || topic.topic[TypeId].partitions === 1
    const isStored = isOne ? times.some((count) => count > 0) : !times.includes(0)
    return error.reason?._tag === "Unavailable" && isStored
      ? broken(13, `messages ${numbers.join()} are said not to be stored, and are`)
      : undefined
  }

  // -----------------------------------------------------------------------------
  // the history
  // -----------------------------------------------------------------------------

  run(): Outcome {
    const { ledger, world } = this
    const begin = world.now
    for (let index = 1; index <= this.plan.workers; index++) this.boot(index)
    this.publish()
    const isOver = () => ledger.violation !== undefined
    const isDone = () => isOver() || (this.published && this.publishing === 0 && ledger.open === 0)
    if (!world.run(isDone, begin + this.patience)) this.standstill()
    if (!isOver()) this.calmDown(isOver)
    // and what did come has its retries before it
    if (!world.run(isDone, world.now + this.patience)) this.standstill()
    if (!isOver()) this.end(isOver)
    world.end()
    return {
      plan: { ...this.plan, faults: this.chaos.struck },
      violation: ledger.violation,
      events: ledger.events ?? [],
      subscriptions: this.definitions.length,
      messages: ledger.stored,
      deliveries: ledger.deliveries,
      millis: world.now - begin,
      steps: world.steps
    }
  }

  /**
   * Until all that was late has come and all who died or froze are back, and from then on for a lease and a half:
   * what was acked must stay so, and what is not would come again when one has ended.
   */
  private calmDown(isOver: () => boolean): void {
    const { ledger, world } = this
    const begin = world.now
    for (let until = 0, end = begin; end > until && !isOver(); end = Math.max(begin, ledger.calmSince)) {
      until = end
      world.run(isOver, until + 1.5 * this.lease)
    }
  }

  /** Longer than any policy may wait, in virtual milliseconds. */
  private get patience(): number {
    const delays = this.definitions.map(({ policy: { retry } }) => {
      const retries = retry.maxRetries === Infinity ? 100 : retry.maxRetries
      return retries * Duration.toMillis(retry.maxDelay)
    })
    return 600_000 + 100 * this.lease + 2 * Math.max(...delays)
  }

  private standstill(): void {
    const open = this.ledger.groups.flatMap(({ messages, subscription }) =>
      [...messages.values()]
        .filter(({ final, isDue }) => final === undefined && isDue)
        .map((message) => `message ${message.number} of "${subscription}"${stateOf(message)}`)
    )
    const problem = !this.published
      ? "no worker begins: services that a worker builds for itself do not end"
      : open.length === 0
        ? "publishing does not end"
        : `${open.join(", ")} never settled`
    this.ledger.violate(broken(1, this.world.isWorn ? `${problem}; ${worn}` : problem))
  }

  private end(isOver: () => boolean): void {
    const { ledger, world } = this
    this.chaos.end()
    this.ending = true
    for (const worker of this.alive.keys()) this.close(worker)
    if (!world.run(() => isOver() || this.alive.size === 0, world.now + this.patience)) {
      const names = [...this.alive.keys()].map(({ process }) => process.name)
      ledger.violate({ promise: "runtime", problem: `${names.join(", ")} never closed` })
    }
    // finalizers of connections
    if (!isOver()) world.run(isOver, world.now + 10)
    if (!isOver()) this.inspect()
    if (!isOver()) this.atRest(isOver)
  }

  private ask<A, E>(question: Effect.Effect<A, E>): A {
    return Effect.runSyncWith(this.serverContext)(question as Effect.Effect<A>) // the log answers at once
  }

  /** What the log holds in the end: dead letters, and nothing else of anybody. */
  private inspect(): void {
    for (const group of this.ledger.groups) this.inspectGroup(group)
    const { logs, watchers } = this.ask(Effect.provideService(MemoryTransport.snapshot, Transport, this.log))
    if (watchers > 0) this.ledger.violate({ promise: "runtime", problem: `${watchers} watchers are left` })
    const length = logs.reduce((sum, log) => sum + log.length, 0)
    const expected = this.ledger.stored - this.ledger.trimmed
    if (length !== expected) {
      this.ledger.violate(broken(2, `the topics hold ${length} messages, and ${expected} were published and kept`))
    }
  }

  private inspectGroup(group: GroupModel): void {
    const { subscription, topic } = group
    const { deadLetters, due, heldBack, parked, pending } = sumOf(
      logsOf(topic, group.definition.source[TypeId].partitions).map((log) =>
        this.ask(this.log.inspect({ ...log, subscription }))
      )
    )
    const left = `"${subscription}" is left with ${pending} pending deliveries and ${due} retries`
    if (pending + due > 0) this.ledger.violate(broken(3, left))
    const waits = `"${subscription}" is left with ${parked} parked messages, and ${heldBack} keys that are held back`
    if (parked + heldBack > 0) this.ledger.violate(broken(10, waits))
    const expected = `"${subscription}" has ${deadLetters} dead letters, and buried ${group.deadLetters}`
    if (deadLetters !== group.deadLetters) this.ledger.violate(broken(12, expected))
  }

  private atRest(isOver: () => boolean): void {
    const context = this.serverContext.pipe(
      Context.add(Transport, this.log),
      Context.add(
        storedHere,
        this.scenario.messages.filter((_, i) => this.ledger.storedTimes.has(i + 1))
      )
    )
    const fiber = Effect.runForkWith(context)(this.scenario.atRest)
    const isDone = () => fiber.pollUnsafe() !== undefined
    if (!this.world.run(() => isOver() || isDone(), this.world.now + this.patience)) {
      return this.ledger.violate({ promise: "scenario", problem: "atRest does not end" })
    }
    const exit = fiber.pollUnsafe()
    if (exit !== undefined && Exit.isFailure(exit)) {
      this.ledger.violate({ promise: "scenario", problem: messageOf(Cause.squash(exit.cause)) })
    }
  }
}

const keyOf = (publication: Publication | undefined): string | undefined =>
  publication?._tag === "Message" ? publication.topic[WriterId].key?.(publication.data) : undefined

const messageOf = (error: unknown): string => {
  if (error instanceof Error) return error.message
  return typeof error === "string" ? error : Formatter.format(error)
}

/** Whose handler does not end is told: it may wait for what no history wakes. */
const stateOf = ({ last }: MessageModel): string =>
  last?.handler === "runs" && last.worker.process.state !== "dead" && last.started !== undefined
    ? `, whose handler runs since ${last.started - epoch} ms (it may wait by Effect's clock only),`
    : ""

const worn = `the history was ended after ${mostSteps} steps: it is waited for in vain, or something goes round and round, or leases differ so much that most steps are heartbeats`

const publishing = ([first, ...rest]: NonEmptyReadonlyArray<Publication>): Effect.Effect<
  unknown,
  PublishError | TransportError,
  Transport
> => {
  if (first._tag === "Message") {
    const others = rest.flatMap((one) => (one._tag === "Message" ? [one.data] : []))
    return Topic.publishAll(first.topic, [first.data, ...others])
  }
  const {
    topic,
    [TypeId]: { partitions }
  } = first.topic
  const outgoing = { data: first.text, attributes: undefined }
  return Effect.flatMap(Transport, (transport) =>
    Effect.andThen(
      confirm(transport, topic, partitions, "publish"),
      transport.publish({ topic, partition: 0 }, [outgoing], { maxLength: undefined, maxAge: undefined })
    )
  )
}

/** Runs one history, to its end, synchronously. */
export const run = (setup: Setup): Outcome => new History(setup).run()
