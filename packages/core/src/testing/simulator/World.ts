/**
 * A world of processes that share nothing but a log: one clock, and one scheduler that lets a throw of the dice decide
 * whose turn it is. Time stands still while anybody can run; then it jumps to what falls due next. So a history of hours
 * takes milliseconds, and the same dice make the same history.
 */
import type * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import type * as Scheduler from "effect/Scheduler"
import { Heap } from "../../internal/memoryStructures.ts"
import type { Dice } from "./Dice.ts"

/** When histories begin: 2026, so that dates in handlers look like dates. */
export const epoch = Date.UTC(2026, 0, 1)

/** A history has some thousands; one that goes round in circles, or waits for ever beside heartbeats, is ended here. */
export const mostSteps = 40_000

interface Timer {
  readonly at: number
  readonly turn: number
  readonly process: Process
  readonly run: () => void
  cancelled: boolean
}

/** Has something to do in a process, and a place among those that are ready for it. */
interface Ready {
  readonly process: Process
  /** It has its place already. */
  queued: boolean
  readonly isEmpty: boolean
  readonly step: () => void
}

interface Task {
  readonly run: () => void
  readonly priority: number
  next: Task | undefined
}

/** What one fiber has to do, in its order; between fibers, order is chance. */
class Queue implements Scheduler.SchedulerDispatcher, Ready {
  readonly process: Process
  /** By priority, the least first; nearly always one. */
  private head: Task | undefined
  private last: Task | undefined
  queued = false

  constructor(process: Process) {
    this.process = process
  }

  scheduleTask(run: () => void, priority: number): void {
    const task: Task = { run, priority, next: undefined }
    if (this.last === undefined) {
      this.head = task
      this.last = task
    } else if (this.last.priority <= priority) {
      this.last.next = task
      this.last = task
    } else this.insert(task)
    this.process.wants(this)
  }

  /** Before the first that has to wait for it. */
  private insert(task: Task): void {
    let before: Task | undefined
    let behind = this.head
    while (behind !== undefined && behind.priority <= task.priority) {
      before = behind
      behind = behind.next
    }
    task.next = behind
    if (before === undefined) this.head = task
    else before.next = task
  }

  /** Asked for by runs to completion, which no simulated process makes. */
  flush(): void {
    throw new Error("a simulated process cannot be run synchronously: compose Effects instead of Effect.runSync")
  }

  get isEmpty(): boolean {
    return this.head === undefined
  }

  step(): void {
    const task = this.head
    if (task === undefined) return
    this.head = task.next
    if (this.head === undefined) this.last = undefined
    task.run()
  }
}

/** What one timer or message has to do, once. */
class Once implements Ready {
  readonly process: Process
  readonly step: () => void
  readonly isEmpty = true
  queued = false

  constructor(process: Process, run: () => void) {
    this.process = process
    this.step = run
  }
}

export type State = "runs" | "frozen" | "dead"

/** A process: what runs in it, what it waits for, and whether it runs at all. It is the scheduler of its fibers. */
export class Process implements Scheduler.Scheduler {
  readonly executionMode = "async"
  readonly name: string
  readonly clock: Clock.Clock
  readonly world: World
  state: State = "runs"
  private readonly held: Array<Ready> = []
  private patience: number

  constructor(world: World, name: string) {
    this.world = world
    this.name = name
    this.clock = new WorldClock(this)
    this.patience = world.patience()
  }

  makeDispatcher(): Scheduler.SchedulerDispatcher {
    return new Queue(this)
  }

  /** A fiber may be made to yield behind any operation; here chance says where. */
  shouldYield(fiber: Fiber.Fiber<unknown, unknown>): boolean {
    if (fiber.currentOpCount < this.patience) return false
    this.patience = this.world.patience()
    return true
  }

  /** Does it in this process, as soon as it is its turn. */
  post(run: () => void): void {
    this.wants(new Once(this, run))
  }

  wants(queue: Ready): void {
    if (queue.queued || this.state === "dead") return
    queue.queued = true
    if (this.state === "frozen") this.held.push(queue)
    else this.world.ready.push(queue)
  }

  /** Nothing of it runs until `thaw`; what falls due meanwhile comes then, late. */
  freeze(): void {
    if (this.state === "runs") this.state = "frozen"
  }

