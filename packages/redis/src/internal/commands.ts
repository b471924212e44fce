/**
 * Commands of ioredis that let go of what they were given once it is answered.
 *
 * Of each command the client makes a function that the engine allots among what lives long. It keeps the command, and by it
 * all arguments, until the engine collects all of its memory: at hundreds of thousands of messages a second that is most of
 * what the collection of the young has to move.
 */
import { Command, type Redis } from "ioredis"
import type { Arg } from "../Script.ts"

const answered: Array<Arg> = []

/** Answered with what came: what the client makes of some lists, by the names of their commands, is no list. */
class Plain extends Command {
  override transformReply<A>(reply: A): A {
    return reply
  }
}

/** Sends a command, and answers with its reply in bytes. */
export const send = (client: Pick<Redis, "sendCommand">, name: string, args: Array<Arg>): Promise<unknown> => {
  const command = new Plain(name, args, { replyEncoding: null })
  client.sendCommand(command)
  return command.promise.then(
    (reply) => {
      command.args = answered
      return reply
    },
    (error) => {
      command.args = answered
      throw error
    }
  )
}
