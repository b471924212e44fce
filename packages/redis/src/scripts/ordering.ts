/**
 * The scripts that deliver to the owner of a log, and settle what it holds, so that no message overtakes another of its key.
 *
 * @since 0.1.0
 */
import type { Entry } from "@clutch/core/Transport"
import type { OpenMeta } from "../Codec.ts"
import { lua } from "../internal/lua.ts"
import { unpack } from "../internal/packed.ts"
import * as Script from "../Script.ts"
import { type Held, type Member, millis } from "./shared.ts"

/**
 * How much an owner takes. The nonce is that of its claim.
 *
 * @category ordering
 * @since 0.1.0
 */
export interface Draw extends Member {
  /** From 1 to `maxIds`. */
  readonly count: number
  /** Roughly: the first is taken whatever its size. */
  readonly bytes: number
  /** One suspect and nothing else. */
  readonly alone: boolean
  /** `Infinity` where retries are unlimited. */
  readonly maxAttempts: number
  /** Unread retries, at most: as many as make up `bytes`, as far as their sizes are known. */
  readonly retries: number
  /** The same of new entries; 0 for none. */
  readonly mains: number
}

/**
 * What was drawn, in the order in which it is to be handled.
 *
 * @category ordering
 * @since 0.1.0
 */
export interface Drawn {
  /** Suspects wait that were not taken: then nothing else was. */
  readonly suspects: boolean
  /** Entries whose content was trimmed while they waited: settled, as nothing of them is left. */
  readonly trimmed: number
  /** Rows of id, delivery count and fields: of main, then of the retry stream. */
  readonly given: { readonly main: ReadonlyArray<Script.Reply>; readonly retry: ReadonlyArray<Script.Reply> }
  /** Rows of id and fields, delivered for the first time: of the retry stream, then of main. */
  readonly unread: { readonly main: ReadonlyArray<Script.Reply>; readonly retry: ReadonlyArray<Script.Reply> }
}

/**
 * Delivers to the owner. `lost`: its claim does not stand. `gone`: the group does not.
 *
 * @category ordering
 * @since 0.1.0
 */
export const draw: Script.Script<Draw, Drawn | "lost" | "gone"> = Script.make({
  name: "draw",
  lua: lua.draw,
  keyNames: ["main", "retry", "state"],
  argNames: [
    "mainGroup",
    "retryGroup",
    "consumer",
    "nonce",
    "limit",
    "bytes",
    "alone",
    "maxAttempts",
    "retries",
    "mains"
  ],
  keys: ({ keys }) => [keys.main, keys.retry, keys.state],
  args: ({ alone, bytes, consumer, count, keys, mains, maxAttempts, nonce, retries }) => [
    keys.mainGroup,
    keys.retryGroup,
    consumer,
    nonce,
    `${count}`,
    millis(bytes),
    alone ? "1" : "0",
    Number.isFinite(maxAttempts) ? `${maxAttempts}` : "",
    `${retries}`,
    `${mains}`
  ],
  decode: (reply) => {
    const [how, suspects, trimmed, packed] = Script.list(reply)
    const answer = Script.word(["lost", "drawn", "gone"], how)
    if (answer !== "drawn") return answer
    const [givenMain, givenRetry, unreadRetry, unreadMain] = Script.list(unpack(Script.bytes(packed)))
    return {
      suspects: Script.bool(suspects),
      trimmed: Script.number(trimmed),
      given: { main: Script.list(givenMain), retry: Script.list(givenRetry) },
      unread: { main: Script.list(unreadMain), retry: Script.list(unreadRetry) }
    }
  }
})

/**
 * What becomes of a delivery. `ack`, `release`: nothing is stored. `retry`: due after so many ms. `park`: behind what holds
 * its key back, or, where nothing does, a retry at once. The copy that is stored is from `Codec.openRetry` or `openDead`.
 *
 * @category ordering
 * @since 0.1.0
 */
export type Move =
  | { readonly to: "ack" | "release" }
  | { readonly to: "dead" | "park"; readonly meta: OpenMeta }
  | { readonly to: "retry"; readonly delay: number; readonly meta: OpenMeta }

