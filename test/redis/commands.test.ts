import { assert, describe, it } from "@effect/vitest"
import type { Command } from "ioredis"
import { send } from "../../packages/redis/src/internal/commands.ts"

const sending = (...args: Array<string>) => {
  const sent: Array<Command> = []
  const reply = send({ sendCommand: (command: Command) => void sent.push(command) }, "ECHO", args)
  const [command] = sent
  if (command === undefined) throw new Error("nothing was sent")
  return { command, reply }
}

describe("commands", () => {
  it("holds its arguments until it is answered, and then no more", async () => {
    const { command, reply } = sending("a", "b")
    assert.deepStrictEqual(command.args, ["a", "b"])
    command.resolve(Buffer.from("done"))
    assert.deepStrictEqual(await reply, Buffer.from("done"))
    assert.deepStrictEqual(command.args, [])
  })

  it("nor where it is refused", async () => {
    const { command, reply } = sending("a")
    command.reject(new Error("no"))
    const error = await reply.catch((error: unknown) => error)
    assert.instanceOf(error, Error)
    assert.deepStrictEqual(command.args, [])
  })
})
