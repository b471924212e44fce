/**
 * What was delivered from one log and is not settled, in the order in which it came.
 *
 * Nearly everything comes once and goes once, in the order of ids, and is never asked for by its id. So this is a list
 * with gaps; an index by id is made where something is looked for, and dropped when it goes on in order.
 */
import type { RedisEntry } from "./entry.ts"

export class Held {
  private items: Array<RedisEntry | undefined> = []
  private count = 0
  /** The greatest id: whatever is behind it was never held. */
  private last = ""
  private index: Map<string, RedisEntry> | undefined

  /** Takes the place of an earlier delivery of the same entry. */
  add(entry: RedisEntry): void {
    if (isBehind(entry.id, this.last)) {
      this.last = entry.id
      this.index = undefined
    } else {
      const earlier = this.find(entry.id)
      if (earlier !== undefined) this.remove(earlier)
    }
    entry.place = this.items.length
    this.items.push(entry)
    this.count += 1
    this.index?.set(entry.id, entry)
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
    const kept = this.values()
    let place = 0
    for (const entry of kept) entry.place = place++
    this.items = kept
  }
}

/** By milliseconds, then by sequence. Most ids share their first digits, so the texts are compared, and no parts are made. */
const isBehind = (id: string, other: string): boolean => {
  const dash = id.indexOf("-")
  const otherDash = other.indexOf("-")
  if (dash !== otherDash) return dash > otherDash
  for (let at = 0; at < dash; at++) {
    const difference = id.charCodeAt(at) - other.charCodeAt(at)
    if (difference !== 0) return difference > 0
  }
  return id.length === other.length ? id > other : id.length > other.length
}
