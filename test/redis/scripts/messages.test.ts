/** Scripts where readers wait for messages, as on a cluster: one message until it is heard, and never silence for long. */
import * as Scripts from "@clutch/redis/Scripts"
import { assert, describe, test } from "vitest"
import { keys, redis, run, useServer } from "./harness.ts"

useServer()

const publish = { ...Scripts.publish, lua: Scripts.publish.byMessage.lua }
const entry = { keys, entries: [["data", "1"]] as const, retention: { maxLength: undefined, maxAge: undefined } }

/** What is heard on the bell while `effect` runs. */
const heard = async (effect: () => Promise<unknown>): Promise<number> => {
  const listener = redis.duplicate()
  let count = 0
  listener.on("message", () => (count += 1))
  await listener.subscribe(keys.bell)
  await effect()
  // behind all messages that were sent before
  await listener.unsubscribe(keys.bell)
  listener.disconnect()
  return count
}

describe("ringing by message", () => {
  test("every script that rings does it either way", () => {
    const ringing = Scripts.all.filter(({ lua }) => lua.includes("local function ring("))
    assert.isAtLeast(ringing.length, 6)
    for (const { byMessage, lua, name, sha } of ringing) {
      assert.include(byMessage.lua, 'local bellKind = "string"', name)
      assert.notStrictEqual(byMessage.sha, sha, name)
      assert.strictEqual(byMessage.lua.length, lua.length, name)
    }
  })

  test("one message is sent until the mark is removed, and then the next", async () => {
    assert.strictEqual(
      await heard(async () => {
        await run(publish, entry)
        await run(publish, entry)
      }),
      1
    )
    assert.strictEqual(await redis.type(keys.bell), "string")
    await redis.del(keys.bell)
    assert.strictEqual(await heard(() => run(publish, entry)), 1)
    assert.strictEqual(await redis.xlen(keys.main), 3)
  })

  test("a message that nobody heard silences a log for a second at most", async () => {
    await run(publish, entry)
    const left = await redis.pttl(keys.bell)
    assert.isTrue(left > 0 && left <= 1000, `${left}`)
  })

  test("nothing is stored where the bell is of another type", async () => {
    await redis.rpush(keys.bell, "x")
    const error = await run(publish, entry).then(() => "none", String)
    assert.include(error, "WRONGTYPE")
    assert.strictEqual(await redis.exists(keys.main), 0)
  })
})
