/** A user who lacks a permission: a script says so before it has stored anything, and takes no refusal for an answer. */
import * as Scripts from "@clutch/redis/Scripts"
import type { Script } from "@clutch/redis/Script"
import { assert, describe, test } from "vitest"
import {
  add,
  addRetry,
  claim,
  claimed,
  dead,
  drawn,
  everything,
  join,
  keys,
  member,
  ordered,
  orderedRetry,
  read,
  redis,
  refused,
  retry,
  run,
  scored,
  useServer
} from "./harness.ts"

/** Runs it by a user who may not call the command: what it says, and that it changed nothing. */
const lacking = async <Input, Result>(command: string, script: Script<Input, Result>, input: Input): Promise<void> => {
  const before = await everything()
  await redis.call("ACL", "SETUSER", "default", `-${command}`)
  try {
    // Redis 7.0 words it for scripts without the command
    const told = await refused(script, input)
    assert.match(told, /NOPERM|can't run this command/)
  } finally {
    await redis.call("ACL", "SETUSER", "default", `+${command}`)
  }
  assert.deepStrictEqual(await everything(), before)
}

describe("a permission that is missing", () => {
  useServer()

  test("to trim: nothing is published where it is to be trimmed, and all else is", async () => {
    const publish = (maxLength: number | undefined) => ({
      keys,
      entries: [["data", "1"]] as const,
      retention: { maxLength, maxAge: undefined }
    })
    await lacking("xtrim", Scripts.publish, publish(10))
    await redis.call("ACL", "SETUSER", "default", "-xtrim")
    await run(Scripts.publish, publish(undefined))
    await redis.call("ACL", "SETUSER", "default", "+xtrim")
    assert.strictEqual(await redis.xlen(keys.main), 1)
  })

  test("to settle: no retry is scheduled, and no dead letter is kept", async () => {
    await add(2)
    await addRetry(1, "1-0")
    await join("a")
    await read("a", 2)
    await read("a", 1, "retry")
    const main = { keys, consumer: "a", origin: "main", failures: [retry("1-0", 1), dead("2-0")] } as const
    for (const command of ["xack", "zadd"]) await lacking(command, Scripts.fail, main)
    await lacking("xdel", Scripts.fail, { ...main, origin: "retry", failures: [retry("1-0", 1)] })
  })

  test("to settle: the owner of a log holds no key back", async () => {
    await add(1)
    await join("a", { ordered: true })
    await claim("a")
    await drawn("a")
    const input = { ...claimed("a"), acks: [], items: [ordered("1-0", orderedRetry("1-0", 1000))] }
    for (const command of ["xack", "xdel", "zrem"]) await lacking(command, Scripts.order, input)
  })

  test("to remove a dead letter: it becomes no retry", async () => {
    await add(1)
    await join("a")
    await read("a")
    const [found] = await run(Scripts.fail, { keys, consumer: "a", origin: "main", failures: [dead("1-0")] })
    assert.isObject(found)
    const ids = typeof found === "object" ? ([found.deadLetter] as const) : (["0-1"] as const)
    for (const delay of [0, 1000]) await lacking("xdel", Scripts.redrive, { keys, ids, delay })
  })

  test("to remove what was due: it is not moved", async () => {
    await join("a")
    await redis.zadd(keys.due, 1, "4:data,1:1,")
    await lacking("zrem", Scripts.tend, { keys, scan: false, cursor: undefined })
    assert.lengthOf(await scored(keys.due), 2)
  })

  test("to look: what is refused is no list without anything in it", async () => {
    await add(2)
    await join("a")
    await read("a")
    for (const command of ["xinfo", "xpending"]) {
      await lacking(command, Scripts.leave, { ...member("a"), ordered: false })
      await lacking(command, Scripts.tend, { keys, scan: true, cursor: undefined })
    }
    await lacking("xinfo", Scripts.extend, { ...member("a"), main: [{ id: "1-0", count: 1 }], retry: [] })
  })
})
