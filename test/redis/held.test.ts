import { assert, describe, test } from "vitest"
import * as Codec from "@clutch/redis/Codec"
import * as RedisKeys from "@clutch/redis/RedisKeys"
import * as Entries from "../../packages/redis/src/internal/entry.ts"
import { Held } from "../../packages/redis/src/internal/held.ts"

const keys = RedisKeys.group("test", { topic: "t", partition: 0, subscription: "s" })
const read: Entries.Read = { keys, codec: Codec.native, nonce: "n", epoch: 1, now: 0 }
const entry = (id: string) => Entries.make(read, "main", id, 1, [])
const ids = (held: Held) => held.values().map(({ id }) => id)

describe("held", () => {
  test("what was added is there, in the order in which it came, until it is removed", () => {
    const held = new Held()
    const [a, b, c] = [entry("5-9"), entry("5-10"), entry("6-0")]
    for (const one of [a, b, c]) held.add(one)
    held.remove(b)
    held.remove(b)
    assert.deepStrictEqual(ids(held), ["5-9", "6-0"])
    assert.deepStrictEqual(
      [a, b, c].map((one) => held.has(one)),
      [true, false, true]
    )
    assert.strictEqual(held.find("6-0"), c)
    assert.isUndefined(held.find("5-10"))
  })

  test.each([
    ["as it is", ["1-0", "2-0", "3-0"], "2-0"],
    ["though it is the last", ["1-0", "2-0", "3-0"], "3-0"],
    ["after a sequence with more digits", ["7-9", "7-10"], "7-9"],
    ["after a time with more digits", ["999-5", "1000-1"], "999-5"],
    ["before one of the same millisecond", ["8-10", "8-11"], "8-10"]
  ])("an entry that is delivered again takes its own earlier place: %s", (_, before, again) => {
    const held = new Held()
    const earlier = before.map(entry)
    for (const one of earlier) held.add(one)
    const anew = entry(again)
    held.add(anew)
    assert.strictEqual(held.find(again), anew)
    assert.deepStrictEqual(
      ids(held).filter((id) => id === again),
      [again]
    )
    for (const one of earlier) assert.strictEqual(held.has(one), one.id !== again)
    // another delivery is not this one
    for (const one of earlier) if (one.id === again) held.remove(one)
    assert.isTrue(held.has(anew))
  })

  test("what was found by id is found after more came and went", () => {
    const held = new Held()
    const all = Array.from({ length: 3000 }, (_, n) => entry(`${n}-0`))
    for (const one of all.slice(0, 2000)) held.add(one)
    assert.strictEqual(held.find("1999-0"), all[1999])
    for (const one of all.slice(0, 1990)) held.remove(one)
    assert.isUndefined(held.find("7-0"))
    for (const one of all.slice(2000)) held.add(one)
    assert.strictEqual(held.find("2500-0"), all[2500])
    assert.isUndefined(held.find("7-0"))
    assert.strictEqual(held.values().length, 1010)
  })
})
