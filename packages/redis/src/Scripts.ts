/**
 * Every script as a typed value. What a script does, and why its order of writes is safe, stands at the head of its file
 * in `scripts/`; here is what goes in and what comes out.
 *
 * Limits: at most `maxIds` ids a call. Times are milliseconds, and never a time of day: ages and delays go in, and the
 * server's clock makes times of them.
 *
 * Fencing. A consumer's incarnation has a nonce, recorded by `join`. Whoever takes deliveries from the consumer deletes it
 * in the same step. A delivery belongs to the nonce that stood when its read was *issued*; it is settled with that nonce,
 * also after the consumer joined again with another. While the nonce stands, nothing was taken, and `ack` takes its short
 * way; else it compares owner and delivery count of each. The nonce `""` never stands: it asks for the long way.
 *
 * @since 0.1.0
 */
import type { Entry, Retention, StartPosition } from "@clutch/core/Transport"
import type { NonEmptyReadonlyArray } from "effect/Array"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import type { Fields, OpenMeta } from "./Codec.ts"
import { lua } from "./internal/lua.ts"
import type { GroupKeys, LogKeys } from "./RedisKeys.ts"
import * as Script from "./Script.ts"

/**
 * How many ids one call of a script may name: Lua's `unpack` ends at 7,990 values.
 *
 * @category constants
 * @since 0.1.0
 */
export const maxIds = 1000

// -----------------------------------------------------------------------------
// shared models
// -----------------------------------------------------------------------------

/**
 * One incarnation of a consumer. The nonce is unique to it, such as a random UUID.
 *
 * @category models
 * @since 0.1.0
 */
export interface Member {
  readonly keys: GroupKeys
  readonly consumer: string
  readonly nonce: string
}

/**
 * A delivery as the pending list knows it: entry id, and the delivery count it had when it was read (1 after XREADGROUP,
 * `taken.count` after `take`).
 *
 * @category models
 * @since 0.1.0
 */
export interface Held {
  readonly id: string
  readonly count: number
}

/**
 * How a delivery was found. `done`: it was the caller's, and is settled. `other`: it is pending for another consumer, or
 * was delivered again since. `gone`: it is not pending.
 *
 * @category models
 * @since 0.1.0
 */
export type Found = "done" | "other" | "gone"

const found: ReadonlyArray<Found> = ["gone", "done", "other"]

const streamOf = (keys: GroupKeys, origin: Entry["origin"]): string => keys[origin]
const groupOf = (keys: GroupKeys, origin: Entry["origin"]): string =>
  origin === "main" ? keys.mainGroup : keys.retryGroup

/** Whole, not negative, and no more than Lua prints without an exponent: beyond the year 5000 it makes no difference. */
const millis = (value: number): string => `${Math.min(Math.max(Math.ceil(value), 0), 1e14)}`

// -----------------------------------------------------------------------------
// publish
// -----------------------------------------------------------------------------

/**
 * @category publish
 * @since 0.1.0
 */
export interface Publish {
  readonly keys: LogKeys
  /** Fields of each entry as the codec made them: name, value, …; a field whose value is empty is left out. */
  readonly entries: NonEmptyReadonlyArray<ReadonlyArray<string | Buffer>>
  readonly retention: Retention
}

/**
 * @category publish
 * @since 0.1.0
 */
export interface Published {
  /** In the order of `entries`. */
  readonly ids: ReadonlyArray<string>
  readonly trimmed: number
}

/** The names first, then a value for each name and entry: a plain entry costs one argument, not three. */
const table = (entries: Publish["entries"]): ReadonlyArray<Script.Arg> => {
  const names: Array<string> = []
  for (const entry of entries) {
    for (let i = 0; i < entry.length; i += 2) {
      const name = String(entry[i])
      if (!names.includes(name)) names.push(name)
    }
  }
  const args: Array<Script.Arg> = [`${names.length}`, ...names]
  for (const entry of entries) {
    for (const [i, name] of names.entries()) {
      // a codec writes its fields in one order, so the first guess is nearly always right
      const at =
        String(entry[2 * i]) === name ? 2 * i : entry.findIndex((part, j) => j % 2 === 0 && String(part) === name)
      args.push(at < 0 ? "" : (entry[at + 1] ?? ""))
    }
  }
  return args
}

