/**
 * Ends a blocking read of another connection.
 *
 * The read may be on its way when the request to end it arrives, which then does nothing: so it is repeated for as long
 * as it is wanted. Where the server forbids it, the read ends by its own timeout.
 */
import type { Connection } from "../RedisClient.ts"

export interface Unblocker {
  /** Asks for it, once per turn of the event loop. */
  readonly poke: () => void
  readonly close: () => void
}

/** `target` is the id of the connection to wake; none while it need not be. */
export const make = (connection: Connection, target: () => string | undefined): Unblocker => {
  let timer: NodeJS.Timeout | undefined
  let closed = false
  const step = () => {
    timer = undefined
    const id = target()
    if (closed || id === undefined) return
    connection.submit("CLIENT", ["UNBLOCK", id]).catch(() => {})
    timer = setTimeout(step, 10)
  }
  return {
    poke: () => {
      if (!closed) timer ??= setTimeout(step, 0)
    },
    close: () => {
      closed = true
      clearTimeout(timer)
    }
  }
}
