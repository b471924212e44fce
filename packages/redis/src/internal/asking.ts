/**
 * Asking the server about keys, and reading what it says.
 */
import type { Reply } from "../Script.ts"
import { codeOf, type Connection } from "./connection.ts"

/** A command on a key or a group that may not be there: `null` then. */
export const maybe = (submit: Connection["submit"], command: string, args: ReadonlyArray<string>): Promise<Reply> =>
  submit(command, args).catch((error: unknown) => {
    if (codeOf(error) === "NOGROUP") return null
    throw error
  })

/** What TIME says, in milliseconds since the epoch; 0 where it says nothing. */
export const millisOf = (time: Reply | undefined): number =>
  Array.isArray(time) ? Number(String(time[0])) * 1000 + Number(String(time[1])) / 1000 : 0

/** Whether entry id `a` comes before `b`, or is it. */
export const upTo = (a: string, b: string): boolean => {
  const [aTime = "0", aCount = "0"] = a.split("-")
  const [bTime = "0", bCount = "0"] = b.split("-")
  const order = digits(aTime, bTime)
  return order === 0 ? digits(aCount, bCount) <= 0 : order < 0
}

/** Numbers of up to twenty digits, more than a number holds exactly. */
const digits = (a: string, b: string): number => a.length - b.length || (a < b ? -1 : a > b ? 1 : 0)

const greatest = "18446744073709551615-18446744073709551615"

/** Whether the server can be asked for what follows: of the greatest id, and of what is none, it refuses to tell. */
export const hasFollowers = (id: string): boolean => /^\d+-\d+$/.test(id) && id !== greatest && upTo(id, greatest)

/** Name, value, name, value, … */
export const table = (reply: Reply): ReadonlyMap<string, Reply> => {
  const found = new Map<string, Reply>()
  if (Array.isArray(reply)) for (let i = 0; i + 1 < reply.length; i += 2) found.set(String(reply[i]), reply[i + 1])
  return found
}

export const rows = (reply: Reply): ReadonlyArray<ReadonlyMap<string, Reply>> =>
  Array.isArray(reply) ? reply.map(table) : []

export const textOf = (reply: Reply | undefined): string => (reply === undefined || reply === null ? "" : String(reply))
