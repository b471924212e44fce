/**
 * Of an ordered group: who owns its log, which keys are held back, and what waits behind them.
 *
 * @since 0.1.0
 */
import { Bell } from "./memoryBells.ts"
import type { Member } from "./memoryDelivery.ts"
import type { Retry } from "./memoryRetries.ts"
import { type Identified, order } from "./memoryStructures.ts"

export class Order {
  owner: Member | undefined
  fence = 0
  /** When the owner last did something as such. To be seen, as any worker is, renews no lease. */
  renewed = 0
  /** How many messages are parked. */
  parked = 0
  /** Rings when workers or the owner change. */
  readonly changes = new Bell()
  /** By key: when the message was published that holds it back. */
  readonly heldBack = new Map<string, number>()
  private readonly waiting = new Map<string, Array<Retry>>()

  get oldest(): number | undefined {
    return this.heldBack.size === 0 ? undefined : Math.min(...this.heldBack.values())
  }

  isHeldBack(key: string): boolean {
    return this.heldBack.has(key)
  }

  holdBack(key: string, original: Identified): void {
    if (!this.heldBack.has(key)) this.heldBack.set(key, original.ms)
  }

  /** Puts it behind its key; where that is not held back, it is from now on, by this one, and false is returned. */
  park(retry: Retry): boolean {
    const { key, original } = retry
    if (key === undefined) return false
    if (!this.heldBack.has(key)) {
      this.heldBack.set(key, original.ms)
      return false
    }
    const line = this.waiting.get(key) ?? []
    this.waiting.set(key, line)
    // they nearly always come in order
    let at = line.length
    for (let before = line[at - 1]; before !== undefined && order(original, before.original) < 0; before = line[at - 1])
      at--
    line.splice(at, 0, retry)
    this.parked += 1
    return true
  }

  /** The next in line, which holds the key back now; where there is none, nothing does. */
  pass(key: string): Retry | undefined {
    const line = this.waiting.get(key)
    const next = line?.shift()
    if (line?.length === 0) this.waiting.delete(key)
    if (next === undefined) this.heldBack.delete(key)
    else {
      this.parked -= 1
      this.heldBack.set(key, next.original.ms)
    }
    return next
  }
}
