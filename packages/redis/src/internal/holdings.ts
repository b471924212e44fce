/**
 * What was delivered to a member of a group, or to the owner of a log, and is not settled.
 *
 * After a connect the server may be another one, or have lost its last writes. What it does not know as delivered is over,
 * as it delivers that anew; and what is said of the former delivery must not count for the new one. So nothing is read
 * from it before it was asked.
 */
import type { Entry } from "@clutch/core/Transport"
import type { Connection } from "../RedisClient.ts"
import type { RedisEntry } from "./entry.ts"

/** By log and id. */
export class Holdings implements Readonly<Record<Entry["origin"], Map<string, RedisEntry>>> {
  readonly main = new Map<string, RedisEntry>()
  readonly retry = new Map<string, RedisEntry>()
  /** Held until the server was found not to know of it. */
  private readonly over = new WeakSet<RedisEntry>()
  private surveyed: number
  private readonly client: Connection

  constructor(client: Connection) {
    this.client = client
    this.surveyed = client.epoch()
  }

  add(entry: RedisEntry): void {
    this[entry.origin].set(entry.id, entry)
  }

  has(entry: RedisEntry): boolean {
    return this[entry.origin].get(entry.id) === entry
  }

  /** It was settled, or is lost. */
  drop(entry: RedisEntry): void {
    if (this.has(entry)) this[entry.origin].delete(entry.id)
  }

  /** Whether the delivery is over, whatever the log would say: it was delivered here again, or is unknown to the server. */
  isOver(entry: RedisEntry): boolean {
    const held = this[entry.origin].get(entry.id)
    return (held !== undefined && held !== entry) || this.over.has(entry)
  }

  /** Whether the server that is asked now has delivered it itself, so that only a taker could have ended that. */
  isOf(entry: RedisEntry): boolean {
    return entry.epoch === this.client.epoch()
  }

  all(): ReadonlyArray<RedisEntry> {
    return [...this.main.values(), ...this.retry.values()]
  }

  isSurveyed(): boolean {
    return this.surveyed === this.client.epoch()
  }

  /** Before a read. `lost` asks the server which of these it does not count as delivered here. */
  async survey(lost: (entries: ReadonlyArray<RedisEntry>) => Promise<ReadonlyArray<RedisEntry>>): Promise<void> {
    while (!this.isSurveyed()) {
      const epoch = this.client.epoch()
      const before = this.all().filter((entry) => entry.epoch !== epoch)
      const unknown = before.length === 0 ? [] : await lost(before)
      for (const entry of unknown) {
        this.over.add(entry)
        this.drop(entry)
      }
      this.surveyed = epoch
    }
  }
}
