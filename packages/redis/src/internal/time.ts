/**
 * Real time, whatever Clock is installed: what a server does cannot be told to wait.
 */
import * as Effect from "effect/Effect"
import { millisOf } from "./asking.ts"
import type { Connection } from "./connection.ts"

/** Waits for so many milliseconds. */
export const pause = (milliseconds: number): Effect.Effect<void> =>
  Effect.callback((resume) => {
    const timer = setTimeout(() => resume(Effect.void), milliseconds)
    return Effect.sync(() => clearTimeout(timer))
  })

/** How long a measured difference to the server's clock is trusted, in milliseconds. */
const trusted = 60_000

export interface ServerClock {
  /** The server's time in milliseconds since the epoch, as near as half a round trip. */
  readonly now: () => number
}

/**
 * The server's time by a clock of this process that only goes forward, so that a wrong or a jumping system clock changes
 * nothing. Measured before it is first asked, then once a minute and after each connect.
 */
export const serverClock = Effect.fnUntraced(function* (connection: Connection) {
  let offset = 0
  let measured = 0
  let epoch = 0
  let measuring = false
  const measure = async () => {
    const sent = performance.now()
    const reply = await connection.submit("TIME", [])
    if (!Array.isArray(reply)) return
    const got = performance.now()
    offset = millisOf(reply) - (sent + got) / 2
    measured = got
    epoch = connection.epoch()
  }
  const again = () => {
    measuring = true
    measure()
      .catch(() => {})
      .finally(() => {
        measuring = false
      })
  }
  yield* connection.attempt("connect", measure)
  return {
    now: () => {
      const now = performance.now()
      if (!measuring && (now - measured > trusted || connection.epoch() !== epoch)) again()
      return Math.floor(now + offset)
    }
  } satisfies ServerClock
})
