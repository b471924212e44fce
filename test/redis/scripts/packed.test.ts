/** What scripts pack is unpacked as it was, whatever the sizes. */
import { unpack } from "../../../packages/redis/src/internal/packed.ts"
import * as Script from "@clutch/redis/Script"
import { assert, describe, test } from "vitest"
import { redis, useServer } from "./harness.ts"

useServer()

const packed = async (lua: string): Promise<Buffer> => {
  const reply = await redis.callBuffer("EVAL", `return cmsgpack.pack(${lua})`, 0)
  if (!Buffer.isBuffer(reply)) throw new Error("a script that packs answers with bytes")
  return reply
}

describe("packed", () => {
  test.each([0, 1, 31, 32, 255, 256, 65_535, 65_536])("a text of %i bytes", async (length) => {
    assert.deepStrictEqual(unpack(await packed(`string.rep("\\255", ${length})`)), Buffer.alloc(length, 255))
  })

  test.each([0, 1, 15, 16, 65_535, 65_536])("a list of %i texts", async (length) => {
    const list = `(function() local l = {} for i = 1, ${length} do l[i] = "x" end return l end)()`
    assert.deepStrictEqual(
      unpack(await packed(list)),
      Array.from({ length }, () => Buffer.from("x"))
    )
  })

  test("lists of lists", async () => {
    assert.deepStrictEqual(unpack(await packed(`{{}, {{"1-0", "3", {"data", "x"}}}}`)), [
      [],
      [[Buffer.from("1-0"), Buffer.from("3"), [Buffer.from("data"), Buffer.from("x")]]]
    ])
  })

  test.each([
    [65, true],
    [66, false]
  ])("of %i KB, a text that is held keeps all of them in memory: %s", async (count, keeps) => {
    const whole = await packed(`{string.rep("x", 1000)${`, string.rep("y", 1000)`.repeat(count - 1)}}`)
    const [first] = Script.list(unpack(whole))
    assert.strictEqual(Script.bytes(first).buffer === whole.buffer, keeps)
    assert.strictEqual(Script.text(first), "x".repeat(1000))
  })

  test("what no script packs is a bug", async () => {
    assert.throws(() => unpack(Buffer.from([0xc2])), TypeError)
    assert.throws(() => unpack(Buffer.from([0x01])), TypeError)
    assert.throws(() => unpack(Buffer.from([0xa2, 0x61])), TypeError)
    const whole = await packed(`{"text"}`)
    assert.throws(() => unpack(whole.subarray(0, -1)), TypeError)
  })
})
