/**
 * What a failed command means for whoever asked for it.
 *
 * A reply that is an error says by its first word what happened; an error without a reply says only whether the
 * command had left this process.
 */
import { Refused, TransportError, Unavailable, Unknown } from "@clutch/core/Errors"
import * as Predicate from "effect/Predicate"

/** The server, or its role, cannot do it now; nothing was stored. */
const passing = new Set([
  "LOADING",
  "READONLY",
  "OOM",
  "MISCONF",
  "NOREPLICAS",
  "BUSY",
  "MASTERDOWN",
  "CLUSTERDOWN",
  "TRYAGAIN",
  "MOVED",
  "ASK",
  // a group or a stream that is gone: whoever holds a place on it creates it again
  "NOGROUP",
  "UNBLOCKED",
  "NOSCRIPT"
])

/** Somebody must change something first. */
const refusing = new Set(["NOPERM", "WRONGPASS", "NOAUTH", "DENIED", "WRONGTYPE", "EXHAUSTED"])

/** What is to be changed, where the server's words leave that open. */
const advice: Readonly<Record<string, string>> = {
  WRONGPASS: "check the options `username` and `password`, or those in `url`",
  NOPERM: "compare the user's permissions with those in docs/operations.md",
  NOAUTH: "give the option `password`, or one in `url`"
}

const advised = (code: string | undefined, detail: string): string => {
  const fix = code === undefined ? undefined : advice[code]
  return fix === undefined ? detail : `${detail.replace(/\.$/, "")}: ${fix}`
}

/** What a script's own failing call is reported with, before Redis 7: `ERR Error running script (…): … -OOM command …`. */
const embedded = new RegExp(`[\\s:-](${[...passing, ...refusing].join("|")})\\s`)

export const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error))

/** The first word of a reply that is an error; `undefined` where there was no reply. */
export const replyCode = (error: unknown): string | undefined => {
  if (!(error instanceof Error) || error.name !== "ReplyError") return undefined
  const message = error.message
  const code = /^[A-Z]+/.exec(message)?.[0] ?? "ERR"
  if (code !== "ERR") return code
  if (message.includes("max number of clients")) return "BUSY"
  if (/can't run this command|unknown command/i.test(message)) return "NOPERM"
  if (/no longer exists|requires the key to exist|no such key/.test(message)) return "NOGROUP"
  // somebody wrote the greatest id there is
  if (message.includes("exhausted the last possible ID")) return "EXHAUSTED"
  return embedded.exec(message)?.[1] ?? code
}

/** The client keeps a command's arguments, passwords and payloads among them, on its errors: these do not travel on. */
const stripped = (error: unknown): Error => {
  const clean = new Error(messageOf(error))
  if (error instanceof Error) {
    clean.name = error.name
    if (error.stack !== undefined) clean.stack = error.stack
  }
  return clean
}

/** Where a command has its key, if not in front; -1 where it has several, or the error comes from within a script. */
const keyAt: Readonly<Record<string, number>> = { xinfo: 1, xgroup: 1, xreadgroup: -1, evalsha: -1 }

/** The key of the command that failed, as the client's error has it: the server names none. */
const keyOf = (error: unknown): string | undefined => {
  if (!Predicate.hasProperty(error, "command")) return undefined
  const { command } = error
  if (!Predicate.hasProperty(command, "name") || !Predicate.hasProperty(command, "args")) return undefined
  const key: unknown = Array.isArray(command.args)
    ? command.args[keyAt[String(command.name).toLowerCase()] ?? 0]
    : undefined
  return typeof key === "string" ? key : undefined
}

/** Refused by the client before it was written. Its words speak of an option of its own. */
const isUnwritten = (error: unknown): boolean => messageOf(error).startsWith("Stream isn't writeable")

/** The error of an operation whose command failed; none where that is neither the server's state nor its refusal. */
export const failed = (operation: string, error: unknown): TransportError | undefined => {
  const cause = stripped(error)
  const code = replyCode(error)
  const key = code === "WRONGTYPE" ? keyOf(error) : undefined
  const detail = advised(code, key === undefined ? cause.message : `${cause.message} (${key})`)
  if (code === undefined) {
    if (isUnwritten(error)) {
      return new TransportError({ operation, reason: new Unavailable({ detail: "not connected", cause }) })
    }
    // the client's own word for it speaks of an option of the client
    const lost =
      cause.name === "MaxRetriesPerRequestError"
        ? "the connection was lost before the reply"
        : `the connection was lost before the reply (${detail})`
    return new TransportError({ operation, reason: new Unknown({ detail: lost, cause }) })
  }
  if (passing.has(code)) return new TransportError({ operation, reason: new Unavailable({ detail, cause }) })
  if (refusing.has(code)) return new TransportError({ operation, reason: new Refused({ detail, cause }) })
  return undefined
}

/** What the server's own words, which a script caught, mean. */
export const reported = (operation: string, problem: string): TransportError => {
  const error = new Error(problem.replace(/^-/, ""))
  error.name = "ReplyError"
  return (
    failed(operation, error) ??
    new TransportError({ operation, reason: new Unavailable({ detail: error.message, cause: error }) })
  )
}

/** The error of an operation whose arguments are longer than what the client can write at once. */
export const unwritable = (operation: string, error: unknown): TransportError => {
  const cause = stripped(error)
  const detail = `the client could not write the command: ${cause.message}`
  return new TransportError({ operation, reason: new Refused({ detail, cause }) })
}

/** The error of an operation that was not sent, since there is no connection; `last` tells why there is none. */
export const disconnected = (operation: string, last: unknown): TransportError => {
  const cause = last === undefined ? undefined : stripped(last)
  const code = replyCode(last)
  const why = cause === undefined || isUnwritten(cause) ? "" : ` (${cause.message})`
  const detail = advised(code, `not connected${why}`)
  return new TransportError({
    operation,
    reason:
      code !== undefined && refusing.has(code) ? new Refused({ detail, cause }) : new Unavailable({ detail, cause })
  })
}

/** Whether the group or its stream is gone, and is to be created again. */
export const isGone = (error: TransportError): boolean => {
  if (error.reason._tag !== "Unavailable") return false
  const code = replyCode(error.reason.cause)
  return code === "NOGROUP" || code === "UNBLOCKED"
}