/**
 * A delivery that is settled in its place in the order.
 *
 * @category ordering
 * @since 0.1.0
 */
export interface Ordered extends Held {
  /** Which of the two streams it was read from. */
  readonly origin: Entry["origin"]
  /** What becomes of it. */
  readonly move: Move
  /** None where it has no place in the order. */
  readonly key: string | undefined
  /** Its id in the topic's own stream. */
  readonly original: string
  /** When it was first delivered to this group, in ms by the server's clock. */
  readonly first: number
}

/**
 * Deliveries of an owner. The nonce is that of its claim.
 *
 * @category ordering
 * @since 0.1.0
 */
export interface Order extends Member {
  /** Ids of main that are done, and not asked for before. At most `maxIds`. */
  readonly acks: ReadonlyArray<string>
  /** At most `maxIds`, each once, and not many MB in all. */
  readonly items: ReadonlyArray<Ordered>
}

/**
 * How one of them went. `trimmed`: its content is gone from the stream, and nothing was done; park it from memory. `stopped`:
 * nothing was done, as it, or one before it, could not be stored.
 *
 * @category ordering
 * @since 0.1.0
 */
export type OrderedFound =
  | "gone"
  | "done"
  | "other"
  | "trimmed"
  | "freed"
  | "stopped"
  | { readonly deadLetter: string; readonly freed: boolean }

const ways = ["gone", "done", "other", "trimmed", "freed", "stopped"] as const

/**
 * How settling went.
 *
 * @category ordering
 * @since 0.1.0
 */
export interface OrderSettled {
  /** Whether the claim stands: if not, nothing was done, the acks neither. */
  readonly stands: boolean
  /** What the server said where it stored no more. */
  readonly problem: string | undefined
  /** In the order of `items`. */
  readonly found: ReadonlyArray<OrderedFound>
}

const hex = (digits: string): string => BigInt.asUintN(64, BigInt(digits)).toString(16).padStart(16, "0")

/** Both parts of an id in hexadecimal: as text they have the order of ids. What somebody wrote there may be anything. */
const place = (id: string): string => {
  const [, ms = "0", seq = "0"] = /^(\d{1,20})-(\d{1,20})$/.exec(id) ?? []
  return `${hex(ms)}-${hex(seq)}`
}

const argsOf = ({ count, first, id, key, move, origin, original }: Ordered): ReadonlyArray<Script.Arg> => [
  move.to,
  origin,
  id,
  `${count}`,
  key === undefined ? "" : `:${key}`,
  "meta" in move ? place(original) : "",
  move.to === "retry" ? millis(move.delay) : "",
  millis(first),
  "meta" in move ? move.meta.clutch : "",
  "meta" in move ? move.meta.fields : ""
]

/**
 * Settles what an owner holds, in the order of the list, and moves what waits behind it.
 *
 * @category ordering
 * @since 0.1.0
 */
export const order: Script.Script<Order, OrderSettled> = Script.make({
  name: "order",
  lua: lua.order,
  keyNames: ["main", "retry", "due", "deadLetters", "state", "blocked", "parked", "bell"],
  argNames: [
    "mainGroup",
    "retryGroup",
    "consumer",
    "nonce",
    "acks",
    "acked",
    "move",
    "origin",
    "id",
    "count",
    "key",
    "original",
    "delay",
    "first",
    "clutch",
    "fields"
  ],
  keys: ({ keys }) => [
    keys.main,
    keys.retry,
    keys.due,
    keys.deadLetters,
    keys.state,
    keys.blocked,
    keys.parked,
    keys.bell
  ],
  args: ({ acks, consumer, items, keys, nonce }) => [
    keys.mainGroup,
    keys.retryGroup,
    consumer,
    nonce,
    `${acks.length}`,
    ...acks,
    ...items.flatMap(argsOf)
  ],
  decode: (reply) => {
    const [stands, problem, ...found] = Script.list(reply)
    return {
      stands: Script.bool(stands),
      problem: Script.text(problem) || undefined,
      found: found.map((one): OrderedFound => {
        if (!Array.isArray(one)) return Script.word(ways, one)
        return { deadLetter: Script.text(one[0]), freed: Script.bool(one[1]) }
      })
    }
  }
})
