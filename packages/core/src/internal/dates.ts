/** Times as a log tells them. */
import * as DateTime from "effect/DateTime"

/** Milliseconds from the epoch that a date can have. */
const most = 8.64e15

/**
 * The date of a time in milliseconds, whatever was stored there: the nearest one that there is, and the epoch for what is
 * no number. An entry with such a time must neither end a loop nor hide the other dead letters.
 */
export const ofMillis = (millis: number): DateTime.Utc =>
  DateTime.makeUnsafe(Number.isNaN(millis) ? 0 : Math.min(Math.max(millis, -most), most))
