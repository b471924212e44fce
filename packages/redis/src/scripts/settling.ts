/**
 * The scripts that end a delivery: acked, failed or given back.
 *
 * @since 0.1.0
 */
import type { Entry } from "@clutch/core/Transport"
import type { NonEmptyReadonlyArray } from "effect/Array"
import type { OpenMeta } from "../Codec.ts"
import { lua } from "../internal/lua.ts"
import type { GroupKeys } from "../RedisKeys.ts"
import * as Script from "../Script.ts"
import { counts, groupOf, type Held, ids, millis, streamOf } from "./shared.ts"

/**
 * How a delivery was found. `done`: it was the caller's, and is settled. `other`: it is pending for another consumer, or
 * was delivered again since. `gone`: it is not pending.
 *
 * @category models
 * @since 0.1.0
 */
export type Found = "done" | "other" | "gone"

const found: ReadonlyArray<Found> = ["gone", "done", "other"]

/**
 * Deliveries of one consumer from one of the group's two streams.
 *
 * @category settling
 * @since 0.1.0
 */
export interface Settle {
  /** The keys of the subscription. */
  readonly keys: GroupKeys
  /** Whose deliveries they are. */
  readonly consumer: string
  /** Which of the two streams. */
  readonly origin: Entry["origin"]
  /** At most `maxIds`, each once. In ascending order the check is cheapest. */
  readonly held: NonEmptyReadonlyArray<Held>
}

/**
 * Deliveries that are done.
 *
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
 * How acking went.
 *
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
  argNames: ["group", "consumer", "nonce", "origin", "repeated", "counts", "ids"],
  keys: ({ keys, origin }) => [streamOf(keys, origin), keys.state],
  args: ({ consumer, held, keys, nonce, origin, repeated }) => [
    groupOf(keys, origin),
    consumer,
    nonce,
    origin,
    repeated ? "1" : "0",
    held.every(({ count }) => count === 1) ? "" : counts(held).join(" "),
    ids(held).join(" ")
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
  /** When it was first delivered to this group, in ms by the server's clock. */
  readonly first: number
}

/**
 * Deliveries that failed.
 *
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
  args: ({ consumer, failures, keys, origin }) => {
    const args: Array<Script.Arg> = [groupOf(keys, origin), consumer, origin]
    for (const { count, first, id, meta, to } of failures) {
      args.push(id, `${count}`, to === "deadLetters" ? "" : millis(to.retry), millis(first), meta.clutch, meta.fields)
    }
    return args
  },
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
