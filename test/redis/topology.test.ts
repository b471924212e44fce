/** What the servers of a cluster say, read: slots of keys, who serves them, and where a command should have gone. */
import { assert, describe, test } from "vitest"
import * as Connections from "../../packages/redis/src/internal/connection.ts"
import { slotOf } from "../../packages/redis/src/internal/slots.ts"
import * as Topology from "../../packages/redis/src/internal/topology.ts"

const asked = { host: "10.0.0.1", port: 7000 }

/** What a command is rejected with, as the client words it. */
const replied = async (message: string): Promise<unknown> => {
  const error = Object.assign(new Error(message), { name: "ReplyError" })
  const connection = Connections.make(
    {
      status: "ready",
      connect: () => Promise.resolve(),
      disconnect: () => {},
      callBuffer: () => Promise.reject(error),
      on: () => {}
    },
    { commandTimeout: 1000 }
  )
  return connection.submit("GET", ["k"]).catch((rejected: unknown) => rejected)
}

describe("a key's slot", () => {
  // the first is the specification's own example; the others are what CLUSTER KEYSLOT answers
  test.each([
    ["123456789", 12739],
    ["", 0],
    ["orders", 105],
    ["clutch.{orders}", 105],
    ["clutch.{orders}.billing.due", 105],
    ["clutch.{orders/3}", 11623],
    ["{}.a", 8029],
    ["a{}b", 13694],
    ["{{a}}", 10276],
    ["clutch.{größe}", 9425]
  ])("of %j is %d", (key, slot) => assert.strictEqual(slotOf(key), slot))
})

describe("CLUSTER SLOTS", () => {
  const server = (host: string | null, port: number) => [
    host === null ? null : Buffer.from(host),
    port,
    Buffer.from("id"),
    []
  ]

  test("names the master of each slot, and everybody", () => {
    const { known, slots } = Topology.parse(
      [
        [0, 100, server("10.0.0.1", 7000), server("10.0.0.2", 7000)],
        [102, 200, server("10.0.0.3", 7001)]
      ],
      asked
    )
    assert.deepStrictEqual(slots[0], { host: "10.0.0.1", port: 7000 })
    assert.deepStrictEqual(slots[100], { host: "10.0.0.1", port: 7000 })
    assert.isUndefined(slots[101])
    assert.deepStrictEqual(slots[200], { host: "10.0.0.3", port: 7001 })
    assert.deepStrictEqual(known.map(Topology.keyOf), ["10.0.0.1:7000", "10.0.0.3:7001", "10.0.0.2:7000"])
  })

  test("a server without a name is where it was asked", () => {
    for (const name of [null, "", "?"]) {
      assert.deepStrictEqual(Topology.parse([[0, 0, server(name, 7003)]], asked).slots[0], {
        host: "10.0.0.1",
        port: 7003
      })
    }
  })

  test("nonsense serves nothing", () => {
    for (const reply of [null, "OK", [], [[]], [[0, 1]], [[0, 1, "x"]]]) {
      assert.deepStrictEqual(Topology.parse(reply, asked).known, [])
    }
  })
})

describe("a redirection", () => {
  test("says for good or this once, which slot, and where", async () => {
    assert.deepStrictEqual(Topology.redirectOf(await replied("MOVED 3999 127.0.0.1:6381"), asked), {
      kind: "moved",
      slot: 3999,
      to: { host: "127.0.0.1", port: 6381 }
    })
    assert.deepStrictEqual(Topology.redirectOf(await replied("ASK 7 ::1:6381"), asked), {
      kind: "ask",
      slot: 7,
      to: { host: "::1", port: 6381 }
    })
    assert.deepStrictEqual(Topology.redirectOf(await replied("MOVED 1 :6381"), asked)?.to, {
      host: "10.0.0.1",
      port: 6381
    })
  })

  test("no other refusal is one, nor is what got no reply", async () => {
    for (const message of [
      "TRYAGAIN Multiple keys request during rehashing of slot",
      "CLUSTERDOWN Hash slot not served"
    ]) {
      assert.isUndefined(Topology.redirectOf(await replied(message), asked))
    }
    assert.isUndefined(Topology.redirectOf(new Error("MOVED 1 127.0.0.1:1"), asked))
  })
})