/**
 * Stores a batch of entries, trims, and rings. All or nothing.
 *
 * @category publish
 * @since 0.1.0
 */
export const publish: Script.Script<Publish, Published> = Script.make({
  name: "publish",
  lua: lua.publish,
  keyNames: ["main", "bell"],
  argNames: ["maxLength", "maxAge", "names", "name", "value"],
  keys: ({ keys }) => [keys.main, keys.bell],
  args: ({ entries, retention }) => [
    retention.maxLength === undefined ? "" : `${retention.maxLength}`,
    retention.maxAge === undefined ? "" : millis(Duration.toMillis(retention.maxAge)),
    ...table(entries)
  ],
  decode: (reply) => {
    const [trimmed, ...ids] = Script.list(reply)
    return { trimmed: Script.number(trimmed), ids: ids.map(Script.text) }
  }
})

// -----------------------------------------------------------------------------
// membership
// -----------------------------------------------------------------------------

/**
 * @category membership
 * @since 0.1.0
 */
export interface Join extends Member {
  /** Milliseconds. */
  readonly visibilityTimeout: number
  /** Where the main group begins, if it is created and no position is remembered. */
  readonly from: StartPosition
  /**
   * `first`: a new consumer. `again`: this consumer was in the group before (a reconnect, a lost nonce, NOGROUP): its marks
   * stand as long as its groups do, and a group created without a remembered position begins at the beginning.
   */
  readonly mode: "first" | "again"
}

/**
 * @category membership
 * @since 0.1.0
 */
export interface Joined {
  /** Which groups were created. */
  readonly created: { readonly main: boolean; readonly retry: boolean }
  /** Where the main group begins (exclusive); `undefined` if it was there. */
  readonly start: string | undefined
  /**
   * Mode `again` and the main group created: how many entries lie behind its start, so may repeat. A lower bound where
   * `more` is true.
   */
  readonly repeats: { readonly count: number; readonly more: boolean }
}

const start = (from: StartPosition): string => {
  if (from === "new") return "$"
  if (from === "beginning") return "0-0"
  if ("id" in from) return from.id
  const time = DateTime.toEpochMillis(from.time)
  // a group's position is exclusive, and a start time is not: the last id possible before it
  return time <= 0 ? "0-0" : `${time - 1}-18446744073709551615`
}

/**
 * Joins a group, creating what is absent.
 *
 * @category membership
 * @since 0.1.0
 */
export const join: Script.Script<Join, Joined> = Script.make({
  name: "join",
  lua: lua.join,
  keyNames: ["main", "retry", "state"],
  argNames: ["mainGroup", "retryGroup", "consumer", "nonce", "visibilityTimeout", "start", "mode"],
  keys: ({ keys }) => [keys.main, keys.retry, keys.state],
  args: ({ consumer, from, keys, mode, nonce, visibilityTimeout }) => [
    keys.mainGroup,
    keys.retryGroup,
    consumer,
    nonce,
    millis(visibilityTimeout),
    start(from),
    mode
  ],
  decode: (reply) => {
    const [main, retry, begin, count, more] = Script.list(reply)
    return {
      created: { main: Script.bool(main), retry: Script.bool(retry) },
      start: begin === null ? undefined : Script.text(begin),
      repeats: { count: Script.number(count), more: Script.bool(more) }
    }
  }
})

/**
 * What was undone.
 *
 * @category membership
 * @since 0.1.0
 */
export interface RolledBack {
  /** Whether the join of this nonce was found. */
  readonly found: boolean
  readonly consumers: number
  readonly groups: number
  readonly keys: number
}

/**
 * Undoes what the `join` of this nonce created, as far as nobody else has begun to use it. Safe to repeat, and after a
 * `join` whose reply was lost. Only for the nonce of a `first` join.
 *
 * @category membership
 * @since 0.1.0
 */
