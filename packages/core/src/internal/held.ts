/**
 * What was taken and is not settled, oldest first. A list with gaps: a set would hash each delivery, and that is felt.
 */
import type { Handling } from "./handling.ts"

export class Held implements Iterable<Handling> {
  size = 0
  private readonly items: Array<Handling | undefined> = []

  add(handling: Handling): void {
    handling.place = this.items.length
    this.items.push(handling)
    this.size += 1
  }

  /** Says whether it was held. */
  delete(handling: Handling): boolean {
    if (this.items[handling.place] !== handling) return false
    this.items[handling.place] = undefined
    this.size -= 1
    // gaps are closed now and then, so that memory does not grow with what has passed
    if (this.items.length > 64 && this.items.length > this.size * 2) this.close()
    return true
  }

  private close(): void {
    let place = 0
    for (const handling of this.items) {
      if (handling === undefined) continue
      handling.place = place
      this.items[place++] = handling
    }
    this.items.length = place
  }

  *[Symbol.iterator](): Iterator<Handling> {
    for (const handling of this.items) if (handling !== undefined) yield handling
  }
}
