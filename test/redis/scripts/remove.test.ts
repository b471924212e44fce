import * as Scripts from "@clutch/redis/Scripts"
import { assert, describe, test } from "vitest"
import {
  add,
  addRetry,
  dead,
  everything,
  fillMemory,
  groups,
  join,
  keys,
  member,
  now,
  read,
  redis,
  refused,
  retry,
  run,
  rung,
  useServer
} from "./harness.ts"

const remove = () => run(Scripts.remove, { keys })
const gone = { living: 0, more: false, removed: true }

describe("remove", () => {
  useServer()

  test("takes the group, its retries and its state, rings, and keeps the dead letters and the other groups", async () => {
    await add(5)
    await join("a")
    await addRetry(1, "1-0")
    await read("a", 3)
    await run(Scripts.fail, {
      keys,
      consumer: "a",
      origin: "main",
      failures: [retry("1-0", 60_000), dead("2-0")]
    })
    await redis.xgroup("CREATE", keys.main, "other", "0-0")
    await redis.hset(keys.groups, keys.mainGroup, 1, "other", 1)
    await run(Scripts.leave, member("a"))
    assert.isTrue(await rung(async () => assert.deepStrictEqual(await remove(), gone)))
    assert.deepStrictEqual(
      (await groups(keys.main)).map((group) => group["name"]),
      ["other"]
    )
    assert.deepStrictEqual(await redis.hgetall(keys.groups), { other: "1" })
    const left = [keys.main, keys.bell, keys.groups, keys.deadLetters].toSorted()
    assert.deepStrictEqual((await redis.keys("*")).toSorted(), left)
    assert.strictEqual(await redis.xlen(keys.main), 5)
    assert.deepStrictEqual(await remove(), { ...gone, removed: false })
  })

  test("is refused while a member lives, and then nothing has changed", async () => {
    await add(2)
    await join("a")
    await read("a", 1)
    const before = await everything()
    assert.deepStrictEqual(await remove(), { living: 1, more: false, removed: false })
    assert.deepStrictEqual(await everything(), before)
  })

  test("a member lives that shows signs of life, however old its commands are; one that is silent does not", async () => {
    // nobody can wait five minutes, nor make a server believe that they have passed
    const soon = { ...Scripts.remove, lua: Scripts.remove.lua.replace("300000", "50") }
    assert.notStrictEqual(soon.lua, Scripts.remove.lua)
    await join("a")
    await redis.hset(keys.state, "v:a", "1", "h:a", (await now()) + 60_000)
    await new Promise((resolve) => setTimeout(resolve, 100))
    assert.deepInclude(await run(soon, { keys }), { living: 1, removed: false })
    await redis.hset(keys.state, "h:a", "1")
    assert.deepStrictEqual(await run(soon, { keys }), gone)
  })

  test("many pending entries go a part a call, and the group with the last", async () => {
    await redis.eval(`for i = 1, 2500 do redis.call("XADD", KEYS[1], i .. "-0", "data", "{}") end`, 1, keys.main)
    await join("a")
    await read("a", 2500)
    await run(Scripts.leave, member("a"))
    await run(Scripts.leave, member("a"))
    await run(Scripts.leave, member("a"))
    const rounds: Array<unknown> = []
    for (let i = 0; i < 3; i++) rounds.push(await remove())
    assert.deepStrictEqual(rounds, [
      { living: 0, more: true, removed: false },
      { living: 0, more: true, removed: false },
      gone
    ])
    assert.deepStrictEqual(await groups(keys.main), [])
  })

  test("works while memory is full", async () => {
    await add(1)
    await join("a")
    await run(Scripts.leave, member("a"))
    await fillMemory()
    assert.deepStrictEqual(await remove(), gone)
  })

  test("another kind of value in a key is named, and nothing is removed", async () => {
    await join("a")
    await run(Scripts.leave, member("a"))
    await redis.set(keys.due, "x")
    assert.include(await refused(Scripts.remove, { keys }), `${keys.due} holds a string`)
    assert.strictEqual((await groups(keys.main)).length, 1)
  })
})
