/**
 * A claim of a log, as its owner holds it.
 */
import type { Entry } from "@clutch/core/Transport"
import * as Scripts from "../Scripts.ts"
import * as Entries from "./entry.ts"
import type { RedisEntry } from "./entry.ts"
import type { Member } from "./member.ts"
import { Holdings } from "./holdings.ts"

export class Claim {
  /** What was delivered under this claim and is not settled, by id. */
  readonly held: Holdings
  readonly member: Member
  /** Unique to this claim. */
  readonly nonce: string
  /** The call that others have to wait for, as it is not one step. */
  private turn: Promise<unknown> | undefined

  constructor(member: Member, nonce: string) {
    this.member = member
    this.held = new Holdings(member.client)
    this.nonce = nonce
  }

  /** For the scripts. */
  get proof(): Scripts.Member {
    return { keys: this.member.keys, consumer: this.member.consumer, nonce: this.nonce }
  }

  /** For the entries of one read, to be made before it is issued. */
  reading(): (origin: Entry["origin"], id: string, count: number, fields: RedisEntry["fields"]) => RedisEntry {
    const { client, clock, codec, keys } = this.member
    const read: Entries.Read = { keys, codec, nonce: this.nonce, epoch: client.epoch(), now: clock.now() }
    return (origin, id, count, fields) => {
      const entry = Entries.make(read, origin, id, count, fields)
      this.held.add(entry)
      return entry
    }
  }

  /** Runs what takes several steps, if it does, with nothing in between. What is one step is sent at once. */
  inTurn<A>(several: boolean, body: () => Promise<A>): Promise<A> {
    const { turn } = this
    if (turn === undefined && !several) return body()
    const mine = turn === undefined ? body() : turn.then(body, body)
    this.turn = mine
    const done = () => {
      if (this.turn === mine) this.turn = undefined
    }
    mine.then(done, done)
    return mine
  }
}
