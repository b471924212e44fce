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
import { Held } from "./held.ts"

export class Holdings {
  private readonly main = new Held()
  private readonly retry = new Held()
  /** Held until the server was found not to know of it. */
  private readonly over = new WeakSet<RedisEntry>()
  private surveyed: number
  private readonly client: Connection

  constructor(client: Connection) {
    this.client = client
    this.surveyed = client.epoch()
  }

  add(entry: RedisEntry): void {
    this.of(entry.origin).add(entry)
  }

  has(entry: RedisEntry): boolean {
    return this.of(entry.origin).has(entry)
  }

  /** It was settled, or is lost. */
  drop(entry: RedisEntry): void {
    this.of(entry.origin).remove(entry)
  }

  /** Whether some delivery of the entry with this id is held. */
  knows(origin: Entry["origin"], id: string): boolean {
    return this.of(origin).find(id) !== undefined
  }

  /** Whether the delivery is over, whatever the log would say: it was delivered here again, or is unknown to the server. */
  isOver(entry: RedisEntry): boolean {
    return !this.has(entry) && (this.knows(entry.origin, entry.id) || this.over.has(entry))
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

  /** Not by the name of the log: where both are used, that is a slow look-up for each message. */
  private of(origin: Entry["origin"]): Held {
    return origin === "main" ? this.main : this.retry
  }
}
