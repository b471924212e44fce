/** A client that follows a slot, or takes any server: whatever it is connected to, it is heard like a plain one. */
import { assert, describe, it } from "@effect/vitest"
import { EventEmitter } from "node:events"
import * as Connections from "../../packages/redis/src/internal/connection.ts"
import * as Wandering from "../../packages/redis/src/internal/wandering.ts"

const fakeNative = () => {
  const events = new EventEmitter()
  const native: Connections.Native = {
    status: "ready",
    connect: () => Promise.resolve(),
    disconnect: () => {},
    callBuffer: () => Promise.resolve(null),
    on: (event, listener) => events.on(event, listener)
  }
  return { events, native }
}

describe("a client that wanders", () => {
  it("passes on the channel and the text of what it hears", () => {
    const { events, native } = fakeNative()
    const wandering = Wandering.make(
      () => ({ host: "one", port: 1 }),
      () => native
    )
    const heard: Array<readonly [string, string]> = []
    Connections.make(wandering, { commandTimeout: 1000 }).onMessage((...message) => heard.push(message))
    void wandering.connect()
    events.emit("message", "clutch.{orders}.bell", "new")
    assert.deepStrictEqual(heard, [["clutch.{orders}.bell", "new"]])
  })
})
