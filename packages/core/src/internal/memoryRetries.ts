/**
 * A group's retries: first those whose time has not come, then the retry log.
 *
 * The retry log holds unsettled retries only, so what of it is in flight is known by its count alone.
 *
 * @since 0.1.0
 */
import { type Payload, Tracked } from "./memoryDelivery.ts"
import { Heap, type Identified, IdSource, LiveMinimum, order, type Position, Sequence } from "./memoryStructures.ts"

/** What a retry carries from one attempt to the next. */
export interface Retry {
  readonly original: Identified
  readonly payload: Payload
  /** Attempts made so far. */
  readonly base: number
  readonly firstDelivered: number | undefined
  /** The dead letter it was. */
  readonly redriven: string | undefined
  /** The key that it holds back, or waits behind. */
  readonly key?: string | undefined
}

interface Scheduled extends Retry {
  readonly due: number
  /** Which of those due at the same time comes first. */
  readonly turn: number
  moved: boolean
}

/** Whether what was found lies not behind `through`. */
export const reaches = (found: Position | undefined, through: Position): boolean =>
  found !== undefined && order(found, through) <= 0

const byOriginal = (self: { readonly original: Position }, that: { readonly original: Position }): number =>
  order(self.original, that.original)

export class Retries {
  /** Deliveries of the retry log that are not settled. */
  inFlight = 0

  private readonly stream: string
  private readonly ids = new IdSource()
  private readonly log = new Sequence<Tracked>()
  private readonly due = new Heap<Scheduled>((self, that) => self.due - that.due || self.turn - that.turn)
  private readonly firstInLog = new LiveMinimum<Tracked>(byOriginal, (tracked) => !tracked.settled)
  private readonly firstInDue = new LiveMinimum<Scheduled>(byOriginal, (scheduled) => !scheduled.moved)
  private turns = 0

  constructor(stream: string) {
    this.stream = stream
  }

  get isUntouched(): boolean {
    return this.log.end === 0 && this.due.size === 0
  }

  get scheduled(): number {
    return this.due.size
  }

  get unread(): number {
    return this.log.length
  }

  get nextDue(): number {
    return this.due.peek()?.due ?? Infinity
  }

  schedule(due: number, retry: Retry): void {
    const scheduled: Scheduled = { ...retry, due, turn: this.turns++, moved: false }
    this.due.push(scheduled)
    this.firstInDue.add(scheduled)
  }

  /** Moves what is due to the retry log, at most so many. */
  moveDue(now: number, limit: number): number {
    let moved = 0
    for (; moved < limit; moved++) {
      const scheduled = this.due.peek()
      if (scheduled === undefined || scheduled.due > now) break
      this.due.pop()
      scheduled.moved = true
      this.add(new Tracked("retry", this.stream, this.ids.next(now), scheduled))
    }
    return moved
  }

  /** Appends what no failure has put there: its own id is its original one. */
  append(payload: Payload, now: number): Identified {
    const id = this.ids.next(now)
    this.add(
      new Tracked("retry", this.stream, id, {
        original: id,
        payload,
        base: 0,
        firstDelivered: undefined,
        redriven: undefined
      })
    )
    return id
  }

  /** Appends one whose turn has come. */
  come(retry: Retry, now: number): void {
    this.add(new Tracked("retry", this.stream, this.ids.next(now), retry))
  }

  private add(tracked: Tracked): void {
    this.log.append(tracked)
    this.firstInLog.add(tracked)
  }

  /** The next one to be delivered. */
  peek(): Tracked | undefined {
    return this.log.at(this.log.start)
  }

  take(): void {
    this.log.dropTo(this.log.start + 1)
    this.inFlight++
  }

  /** Whether a retry of something up to `through` is in the log, or due by the given time. */
  outstanding(through: Position, dueBy: number): boolean {
    if (reaches(this.firstInLog.peek()?.original, through)) return true
    return dueBy === Infinity
      ? reaches(this.firstInDue.peek()?.original, through)
      : this.due.some(
          (scheduled) => scheduled.due <= dueBy,
          (scheduled) => reaches(scheduled.original, through)
        )
  }
}
