/** What was taken and has not started, oldest first. */
import type { Handling } from "./handling.ts"
import type { Origin } from "./marks.ts"

export class Waiting implements Iterable<Handling> {
  private items: Array<Handling | undefined> = []
  private head = 0
  readonly counts: Record<Origin, number> = { main: 0, retry: 0 }

  get size(): number {
    return this.items.length - this.head
  }
  get first(): Handling | undefined {
    return this.items[this.head]
  }
  push(handling: Handling): void {
    this.items.push(handling)
    this.count(handling, 1)
  }
  shift(): Handling | undefined {
    const handling = this.first
    if (handling === undefined) return undefined
    // what was shifted is let go of: until the next slice it would live on, of many partitions tens of thousands
    this.items[this.head] = undefined
    this.head += 1
    this.count(handling, -1)
    // gaps are dropped now and then, so that neither memory nor a shift grows with what has passed
    if (this.head > 1024 && this.head * 2 > this.items.length) {
      this.items = this.items.slice(this.head)
      this.head = 0
    }
    return handling
  }
  /** Takes out what satisfies the predicate. */
  remove(predicate: (handling: Handling) => boolean): ReadonlyArray<Handling> {
    const removed: Array<Handling> = []
    const kept: Array<Handling> = []
    for (const handling of this) (predicate(handling) ? removed : kept).push(handling)
    this.items = kept
    this.head = 0
    for (const handling of removed) this.count(handling, -1)
    return removed
  }
  private count({ entry }: Handling, change: 1 | -1): void {
    if (entry.origin === "main") this.counts.main += change
    else this.counts.retry += change
  }
  *[Symbol.iterator](): Iterator<Handling> {
    for (let at = this.head; at < this.items.length; at++) {
      const handling = this.items[at]
      if (handling !== undefined) yield handling
    }
  }
}