export const rollback: Script.Script<Member, RolledBack> = Script.make({
  name: "rollback",
  lua: lua.rollback,
  keyNames: ["main", "retry", "state"],
  argNames: ["mainGroup", "retryGroup", "consumer", "nonce"],
  keys: ({ keys }) => [keys.main, keys.retry, keys.state],
  args: ({ consumer, keys, nonce }) => [keys.mainGroup, keys.retryGroup, consumer, nonce],
  decode: (reply) => {
    const [found, consumers, groups, keys] = Script.list(reply)
    return {
      found: Script.bool(found),
      consumers: Script.number(consumers),
      groups: Script.number(groups),
      keys: Script.number(keys)
    }
  }
})

/**
 * @category membership
 * @since 0.1.0
 */
export interface Left {
  readonly released: number
  /** Pending entries whose content was trimmed: settled, as nothing of them is left. */
  readonly trimmed: number
  /** More is pending than one call releases: call again. */
  readonly more: boolean
  /** The consumer is no longer in the group, or its name belongs to another incarnation by now. */
  readonly removed: boolean
}

/**
 * Releases what the consumer holds, and removes it.
 *
 * @category membership
 * @since 0.1.0
 */
export const leave: Script.Script<Member, Left> = Script.make({
  name: "leave",
  lua: lua.leave,
  keyNames: ["main", "retry", "state", "bell"],
  argNames: ["mainGroup", "retryGroup", "consumer", "nonce", "limit"],
  keys: ({ keys }) => [keys.main, keys.retry, keys.state, keys.bell],
  args: ({ consumer, keys, nonce }) => [keys.mainGroup, keys.retryGroup, consumer, nonce, `${maxIds}`],
  decode: (reply) => {
    const [released, trimmed, more, removed] = Script.list(reply)
    return {
      released: Script.number(released),
      trimmed: Script.number(trimmed),
      more: Script.bool(more),
      removed: Script.bool(removed)
    }
  }
})

// -----------------------------------------------------------------------------
// settling
// -----------------------------------------------------------------------------

/**
 * Deliveries of one consumer from one of the group's two streams.
 *
 * @category settling
 * @since 0.1.0
 */
export interface Settle {
  readonly keys: GroupKeys
  readonly consumer: string
  readonly origin: Entry["origin"]
  /** At most `maxIds`, each once. In ascending order the check is cheapest. */
  readonly held: NonEmptyReadonlyArray<Held>
}

const ids = (held: ReadonlyArray<Held>): ReadonlyArray<string> => held.map((_) => _.id)
const counts = (held: ReadonlyArray<Held>): ReadonlyArray<string> => held.map((_) => `${_.count}`)

/**
 * @category settling
 * @since 0.1.0
 */
export interface Ack extends Settle {
  /** The nonce these deliveries were read under; `""` to compare owner and count of each. */
  readonly nonce: string
  /** Asked before without a reply: what is not found is then `gone`, not `done`. */
  readonly repeated: boolean
}

/**
 * @category settling
 * @since 0.1.0
 */
export interface Acked {
  /** In the order of `held`. */
  readonly settled: ReadonlyArray<Found>
  /**
   * Whether the nonce still stood. If not, join `again` with a new one: what was read under the old one goes on taking the
   * long way, what is read from now on takes the short one.
   */
  readonly fenced: boolean
}

/**
 * Acks deliveries, and deletes them from the retry stream.
 *
 * @category settling
 * @since 0.1.0
 */
export const ack: Script.Script<Ack, Acked> = Script.make({
  name: "ack",
  lua: lua.ack,
  keyNames: ["stream", "state"],
  argNames: ["group", "consumer", "nonce", "origin", "repeated", "id", "count"],
  keys: ({ keys, origin }) => [streamOf(keys, origin), keys.state],
  args: ({ consumer, held, keys, nonce, origin, repeated }) => [
    groupOf(keys, origin),
    consumer,
    nonce,
    origin,
    repeated ? "1" : "0",
    ...ids(held),
    ...counts(held)
  ],
  decode: (reply, { held }) => {
    const [fenced, ...settled] = Script.list(reply)
    return {
      fenced: Script.bool(fenced),
      // the short way answers for all at once
      settled: settled.length === 0 ? held.map(() => "done") : settled.map((_) => Script.word(found, _))
    }
  }
})

