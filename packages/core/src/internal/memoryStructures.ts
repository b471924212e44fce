/**
 * What the in-memory log is made of: entry ids, an append-only sequence, a heap.
 *
 * Every operation costs O(1) or O(log n), so that a backlog of a million entries does not slow a fetch.
 *
 * @since 0.1.0
 */

// -----------------------------------------------------------------------------
// entry ids
// -----------------------------------------------------------------------------

/** A place in a log: milliseconds, then a number within the millisecond. */
export interface Position {
  readonly ms: number
  readonly seq: number
}

/** A position together with its text, `{ms}-{seq}`. */
export interface Identified extends Position {
  readonly id: string
}

export const order = (self: Position, that: Position): number => self.ms - that.ms || self.seq - that.seq

/** Reads `{ms}-{seq}`, or `{ms}` alone as its number 0. */
export const parseId = (id: string): Identified | undefined => {
  const match = /^(\d+)(?:-(\d+))?$/.exec(id)
  return match === null ? undefined : { ms: Number(match[1]), seq: Number(match[2] ?? 0), id }
}

/** Makes ids that only grow, also while the clock steps back. */
export class IdSource {
  ms = 0
  seq = 0

  /** The id made last; `0-0` before the first, which itself is never made. */
  get last(): string {
    return `${this.ms}-${this.seq}`
  }

  next(now: number): Identified {
    const ms = Math.floor(now)
    if (ms > this.ms) {
      this.ms = ms
      this.seq = 0
    } else {
      this.seq++
    }
    return { ms: this.ms, seq: this.seq, id: this.last }
  }
}

// -----------------------------------------------------------------------------
// collections
// -----------------------------------------------------------------------------

/** Grows at its end and is dropped from its head; an item keeps its index for ever. */
export class Sequence<A> {
  private items: Array<A> = []
  private head = 0
  private dropped = 0

  /** Index of the first item that is still there. */
  get start(): number {
    return this.dropped + this.head
  }

  /** Index of the next item to be appended. */
  get end(): number {
    return this.dropped + this.items.length
  }

  get length(): number {
    return this.items.length - this.head
  }

  at(index: number): A | undefined {
    return index < this.start ? undefined : this.items[index - this.dropped]
  }

  append(item: A): void {
    this.items.push(item)
  }

  /** Drops what is before `index`. */
  dropTo(index: number): void {
    this.head = Math.min(index - this.dropped, this.items.length)
    // half of it gone: copied at a cost that the dropped ones have paid for
    if (this.head > 512 && this.head * 2 > this.items.length) {
      this.items = this.items.slice(this.head)
      this.dropped += this.head
      this.head = 0
    }
  }

  /** Index of the first item that `holds`, where it holds for all behind that one. */
  search(holds: (item: A) => boolean): number {
    let low = this.start
    let high = this.end
    while (low < high) {
      const middle = (low + high) >>> 1
      const item = this.at(middle)
      if (item !== undefined && holds(item)) high = middle
      else low = middle + 1
    }
    return low
  }
}

/** The smallest first. */
export class Heap<A> {
  private items: Array<A> = []
  private readonly compare: (self: A, that: A) => number

  constructor(compare: (self: A, that: A) => number) {
    this.compare = compare
  }

  get size(): number {
    return this.items.length
  }

  peek(): A | undefined {
    return this.items[0]
  }

  push(item: A): void {
    const items = this.items
    let at = items.length
    items.push(item)
    while (at > 0) {
      const up = (at - 1) >> 1
      const parent = items[up]
      if (parent === undefined || this.compare(parent, item) <= 0) break
      items[at] = parent
      at = up
    }
    items[at] = item
  }

  pop(): A | undefined {
    const first = this.items[0]
    const last = this.items.pop()
    if (last !== undefined && this.items.length > 0) this.sink(0, last)
    return first
  }

  private sink(from: number, item: A): void {
    const items = this.items
    let at = from
    for (;;) {
      const left = items[2 * at + 1]
      if (left === undefined) break
      const right = items[2 * at + 2]
      const takesRight = right !== undefined && this.compare(right, left) < 0
      const child = takesRight ? right : left
      if (this.compare(item, child) <= 0) break
      items[at] = child
      at = 2 * at + (takesRight ? 2 : 1)
    }
    items[at] = item
  }

  /** Whether one of those that are `within` matches, where what is not within has nothing within below it. */
  some(within: (item: A) => boolean, matches: (item: A) => boolean): boolean {
    const open = [0]
    for (let at = open.pop(); at !== undefined; at = open.pop()) {
      const item = this.items[at]
      if (item === undefined || !within(item)) continue
      if (matches(item)) return true
      open.push(2 * at + 1, 2 * at + 2)
    }
    return false
  }

  /** Keeps those that `holds`. */
  retain(holds: (item: A) => boolean): void {
    const items = this.items.filter(holds)
    this.items = items
    for (let at = (items.length >> 1) - 1; at >= 0; at--) {
      const item = items[at]
      if (item !== undefined) this.sink(at, item)
    }
  }
}

/** The smallest of what still counts: an item leaves by ceasing to be `live`, from any place, at no cost. */
export class LiveMinimum<A> {
  private readonly heap: Heap<A>
  private readonly isLive: (item: A) => boolean
  private bound = 64

  constructor(compare: (self: A, that: A) => number, isLive: (item: A) => boolean) {
    this.heap = new Heap(compare)
    this.isLive = isLive
  }

  add(item: A): void {
    this.heap.push(item)
    if (this.heap.size > this.bound) {
      // the dead under a long-lived minimum are swept before they outnumber the living
      this.heap.retain(this.isLive)
      this.bound = Math.max(64, this.heap.size * 2)
    }
  }

  peek(): A | undefined {
    for (;;) {
      const first = this.heap.peek()
      if (first === undefined || this.isLive(first)) return first
      this.heap.pop()
    }
  }
}
