/**
 * A client that connects to another server each time, as far as there is a choice: for a connection that any server of a
 * cluster can serve, and for one that follows a slot.
 */
import type { Native } from "./connection.ts"
import { retryDelay } from "./connection.ts"
import type { Address } from "./topology.ts"

export interface Wandering extends Native {
  /** Where it is connected, or is connecting. */
  readonly at: () => Address | undefined
}

type Event = Parameters<Native["on"]>[0]
type Listener = Parameters<Native["on"]>[1]

/** `make` gives a client that ends when its connection is lost. While `pick` knows no server, it is asked again. */
export const make = (
  pick: (last: Address | undefined) => Address | undefined,
  make: (address: Address) => Native
): Wandering => {
  const listeners: Record<Event, Array<Listener>> = { ready: [], end: [], error: [], message: [] }
  let current: { readonly native: Native; readonly address: Address } | undefined
  let last: Address | undefined
  let status = "wait"
  let tries = 0
  let timer: NodeJS.Timeout | undefined
  let over = false

  const tell = (event: Event, detail?: unknown, more?: unknown) => {
    for (const listener of listeners[event]) listener(detail, more)
  }
  const again = () => {
    status = "reconnecting"
    tries += 1
    timer = setTimeout(step, retryDelay(tries))
  }
  const step = () => {
    const address = pick(last)
    if (address === undefined) return again()
    const native = make(address)
    const mine = { native, address }
    last = address
    current = mine
    status = "connecting"
    native.on("error", (error) => tell("error", error))
    native.on("message", (channel, text) => tell("message", channel, text))
    native.on("ready", () => {
      status = "ready"
      tries = 0
      tell("ready")
    })
    native.on("end", () => {
      if (current !== mine) return
      current = undefined
      if (!over) return again()
      status = "end"
      tell("end")
    })
    native.connect().catch(() => {})
  }

  return {
    get status() {
      return status
    },
    at: () => current?.address,
    connect: () => {
      step()
      return Promise.resolve()
    },
    disconnect: (reconnect = false) => {
      if (!reconnect) {
        over = true
        clearTimeout(timer)
      }
      if (current !== undefined) {
        status = "disconnecting"
        current.native.disconnect()
      } else if (!reconnect) status = "end"
    },
    callBuffer: (command, args) =>
      current === undefined
        ? Promise.reject(new Error("Stream isn't writeable"))
        : current.native.callBuffer(command, args),
    on: (event, listener) => listeners[event].push(listener)
  }
}