/**
 * A delivery that failed, with the copy of it that will be stored: an entry that was trimmed meanwhile is kept too.
 *
 * @category settling
 * @since 0.1.0
 */
export interface Failure extends Held {
  /** `retry` with a delay in ms; 0 is due at once. */
  readonly to: { readonly retry: number } | "deadLetters"
  /** From `Codec.openRetry` or `Codec.openDead`. */
  readonly meta: OpenMeta
  /**
   * The first delivery to this group: how many ms ago by a monotonic clock, or the server's own time, as the entry's
   * `clutch` has it.
   */
  readonly first: { readonly ago: number } | { readonly at: number }
}

/**
 * @category settling
 * @since 0.1.0
 */
export interface Fail extends Omit<Settle, "held"> {
  /** At most `maxIds`, each id once, and not many MB in all. In ascending order of ids the check is cheapest. */
  readonly failures: NonEmptyReadonlyArray<Failure>
}

/**
 * Moves failed deliveries to the due set or the dead letters, and says under which ids these are kept. Fails wholly where
 * there is no memory to store them.
 *
 * @category settling
 * @since 0.1.0
 */
export const fail: Script.Script<Fail, ReadonlyArray<Found | { readonly deadLetter: string }>> = Script.make({
  name: "fail",
  lua: lua.fail,
  keyNames: ["stream", "due", "deadLetters", "bell"],
  argNames: ["group", "consumer", "origin", "id", "count", "delay", "first", "clutch", "fields"],
  keys: ({ keys, origin }) => [streamOf(keys, origin), keys.due, keys.deadLetters, keys.bell],
  args: ({ consumer, failures, keys, origin }) => [
    groupOf(keys, origin),
    consumer,
    origin,
    ...failures.flatMap(({ count, first, id, meta, to }): ReadonlyArray<Script.Arg> => [
      id,
      `${count}`,
      to === "deadLetters" ? "" : millis(to.retry),
      "ago" in first ? `-${millis(first.ago)}` : millis(first.at),
      meta.clutch,
      meta.fields
    ])
  ],
  decode: (reply) =>
    Script.list(reply).map((_) => (typeof _ === "number" ? Script.word(found, _) : { deadLetter: Script.text(_) }))
})

/**
 * Gives deliveries back to the group at no cost of an attempt. `trimmed`: the entry's content is gone from the stream, and
 * nothing was done; give it back from memory through `fail`, with delay 0 and one attempt less.
 *
 * @category settling
 * @since 0.1.0
 */
export const release: Script.Script<Settle, ReadonlyArray<Found | "trimmed">> = Script.make({
  name: "release",
  lua: lua.release,
  keyNames: ["stream", "bell"],
  argNames: ["group", "consumer", "id", "count"],
  keys: ({ keys, origin }) => [streamOf(keys, origin), keys.bell],
  args: ({ consumer, held, keys, origin }) => [groupOf(keys, origin), consumer, ...ids(held), ...counts(held)],
  decode: (reply) => Script.list(reply).map((_) => Script.word<Found | "trimmed">([...found, "trimmed"], _))
})

// -----------------------------------------------------------------------------
// leases
// -----------------------------------------------------------------------------

/**
 * @category leases
 * @since 0.1.0
 */
export interface Extend extends Member {
  /** At most `maxIds` together. Both may be empty: then it is only a sign of life. */
  readonly main: ReadonlyArray<Held>
  readonly retry: ReadonlyArray<Held>
}

/**
 * @category leases
 * @since 0.1.0
 */
export interface Extended {
  /** Ids that are not this consumer's, or were delivered again since. Trimmed entries that it holds are not among them. */
  readonly lost: { readonly main: ReadonlyArray<string>; readonly retry: ReadonlyArray<string> }
  /** Whether the given nonce stands; if not, join `again`. */
  readonly fenced: boolean
}

/**
 * Extends leases, shows that the consumer lives, and records the group's position. A consumer that shows no sign of life for
 * ten visibility timeouts, and five minutes at least, and holds nothing, is removed by `tend`.
 *
 * @category leases
 * @since 0.1.0
 */
