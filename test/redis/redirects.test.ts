/** What a client of a cluster does while its servers learn who serves a slot; they are made up here. */
import * as Cluster from "../../packages/redis/src/internal/cluster.ts"
import { isElsewhere, type Native, type Role } from "../../packages/redis/src/internal/connection.ts"
import { slotOf } from "../../packages/redis/src/internal/slots.ts"
import type { Address } from "../../packages/redis/src/internal/topology.ts"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { until } from "../cases/kit.ts"

const key = "{a}"
const slot = slotOf(key)
const [one, two] = [
  { host: "one", port: 1 },
  { host: "two", port: 2 }
]

/** Connected at once, for good. */
const connected = (reply: (command: string) => unknown): Native => {
  const listeners = new Map<string, () => void>()
  let status = "wait"
  return {
    get status() {
      return status
    },
    connect: async () => {
      status = "ready"
      listeners.get("ready")?.()
    },
    disconnect: () => {
      status = "end"
      listeners.get("end")?.()
    },
    callBuffer: async (command) => {
      const answer = reply(command)
      if (answer instanceof Error) throw answer
      return answer
    },
    on: (event, listener) => listeners.set(event, listener)
  }
}

const moved = ({ host, port }: Address) =>
  Object.assign(new Error(`MOVED ${slot} ${host}:${port}`), { name: "ReplyError" })

/** Servers of slots, as CLUSTER SLOTS has them, each with how it answers a GET. `asked` are the hosts that were sent one. */
const cluster = (slots: (asked: number) => ReadonlyArray<unknown>, get: (at: Address) => unknown) => {
  const asked: Array<string> = []
  const make = (_: Role, at: Address) =>
    connected((command) => {
      if (command === "CLUSTER") return slots(asked.length)
      asked.push(at.host)
      return get(at)
    })
  return Effect.map(Cluster.open({ seeds: [one], make, commandTimeout: 1000 }), (self) => ({ self, asked }))
}

const all = ({ host, port }: Address) => [[0, 16383, [host, port]]]
const allBut = ({ host, port }: Address) => [
  [0, slot - 1, [host, port]],
  [slot + 1, 16383, [host, port]]
]

/** Connected to the one server, while the other one serves the slot. */
const movedOn = Effect.gen(function* () {
  const { asked, self } = yield* cluster(
    (asked) => all(asked === 0 ? one : two),
    ({ host }) => (host === "one" ? moved(two) : "value")
  )
  const connection = self.at(key)
  yield* until("it is connected", () => connection.isReady())
  return { asked, connection }
})

describe("who serves a slot", () => {
  it.live("is asked again where nobody was known to serve one that is used", () =>
    Effect.gen(function* () {
      let served = false
      const { self } = yield* cluster(
        () => (served ? all(one) : allBut(one)),
        () => "value"
      )
      const connection = self.at(key)
      yield* until("the others are served", () => self.isWhole())
      assert.isFalse(connection.isReady())
      served = true
      yield* until("this one is", () => connection.isReady(), 3000)
      assert.strictEqual(yield* connection.command("GET", [key]), "value")
    }).pipe(Effect.scoped)
  )

  it.live("is somebody else: what is for here comes back, undone", () =>
    Effect.gen(function* () {
      const { asked, connection } = yield* movedOn
      const epoch = connection.epoch()
      const refused = yield* Effect.promise(() => connection.here.submit("GET", [key]).then(() => "done", isElsewhere))
      assert.strictEqual(refused, true)
      assert.deepStrictEqual(asked, ["one"])
      // whoever compares the two finds that it is another server
      assert.isAbove(connection.epoch(), epoch)
      assert.strictEqual(yield* Effect.promise(() => connection.here.submit("GET", [key])), "value")
      assert.deepStrictEqual(asked, ["one", "two"])
    }).pipe(Effect.scoped)
  )

  it.live("is somebody else: what may go anywhere is done there", () =>
    Effect.gen(function* () {
      const { asked, connection } = yield* movedOn
      assert.strictEqual(yield* connection.command("GET", [key]), "value")
      assert.deepStrictEqual(asked, ["one", "two"])
    }).pipe(Effect.scoped)
  )
})
