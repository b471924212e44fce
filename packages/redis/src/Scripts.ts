/**
 * Every script as a typed value. What a script does, and why its order of writes is safe, stands at the head of its file
 * in `scripts/`; what goes in and what comes out, in the modules beside it, by concept.
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
import type * as Script from "./Script.ts"
import { redrive } from "./scripts/deadLetters.ts"
import { extend, mark } from "./scripts/leases.ts"
import { join, leave, rollback } from "./scripts/membership.ts"
import { draw, order } from "./scripts/ordering.ts"
import { cede, claim, rest, roster } from "./scripts/owning.ts"
import { partitions } from "./scripts/partitioning.ts"
import { publish } from "./scripts/publishing.ts"
import { remove, trim } from "./scripts/retention.ts"
import { ack, fail, release } from "./scripts/settling.ts"
import { tend } from "./scripts/tending.ts"
import { take } from "./scripts/waiting.ts"

export * from "./scripts/publishing.ts"
export * from "./scripts/membership.ts"
export * from "./scripts/settling.ts"
export * from "./scripts/leases.ts"
export * from "./scripts/waiting.ts"
export * from "./scripts/tending.ts"
export * from "./scripts/deadLetters.ts"
export * from "./scripts/retention.ts"
export * from "./scripts/owning.ts"
export * from "./scripts/ordering.ts"
export * from "./scripts/partitioning.ts"
export { type Held, maxIds, type Member, type Named, type Place } from "./scripts/shared.ts"

/**
 * Every script, for a client that loads them ahead.
 *
 * @category scripts
 * @since 0.1.0
 */
export const all: ReadonlyArray<Pick<Script.Script<never, unknown>, "name" | "lua" | "sha" | "keyNames" | "argNames">> =
  [
    publish,
    join,
    rollback,
    leave,
    ack,
    fail,
    release,
    extend,
    mark,
    take,
    tend,
    redrive,
    roster,
    rest,
    claim,
    cede,
    draw,
    order,
    partitions,
    trim,
    remove
  ]
