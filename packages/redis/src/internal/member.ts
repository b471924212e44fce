/**
 * A consumer's place in its group: what it is called, what it holds, and how the place is taken, healed and left.
 */
import { DuplicateSubscription, TransportError } from "@clutch/core/Errors"
import type { Entry, Group, StartPosition } from "@clutch/core/Transport"
import * as Effect from "effect/Effect"
import { randomUUID } from "node:crypto"
import type { Codec } from "../Codec.ts"
import type { Connection } from "../RedisClient.ts"
import type { GroupKeys } from "../RedisKeys.ts"
import * as Scripts from "../Scripts.ts"
import * as Entries from "./entry.ts"
import type { RedisEntry } from "./entry.ts"
import { Holdings } from "./holdings.ts"
import { pause } from "./time.ts"
import type { ServerClock } from "./time.ts"

/** What those who leave in an outage know of each other: one after the other, each would wait for the server anew. */
export interface Leaving {
  /** By a clock of this process: when somebody last gave up, as there was no connection. */
  givenUp: number
}

export class Member {
  /** The incarnation that joined, which is what a rollback undoes. */
  readonly firstNonce: string = randomUUID()
  /** The present incarnation: who takes entries from this consumer ends it. */
  nonce: string = this.firstNonce
  /** By a clock of this process: when the server last saw a sign of life. */
  seen: number = -Infinity
  /** What was delivered and is not settled, by id. */
  readonly held: Holdings

  /** The one that serves its log. */
  readonly client: Connection
  readonly clock: ServerClock
  readonly codec: Codec
  readonly group: Group
  readonly keys: GroupKeys
  readonly consumer: string
  /** Milliseconds. */
  readonly visibilityTimeout: number
  readonly from: StartPosition
  /** A worker of an ordered group. */
  readonly ordered: boolean
  readonly leaving: Leaving
  /** Called where the group had disappeared, and is there again. */
  readonly recreated: () => Promise<void>
  /** What joining again had to create, and nobody was told yet. */
  created: Scripts.Joined | undefined
  private rejoining: Promise<Scripts.Joined> | undefined
  /** Of the last incarnation that was begun, nobody knows whether it stands. */
  private isDoubtful = false

  constructor(
    options: Pick<
      Member,
      | "client"
      | "clock"
      | "codec"
      | "group"
      | "keys"
      | "consumer"
      | "visibilityTimeout"
      | "from"
      | "ordered"
      | "leaving"
      | "recreated"
    >
  ) {
    this.client = options.client
    this.held = new Holdings(options.client)
    this.clock = options.clock
    this.codec = options.codec
    this.group = options.group
    this.keys = options.keys
    this.consumer = options.consumer
    this.visibilityTimeout = options.visibilityTimeout
    this.from = options.from
    this.ordered = options.ordered
    this.leaving = options.leaving
    this.recreated = options.recreated
  }

  /** For the entries of one read, to be made before it is issued: they belong to the incarnation of that moment. */
  reading(): (origin: Entry["origin"], id: string, count: number, fields: Entries.RedisEntry["fields"]) => RedisEntry {
    const nonce = this.nonce
    const epoch = this.client.epoch()
    let read: Entries.Read | undefined
    return (origin, id, count, fields) => {
      read ??= { keys: this.keys, codec: this.codec, nonce, epoch, now: this.clock.now() }
      const entry = Entries.make(read, origin, id, count, fields)
      this.held.add(entry)
      return entry
    }
  }

  /** Takes the place for the first time. */
  first(): Promise<Scripts.Joined> {
    return this.client
      .execute(Scripts.join, { ...this.joining(), mode: "first", nonce: this.firstNonce })
      .then((joined) => {
        this.seen = performance.now()
        return joined
      })
  }

  /** Takes the place again, where its groups are gone or its incarnation has ended. Several callers share one call. */
  again(): Promise<Scripts.Joined> {
    if (this.rejoining !== undefined) return this.rejoining
    const nonce = randomUUID()
    this.isDoubtful = true
    const joined = this.client
      .execute(Scripts.join, { ...this.joining(), mode: "again", nonce })
      .then(async (joined) => {
        this.isDoubtful = false
        if (joined.created.main) await this.recreated()
        // the name is another's: nothing was done, and this member has no further incarnation
        if (joined.taken) return joined
        this.nonce = nonce
        if (joined.created.main || joined.created.retry) this.created = joined
        this.seen = performance.now()
        return joined
      })
      .finally(() => {
        this.rejoining = undefined
      })
    this.rejoining = joined
    return joined
  }

  /** A step whose end nobody knows may have given the name to another incarnation. */
  doubt(): void {
    this.isDoubtful = true
  }

