/**
 * The scripts by which the workers of an ordered group know of each other, and one of them owns the log.
 *
 * An owner's proof is the nonce of its claim, recorded in two places: beside its name as the owner, which the next claim
 * replaces, and as the nonce of the consumer, which goes when anything is taken from it. While both stand, the claim does.
 *
 * @since 0.1.0
 */
import { lua } from "../internal/lua.ts"
import * as Script from "../Script.ts"
import { maxIds, type Member, type Named } from "./shared.ts"

/**
 * Who works on a log.
 *
 * @category ordering
 * @since 0.1.0
 */
export interface Roster {
  /** In any order: those that have shown signs of life within their visibility timeouts. */
  readonly workers: ReadonlyArray<string>
  /** Who owns the log by a lease that has not ended, and how many ms it lasts. */
  readonly owner: { readonly name: string; readonly expires: number } | undefined
}

/**
 * Shows that a worker lives, and says who else does; `undefined` where a group is gone, or the worker was removed as dead,
 * or its name is another's: it is to join `again`. The nonce is that of the claim that it lives by, `""` without one: any
 * other of its name ends.
 *
 * @category ordering
 * @since 0.1.0
 */
export const roster: Script.Script<Named, Roster | undefined> = Script.make({
  name: "roster",
  lua: lua.roster,
  keyNames: ["main", "retry", "state", "owners"],
  argNames: ["mainGroup", "retryGroup", "consumer", "nonce", "holder"],
  keys: ({ keys }) => [keys.main, keys.retry, keys.state, keys.owners],
  args: ({ consumer, holder, keys, nonce }) => [keys.mainGroup, keys.retryGroup, consumer, nonce, holder ?? ""],
  decode: (reply) => {
    const [there, owner, expires, ...workers] = Script.list(reply)
    if (!Script.bool(there)) return undefined
    const name = Script.text(owner)
    return {
      workers: workers.map(Script.text),
      owner: name === "" ? undefined : { name, expires: Script.number(expires) }
    }
  }
})

/**
 * Says that a worker wants no share until it asks for the roster again.
 *
 * @category ordering
 * @since 0.1.0
 */
export const rest: Script.Script<Pick<Named, "keys" | "consumer" | "holder">, void> = Script.make({
  name: "rest",
  lua: lua.rest,
  keyNames: ["state", "owners"],
  argNames: ["consumer", "holder"],
  keys: ({ keys }) => [keys.state, keys.owners],
  args: ({ consumer, holder }) => [consumer, holder ?? ""],
  decode: () => undefined
})

/**
 * How claiming went. `taken`: another's lease has not ended. `gone`: join `again` first.
 *
 * @category ordering
 * @since 0.1.0
 */
export type Claimed =
  | "taken"
  | "gone"
  | {
      /** Greater than that of every claim before. */
      readonly fence: number
      /** More is to be taken from others: call again, before anything is fetched. */
      readonly more: boolean
      /** How many deliveries were taken from others, or from this name's own past. */
      readonly reclaimed: number
      /** How many of them had been trimmed: settled, as nothing of them is left. */
      readonly trimmed: number
    }

/**
 * Makes a worker the owner of a log. The nonce is the claim's own.
 *
 * @category ordering
 * @since 0.1.0
 */
export const claim: Script.Script<Named, Claimed> = Script.make({
  name: "claim",
  lua: lua.claim,
  keyNames: ["main", "retry", "state", "owners"],
  argNames: ["mainGroup", "retryGroup", "consumer", "nonce", "limit", "holder"],
  keys: ({ keys }) => [keys.main, keys.retry, keys.state, keys.owners],
  args: ({ consumer, holder, keys, nonce }) => [
    keys.mainGroup,
    keys.retryGroup,
    consumer,
    nonce,
    `${maxIds}`,
    holder ?? ""
  ],
  decode: (reply) => {
    const [how, fence, more, reclaimed, trimmed] = Script.list(reply)
    const answer = Script.word(["taken", "claimed", "gone"], how)
    if (answer !== "claimed") return answer
    return {
      fence: Script.number(fence),
      more: Script.bool(more),
      reclaimed: Script.number(reclaimed),
      trimmed: Script.number(trimmed)
    }
  }
})

/**
 * What ceding did.
 *
 * @category ordering
 * @since 0.1.0
 */
export interface Ceded {
  /** How many deliveries were given back. */
  readonly released: number
  /** Pending entries whose content was trimmed: settled, as nothing of them is left. */
  readonly trimmed: number
  /** More is held than one call gives back: call again. */
  readonly more: boolean
}

/**
 * Ends a claim: gives back what its owner holds, and the log. Nothing happens where it has ended.
 *
 * @category ordering
 * @since 0.1.0
 */
export const cede: Script.Script<Member, Ceded> = Script.make({
  name: "cede",
  lua: lua.cede,
  keyNames: ["main", "retry", "state", "owners", "bell"],
  argNames: ["mainGroup", "retryGroup", "consumer", "nonce", "limit"],
  keys: ({ keys }) => [keys.main, keys.retry, keys.state, keys.owners, keys.bell],
  args: ({ consumer, keys, nonce }) => [keys.mainGroup, keys.retryGroup, consumer, nonce, `${maxIds}`],
  decode: (reply) => {
    const [released, trimmed, more] = Script.list(reply)
    return { released: Script.number(released), trimmed: Script.number(trimmed), more: Script.bool(more) }
  }
})
