/** How scripts wake readers: one message of a kind until it is heard, and never silence for long. */
import * as Scripts from "@clutch/redis/Scripts"
import { assert, describe, test } from "vitest"
import { add, join, keys, read, redis, retry, run, useServer } from "./harness.ts"

useServer()

const entry = { keys, entries: [["data", "1"]] as const, retention: { maxLength: undefined, maxAge: undefined } }

/** What is heard on the bell while `effect` runs. */
const heard = async (effect: () => Promise<unknown>): Promise<ReadonlyArray<string>> => {
  const listener = redis.duplicate()
  const heard: Array<string> = []
  listener.on("message", (_, text) => heard.push(text))
  await listener.subscribe(keys.bell)
  await effect()
  // behind all messages that were sent before
  await listener.unsubscribe(keys.bell)
  listener.disconnect()
  return heard
}

/** A delivery that fails, and is due in so many milliseconds. */
const failing = async (delay: number) => {
  await join("a")
  const [id = ""] = await add(1)
  await read("a")
  return () => run(Scripts.fail, { keys, consumer: "a", origin: "main", failures: [retry(id, delay)] })
}

describe("ringing by message", () => {
  test("one message is sent until the mark is removed, and then the next", async () => {
    assert.deepStrictEqual(
      await heard(async () => {
        await run(Scripts.publish, entry)
        await run(Scripts.publish, entry)
      }),
      ["new"]
    )
    assert.strictEqual(await redis.type(keys.bell), "string")
    await redis.del(keys.bell)
    assert.deepStrictEqual(await heard(() => run(Scripts.publish, entry)), ["new"])
    assert.strictEqual(await redis.xlen(keys.main), 3)
  })

  test("what is told of one kind does not keep another one back", async () => {
    const fail = await failing(60_000)
    assert.deepStrictEqual(
      await heard(async () => {
        await run(Scripts.publish, entry)
        await fail()
        await run(Scripts.publish, entry)
      }),
      ["new", "due"]
    )
    assert.strictEqual(await redis.get(keys.bell), "new due")
    const left = await redis.pttl(keys.bell)
    assert.isTrue(left > 0 && left <= 1000, `${left}`)
  })

  test("a message that nobody heard silences a log for a second at most", async () => {
    await run(Scripts.publish, entry)
    const left = await redis.pttl(keys.bell)
    assert.isTrue(left > 0 && left <= 1000, `${left}`)
  })

  test("nothing is stored where the bell is of another type", async () => {
    await redis.rpush(keys.bell, "x")
    const error = await run(Scripts.publish, entry).then(() => "none", String)
    assert.include(error, "WRONGTYPE")
    assert.strictEqual(await redis.exists(keys.main), 0)
  })
})