export const extend: Script.Script<Extend, Extended> = Script.make({
  name: "extend",
  lua: lua.extend,
  keyNames: ["main", "retry", "state"],
  argNames: ["mainGroup", "retryGroup", "consumer", "nonce", "mains", "id", "count"],
  keys: ({ keys }) => [keys.main, keys.retry, keys.state],
  args: ({ consumer, keys, main, nonce, retry }) => [
    keys.mainGroup,
    keys.retryGroup,
    consumer,
    nonce,
    `${main.length}`,
    ...ids(main),
    ...ids(retry),
    ...counts(main),
    ...counts(retry)
  ],
  decode: (reply) => {
    const [fenced, main, retry] = Script.list(reply)
    return {
      fenced: Script.bool(fenced),
      lost: { main: Script.list(main).map(Script.text), retry: Script.list(retry).map(Script.text) }
    }
  }
})

/**
 * @category leases
 * @since 0.1.0
 */
export interface Mark {
  readonly keys: GroupKeys
  readonly consumer: string
  readonly origin: Entry["origin"]
  /** Nothing with a greater id was started; `undefined`: anything may have been. */
  readonly id: string | undefined
}

/**
 * Sets or clears a mark.
 *
 * @category leases
 * @since 0.1.0
 */
export const mark: Script.Script<Mark, void> = Script.make({
  name: "mark",
  lua: lua.mark,
  keyNames: ["state"],
  argNames: ["consumer", "origin", "mark"],
  keys: ({ keys }) => [keys.state],
  args: ({ consumer, id, origin }) => [consumer, origin, id ?? ""],
  decode: () => undefined
})

// -----------------------------------------------------------------------------
// what waits for anybody
// -----------------------------------------------------------------------------

/**
 * @category waiting
 * @since 0.1.0
 */
export interface Take extends Omit<Member, "nonce"> {
  /** From 1 to `maxIds`. */
  readonly count: number
  /** Roughly: the first is taken whatever its size. */
  readonly bytes: number
  /** One suspect and nothing else. */
  readonly alone: boolean
  /** `Infinity` where retries are unlimited. */
  readonly maxAttempts: number
}

/**
 * @category waiting
 * @since 0.1.0
 */
export interface TakenEntry {
  readonly origin: Entry["origin"]
  readonly id: string
  /** Its delivery count now: what `Held` wants. `reclaims` is one less. */
  readonly count: number
  readonly fields: Fields
}

/**
 * @category waiting
 * @since 0.1.0
 */
export interface Taken {
  readonly entries: ReadonlyArray<TakenEntry>
  /** Suspects wait that were not taken. */
  readonly suspects: boolean
  /** More than suspects waits. */
  readonly more: boolean
  /** Entries whose content was trimmed while they waited: settled, as nothing of them is left. */
  readonly trimmed: number
}

/**
 * Takes deliveries that were released or reclaimed.
 *
 * @category waiting
 * @since 0.1.0
 */
export const take: Script.Script<Take, Taken> = Script.make({
  name: "take",
  lua: lua.take,
  keyNames: ["main", "retry", "state"],
  argNames: ["mainGroup", "retryGroup", "consumer", "limit", "bytes", "alone", "maxAttempts"],
  keys: ({ keys }) => [keys.main, keys.retry, keys.state],
  args: ({ alone, bytes, consumer, count, keys, maxAttempts }) => [
    keys.mainGroup,
    keys.retryGroup,
    consumer,
    `${count}`,
    millis(bytes),
    alone ? "1" : "0",
    Number.isFinite(maxAttempts) ? `${maxAttempts}` : ""
  ],
  decode: (reply) => {
    const [suspects, more, trimmed, main, retry] = Script.list(reply)
    const entries: Array<TakenEntry> = []
    for (const origin of ["main", "retry"] as const) {
      for (const row of Script.list(origin === "main" ? main : retry)) {
        const [id, count, fields] = Script.list(row)
        entries.push({
          origin,
          id: Script.text(id),
          count: Script.number(count),
          fields: Script.list(fields).map(Script.bytes)
        })
      }
    }
    return { entries, suspects: Script.bool(suspects), more: Script.bool(more), trimmed: Script.number(trimmed) }
  }
})

// -----------------------------------------------------------------------------
// tending
// -----------------------------------------------------------------------------