  /** Until it is known which incarnation has the name: by another nonce nothing of it can be removed. */
  async certain(): Promise<void> {
    await this.rejoining?.catch(() => {})
    if (this.isDoubtful) await this.again()
  }

  /** That it is this incarnation that asks. */
  get proof(): Scripts.Place & Scripts.Named {
    const { consumer, firstNonce, keys, nonce, ordered } = this
    return { keys, consumer, nonce, ordered, holder: firstNonce }
  }

  private joining() {
    return {
      keys: this.keys,
      consumer: this.consumer,
      holder: this.firstNonce,
      visibilityTimeout: this.visibilityTimeout,
      from: this.from,
      ordered: this.ordered
    }
  }
}

/** Says once what was created again, and how much may repeat. */
export const tellCreated = (member: Member): Effect.Effect<void> =>
  Effect.suspend(() => {
    const { created: joined, keys } = member
    member.created = undefined
    if (joined === undefined) return Effect.void
    const { created, repeats, start } = joined
    const what = created.main && created.retry ? "both groups" : created.main ? "the group" : "the retry group"
    const again = repeats.count === 0 ? "none" : `${repeats.count}${repeats.more ? " or more" : ""}`
    return Effect.logWarning(
      `${what} of "${keys.mainGroup}" on ${keys.main} had disappeared, now created again` +
        (created.main ? ` from ${start ?? "where it was"}: ${again} of the messages may repeat` : "")
    )
  })

/** A living worker has the name. */
export const duplicate = ({ group: { subscription, topic } }: Member): TransportError =>
  new TransportError({ operation: "join", reason: new DuplicateSubscription({ topic, subscription }) })

/** Creates again what is gone. */
export const heal = (member: Member): Effect.Effect<void, TransportError> =>
  Effect.flatMap(
    member.client.attempt("join", () => member.again()),
    ({ taken }) => (taken ? Effect.fail(duplicate(member)) : tellCreated(member))
  )

/** The incarnation has ended: a new one, so that settling is cheap again. It need not succeed now. */
export const renew = (member: Member): void => {
  member.again().catch(() => {})
}

/** Nothing is dropped without a word. */
export const tellTrimmed = (member: Member, count: number): Effect.Effect<void> =>
  count === 0
    ? Effect.void
    : Effect.logWarning(
        `${count} messages of "${member.keys.mainGroup}" on ${member.keys.main} were trimmed before they were handled`
      )

/** How long each step of closing waits for a server that does not answer, in milliseconds. */
export const patience = 2000

/** For so long after somebody waited in vain, nobody else waits for a connection, in milliseconds. */
const outage = 5000

/** A step of leaving: tried again for a while where the connection fails, else given up with a word. */
export const insist = <A>(
  member: Member,
  operation: string,
  step: Effect.Effect<A, TransportError>
): Effect.Effect<A | undefined> => {
  const giveUp = (why: string) =>
    Effect.as(
      Effect.logWarning(
        `${operation} of consumer ${member.consumer} on ${member.keys.main} was given up (${why}): ` +
          `what it held is taken over when its visibility timeout ends`
      ),
      undefined
    )
  const go: Effect.Effect<A | undefined> = Effect.catch(step, (error) => {
    const hopeless = error.reason._tag !== "Unavailable" && error.reason._tag !== "Unknown"
    return hopeless || member.client.isClosed() ? giveUp(error.message) : Effect.andThen(pause(50), go)
  })
  const inVain = Effect.suspend(() => {
    if (member.client.isReady()) return giveUp(`not done within ${patience / 1000} seconds`)
    member.leaving.givenUp = performance.now()
    return giveUp(member.client.unavailable(operation).reason.message)
  })
  return Effect.suspend(() => {
    const isKnown = performance.now() - member.leaving.givenUp < outage
    return isKnown && !member.client.isReady()
      ? inVain
      : Effect.timeoutOrElse(go, { duration: patience, orElse: () => inVain })
  })
}

/** Undoes joining. */
export const rollback = (member: Member): Effect.Effect<void> =>
  Effect.asVoid(
    insist(member, "rollback", member.client.run(Scripts.rollback, { ...member.proof, nonce: member.firstNonce }))
  )

/** Gives everything back, and goes. */
export const leave = (member: Member): Effect.Effect<void> => {
  const step: Effect.Effect<void, TransportError> = Effect.flatMap(
    Effect.andThen(
      member.client.attempt("leave", () => member.certain()),
      Effect.suspend(() => member.client.run(Scripts.leave, member.proof))
    ),
    ({ more, trimmed }) => {
      const told = tellTrimmed(member, trimmed)
      return more ? Effect.andThen(told, step) : told
    }
  )
  return Effect.asVoid(insist(member, "leave", step))
}
