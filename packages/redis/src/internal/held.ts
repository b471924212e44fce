/**
 * What was delivered from one log and is not settled, in the order in which it came.
 *
 * Nearly everything comes once and goes once, in the order of ids, and is never asked for by its id. So this is a list
 * with gaps; an index by id is made where something is looked for, and dropped when it goes on in order.
 */
import type { RedisEntry } from "./entry.ts"

export class Held {
  private readonly items: Array<RedisEntry | undefined> = []
  private count = 0
  /** The greatest id, whole and without its sequence: whatever is behind it was never held. */
  private last = ""
  private lastMillis = "-"
  private index: Map<string, RedisEntry> | undefined

  /** Takes the place of an earlier delivery of the same entry. */
  add(entry: RedisEntry): void {
    if (this.goesOn(entry.id)) this.index = undefined
    else {
      const earlier = this.find(entry.id)
      if (earlier !== undefined) this.remove(earlier)
    }
    entry.place = this.items.length
    this.items.push(entry)
    this.count += 1
    this.index?.set(entry.id, entry)
  }

  /** Whether the id is behind all that came before: by milliseconds, then by sequence, and a longer number is greater. */
  private goesOn(id: string): boolean {
    if (id.startsWith(this.lastMillis)) {
      const { length } = this.last
      if (id.length === length ? id <= this.last : id.length < length) return false
    } else {
      const millis = id.slice(0, id.indexOf("-") + 1)
      const { length } = this.lastMillis
      if (millis.length === length ? millis < this.lastMillis : millis.length < length) return false
      this.lastMillis = millis
    }
    this.last = id
    return true
  }

  /** The delivery of the entry with this id. */
  find(id: string): RedisEntry | undefined {
    this.index ??= new Map(this.values().map((entry) => [entry.id, entry]))
    return this.index.get(id)
  }

  has(entry: RedisEntry): boolean {
    return this.items[entry.place] === entry
  }

  remove(entry: RedisEntry): void {
    if (!this.has(entry)) return
    this.items[entry.place] = undefined
    this.count -= 1
    this.index?.delete(entry.id)
    // gaps are closed now and then, so that memory does not grow with what has passed
    if (this.items.length > 64 && this.items.length > this.count * 2) this.close()
  }

  values(): Array<RedisEntry> {
    return this.items.filter((entry) => entry !== undefined)
  }

  private close(): void {
    let place = 0
    for (const entry of this.items) {
      if (entry === undefined) continue
      entry.place = place
      this.items[place++] = entry
    }
    this.items.length = place
  }
}