/**
 * @category tending
 * @since 0.1.0
 */
export interface Tend {
  readonly keys: GroupKeys
  /**
   * Whether to look at the consumers as well, which costs about 1 µs for each pending entry. Without it only due retries are
   * moved, and `next` tells nothing of leases.
   */
  readonly scan: boolean
  /** `cursor` of the round before; `undefined` begins a new scan. */
  readonly cursor: string | undefined
}

/**
 * @category tending
 * @since 0.1.0
 */
export interface Tending {
  readonly moved: number
  readonly reclaimed: number
  /** Pending entries of dead consumers whose content was trimmed: settled, as nothing of them is left. */
  readonly trimmed: number
  /** Members of the due set that were none: now poison dead letters. */
  readonly poison: number
  /** Dead consumers with nothing pending, removed. */
  readonly removed: number
  /** Milliseconds until a retry is due or a lease may end; `undefined` if nothing is foreseen. */
  readonly next: number | undefined
  /** More can be done at once: call again. */
  readonly more: boolean
  /** Where the scan of the next round goes on; `undefined` if this one came to its end. */
  readonly cursor: string | undefined
  /** An error of the server that stopped the moving of due retries; the rest was done. */
  readonly problem: string | undefined
}

/**
 * Moves due retries, takes deliveries from dead consumers, removes dead consumers.
 *
 * @category tending
 * @since 0.1.0
 */
export const tend: Script.Script<Tend, Tending> = Script.make({
  name: "tend",
  lua: lua.tend,
  keyNames: ["main", "retry", "due", "deadLetters", "state", "bell"],
  argNames: ["mainGroup", "retryGroup", "scan", "cursor"],
  keys: ({ keys }) => [keys.main, keys.retry, keys.due, keys.deadLetters, keys.state, keys.bell],
  args: ({ cursor, keys, scan }) => [keys.mainGroup, keys.retryGroup, scan ? "1" : "0", cursor ?? ""],
  decode: (reply) => {
    const [moved, reclaimed, trimmed, poison, removed, next, more, cursor, problem] = Script.list(reply)
    const wait = Script.number(next)
    return {
      moved: Script.number(moved),
      reclaimed: Script.number(reclaimed),
      trimmed: Script.number(trimmed),
      poison: Script.number(poison),
      removed: Script.number(removed),
      next: wait < 0 ? undefined : wait,
      more: Script.bool(more),
      cursor: Script.text(cursor) || undefined,
      problem: Script.text(problem) || undefined
    }
  }
})

// -----------------------------------------------------------------------------
// dead letters
// -----------------------------------------------------------------------------

/**
 * @category dead letters
 * @since 0.1.0
 */
export interface Redrive {
  readonly keys: GroupKeys
  /** At most `maxIds`. */
  readonly ids: NonEmptyReadonlyArray<string>
  /** Milliseconds; 0 goes to the retry stream at once. */
  readonly delay: number
}

/**
 * @category dead letters
 * @since 0.1.0
 */
export interface Redriven {
  readonly redriven: number
  /** How many ids of the list were looked at, from its first: go on behind them. At least one. */
  readonly processed: number
}

/**
 * Schedules dead letters as retries with no attempts made, and removes them.
 *
 * @category dead letters
 * @since 0.1.0
 */
export const redrive: Script.Script<Redrive, Redriven> = Script.make({
  name: "redrive",
  lua: lua.redrive,
  keyNames: ["deadLetters", "due", "retry", "bell"],
  argNames: ["delay", "id"],
  keys: ({ keys }) => [keys.deadLetters, keys.due, keys.retry, keys.bell],
  args: ({ delay, ids }) => [millis(delay), ...ids],
  decode: (reply) => {
    const [redriven, processed] = Script.list(reply)
    return { redriven: Script.number(redriven), processed: Script.number(processed) }
  }
})

/**
 * Every script, for a client that loads them ahead.
 *
 * @category scripts
 * @since 0.1.0
 */
export const all: ReadonlyArray<Pick<Script.Script<never, unknown>, "name" | "lua" | "sha" | "keyNames" | "argNames">> =
  [publish, join, rollback, leave, ack, fail, release, extend, mark, take, tend, redrive]
