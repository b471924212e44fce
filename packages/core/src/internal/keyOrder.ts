/**
 * Which message of each key may start: one at a time, in the order of the log.
 *
 * Plain state of one partition. A key has a head, which runs or is about to; what comes after it waits in memory. From the
 * moment that the head is to be retried, the key is held back on the log: what waits is parked there, so that it
 * takes no room here, and comes back, one by one, as entries of the retry log.
 */
import { millisOf } from "../Message.ts"
import type { Settled } from "../Transport.ts"
import type { Handling } from "./handling.ts"
import { compareIds } from "./ids.ts"

/** A class, as the engine allots what literals make among what lives long, once it has seen many wait. */
class Key {
  head: Handling | undefined
  /** The log has the head's outcome. */
  settled = false
  /** The head's handler has ended. */
  ended = false
  readonly behind: Array<Handling> = []
  /** The log holds the key back since then; `undefined` where it does not. */
  since: number | undefined
  /** Messages that the log was asked to park, and has not answered. */
  parking = 0
  /** Messages that it has parked since this worker owns the partition. */
  parked = 0

  constructor(since: number | undefined) {
    this.since = since
  }

  /** Whether anything depends on it. */
  get isActive(): boolean {
    return this.head !== undefined || this.since !== undefined || this.parking > 0
  }
}

/** So many keys are kept though nothing depends on them, or as many as it does on. */
const leastKept = 1024

export interface Options {
  readonly heldBack: ReadonlyArray<{ readonly key: string; readonly since: number }>
  readonly parked: number
  /** The message may start. */
  readonly ready: (handling: Handling) => void
  /** The message is to wait on the log. */
  readonly park: (handling: Handling) => void
  /** The log hands out what was handed out before: somebody else took it meanwhile. */
  readonly outOfOrder: () => void
}

/** The key of a message that has a place in the order: a redriven one has none. */
export const keyOf = ({ entry, message }: Handling): string | undefined =>
  entry.redriven === undefined ? (entry.key ?? message.partitionkey) : undefined

export class KeyOrder {
  /** Messages here that wait for the one before them. */
  stuck = 0
  /**
   * Idle keys stay for a while: to take each out and put it back would make the map outgrow its tables all the time, which
   * hold each other and what was in them until the engine collects all of its memory.
   */
  private keys = new Map<string, Key>()
  private mostKept = leastKept
  private readonly options: Options
  private last = "0-0"
  /** What came out of order, and all since: it might overtake others, so that nothing of it starts here. */
  private readonly astray: Array<Handling> = []
  private isAstray = false
  /** Parked before this worker owned the partition. */
  private parkedBefore: number
  private parkedHere = 0

  constructor(options: Options) {
    this.options = options
    this.parkedBefore = options.parked
    for (const { key, since } of options.heldBack) this.keys.set(key, new Key(since))
  }

  get parked(): number {
    return this.parkedBefore + this.parkedHere
  }

  /** How many keys are held back, and since when the first of them is. */
  heldBack(): { readonly keys: number; readonly since: number | undefined } {
    let keys = 0
    let since: number | undefined
    for (const key of this.keys.values()) {
      if (key.since === undefined) continue
      keys += 1
      since = Math.min(since ?? key.since, key.since)
    }
    return { keys, since }
  }

  /** A message came from the log. */
  offer(handling: Handling): void {
    if (this.isAstray) return void this.astray.push(handling)
    const { entry } = handling
    const name = keyOf(handling)
    if (name === undefined) return this.options.ready(handling)
    if (entry.origin === "main") {
      if (compareIds(entry.id, this.last) <= 0) {
        this.isAstray = true
        this.astray.push(handling)
        return this.options.outOfOrder()
      }
      this.last = entry.id
    }
    const key = this.keys.get(name) ?? this.begin(name)
    if (entry.origin === "retry") key.since ??= millisOf(entry.originalId)
    else if (key.since !== undefined) return this.park(key, handling)
    if (key.head === undefined) return this.lead(key, handling)
    key.behind.push(handling)
    this.stuck += 1
  }

  private begin(name: string): Key {
    if (this.keys.size >= this.mostKept) {
      this.keys = new Map(Array.from(this.keys).filter(([, { isActive }]) => isActive))
      this.mostKept = Math.max(leastKept, 2 * this.keys.size)
    }
    const key = new Key(undefined)
    this.keys.set(name, key)
    return key
  }

  private lead(key: Key, handling: Handling): void {
    key.head = handling
    key.settled = false
    key.ended = false
    this.options.ready(handling)
  }

  private park(key: Key, handling: Handling): void {
    key.parking += 1
    this.options.park(handling)
  }

  /** The message is to be tried again: what is behind it waits on the log, where it takes nobody's room. */
  hold(handling: Handling): void {
    const key = this.of(handling)
    if (key === undefined || key.since !== undefined) return
    key.since = millisOf(handling.originalId)
    this.stuck -= key.behind.length
    for (const next of key.behind.splice(0)) this.park(key, next)
  }

  /** The log has taken the outcome. */
  settled(handling: Handling, how: Settled): void {
    const key = this.of(handling)
    if (key === undefined) return
    const isFreed = how === "freed" || (typeof how === "object" && "freed" in how && how.freed === true)
    if (handling.outcome?._tag === "Park") {
      key.parking -= 1
      key.parked += 1
      this.parkedHere += 1
    } else if (isFreed) {
      this.parkedHere -= key.parked
      key.parked = 0
      // what is being parked now, becomes what holds it back
      if (key.parking === 0) key.since = undefined
    } else if (handling.entry.origin === "retry" && isOver(handling)) {
      // the next of the key has left its place
      if (key.parked > 0) {
        key.parked -= 1
        this.parkedHere -= 1
      } else if (this.parkedBefore > 0) this.parkedBefore -= 1
    }
    if (key.head === handling) key.settled = true
    this.advance(handling, key)
  }

  /** Its handler ended, or there will be none. */
  ended(handling: Handling): void {
    const key = this.of(handling)
    if (key === undefined) return
    if (key.head === handling) key.ended = true
    this.advance(handling, key)
  }

  /** Takes out what waits, to be given back as what was ready is: the log hands it out once more. */
  clear(ready: ReadonlyArray<Handling>): ReadonlyArray<Handling> {
    for (const handling of ready) this.ended(handling)
    this.stuck = 0
    this.last = "0-0"
    return [...this.keys.values()].flatMap(({ behind }) => behind.splice(0)).concat(this.astray.splice(0))
  }

  *waiting(): IterableIterator<Handling> {
    if (this.stuck > 0) for (const { behind } of this.keys.values()) yield* behind
    yield* this.astray
  }

  private of(handling: Handling): Key | undefined {
    const name = keyOf(handling)
    const key = name === undefined ? undefined : this.keys.get(name)
    return key?.isActive === true ? key : undefined
  }

  private advance(handling: Handling, key: Key): void {
    if (key.head !== handling || !key.settled || !key.ended) return
    key.head = undefined
    const next = key.behind.shift()
    if (next === undefined) return
    this.stuck -= 1
    this.lead(key, next)
  }
}

const isOver = ({ outcome }: Handling) => outcome?._tag === "Ack" || outcome?._tag === "DeadLetter"