  thaw(): void {
    if (this.state !== "frozen") return
    this.state = "runs"
    this.world.ready.push(...this.held.splice(0))
  }

  /** Nothing of it ever runs again: no finalizer, no reply, no timer. */
  kill(): void {
    this.state = "dead"
    this.held.length = 0
  }

  /** Called by the world where its turn has come while it is frozen. */
  hold(queue: Ready): void {
    this.held.push(queue)
  }
}

/** The world's time, as a process sees it. */
class WorldClock implements Clock.Clock {
  private readonly process: Process
  readonly currentTimeMillis: Effect.Effect<number> = Effect.sync(() => this.currentTimeMillisUnsafe())
  readonly currentTimeNanos: Effect.Effect<bigint> = Effect.sync(() => this.currentTimeNanosUnsafe())
  readonly monotonicTimeNanos: Effect.Effect<bigint> = this.currentTimeNanos

  constructor(process: Process) {
    this.process = process
  }

  currentTimeMillisUnsafe(): number {
    return this.process.world.now
  }

  currentTimeNanosUnsafe(): bigint {
    return BigInt(Math.round(this.process.world.now * 1000)) * 1000n
  }

  monotonicTimeNanosUnsafe(): bigint {
    return this.currentTimeNanosUnsafe()
  }

  sleep(duration: Duration.Duration): Effect.Effect<void> {
    const millis = Duration.toMillis(duration)
    if (millis <= 0) return Effect.yieldNow
    if (millis === Infinity) return Effect.never
    return Effect.callback((resume) => {
      const cancel = this.process.world.after(this.process, millis, () => resume(Effect.void))
      return Effect.sync(cancel)
    })
  }
}

const soonest = (self: Timer, that: Timer) => self.at - that.at || self.turn - that.turn

export class World {
  now = epoch
  /** Who has something to do now, of processes that run. */
  readonly ready: Array<Ready> = []
  steps = 0
  private readonly dice: Dice
  /** How many operations a fiber may make before it yields; `undefined`: as Effect does. */
  private readonly hectic: number | undefined
  private timers = new Heap<Timer>(soonest)
  private turns = 0

  constructor(dice: Dice) {
    this.dice = dice
    this.hectic = dice.pick(undefined, undefined, 400, 60)
  }

  patience(): number {
    // below a handful of operations a fiber would come to nothing but yielding
    return this.hectic === undefined ? 2048 : this.dice.between(8, this.hectic)
  }

  /** Calls it in the process after so long, in whole milliseconds; the result takes it back. */
  after(process: Process, millis: number, run: () => void): () => void {
    const timer: Timer = { at: this.now + Math.ceil(millis), turn: this.turns++, process, run, cancelled: false }
    this.timers.push(timer)
    return () => {
      timer.cancelled = true
    }
  }

  /** Runs until `done` says so: whether it was. Not, where nothing is left to do, or it takes too long. */
  run(done: () => boolean, until: number): boolean {
    for (;;) {
      while (this.ready.length > 0) {
        if (done()) return true
        if (this.isWorn) return false
        this.step()
      }
      if (done()) return true
      const next = this.timers.peek()
      if (next === undefined || next.at > until) return false
      this.now = Math.max(this.now, next.at)
      this.due()
    }
  }

  /** It was ended, though there was something left to do. */
  get isWorn(): boolean {
    return this.steps > mostSteps
  }

  /** Lets go of all that has not run: a clock may be known for longer than its world lasts. */
  end(): void {
    this.timers = new Heap(soonest)
    this.ready.length = 0
  }

  private due(): void {
    for (let timer = this.timers.peek(); timer !== undefined && timer.at <= this.now; timer = this.timers.peek()) {
      this.timers.pop()
      if (!timer.cancelled && timer.process.state !== "dead") timer.process.post(timer.run)
    }
  }

  private step(): void {
    this.steps++
    const at = this.ready.length === 1 ? 0 : this.dice.below(this.ready.length)
    const queue = this.ready[at]
    const last = this.ready.pop()
    if (queue === undefined || last === undefined) return
    if (at < this.ready.length) this.ready[at] = last
    queue.queued = false
    const { process } = queue
    if (process.state === "dead") return
    if (process.state === "frozen") {
      queue.queued = true
      return process.hold(queue)
    }
    queue.step()
    if (!queue.isEmpty && !queue.queued) process.wants(queue)
  }
}
