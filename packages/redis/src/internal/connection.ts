/**
 * One connection: a client of ioredis' shape, watched.
 *
 * A command that is written is written once. When the connection is lost, everything that waits for a reply fails as
 * unknown; what is asked for while there is no connection fails at once as unavailable. Connecting again is endless.
 */
import * as TransportErrors from "@clutch/core/Errors"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { Arg, Reply, Script } from "../Script.ts"
import { disconnected, failed, messageOf, replyCode, unwritable } from "./errors.ts"

/** What a client has to offer: ioredis, iovalkey and their likes do. Replies are Buffers, numbers, null and arrays. */
export interface Native {
  /** `"ready"` while commands can be written. */
  readonly status: string
  readonly connect: () => Promise<unknown>
  readonly disconnect: (reconnect?: boolean) => void
  readonly callBuffer: (command: string, args: Array<Arg>) => Promise<unknown>
  /** The socket of the present connection, where the client shows it: what belongs together then leaves in one write. */
  readonly stream?: { readonly cork: () => void; readonly uncork: () => void } | null | undefined
  readonly on: (
    event: "ready" | "end" | "error" | "message",
    listener: (detail?: unknown, more?: unknown) => void
  ) => unknown
}

/** What a connection is for. */
export type Role = "commands" | "bell" | "consumer" | "replicas" | "discovery"

/** How often a lost connection is tried again: 50 ms at first, 1 second at most. */
export const retryDelay = (times: number): number => Math.min(50 * 2 ** Math.min(times - 1, 10), 1000)

/** The longest that a timer of Node's waits, in milliseconds: it takes more for 1. */
const longest = 2 ** 31 - 1

/** So many milliseconds, or the longest that a timer can wait. */
export const timerOf = (milliseconds: number): number => Math.min(milliseconds, longest)

/** Not written, since there was no connection. */
export class NotConnected extends Error {
  override readonly name = "NotConnected"
}

/** Not written, as the client cannot: `cause` is what it threw. */
class NotWritten extends Error {
  override readonly name = "NotWritten"
}

/** Written, or refused by the client: `cause` is what it said. */
class CommandFailed extends Error {
  override readonly name = "CommandFailed"
}

/** What a rejected `submit` says, where the server said it; `undefined` where there was no reply. */
export const codeOf = (error: unknown): string | undefined =>
  error instanceof CommandFailed ? replyCode(error.cause) : undefined

/** Whether another server of a cluster serves the key, or is about to. */
export const isElsewhere = (error: unknown): boolean => codeOf(error) === "MOVED" || codeOf(error) === "ASK"

/** The words of a reply that rejected a `submit`; none where there was no reply. */
export const wordsOf = (error: unknown): ReadonlyArray<string> =>
  codeOf(error) === undefined || !(error instanceof CommandFailed) ? [] : messageOf(error.cause).split(" ")

/** How a script went whose writes replicas were to confirm. */
export interface Replicated<Result> {
  readonly result: Result
  /** How many replicas have it, as far as is known. */
  readonly confirmed: number
  /** Why that is not known. */
  readonly problem: string | undefined
}

/** How many replicas to wait for, and how many milliseconds. */
export interface Replication {
  readonly replicas: number
  readonly within: number
}

export interface Connection {
  /** Writes one command and answers with its reply; rejects with what the client said. For `attempt`. */
  readonly submit: (command: string, args: ReadonlyArray<Arg>) => Promise<Reply>
  /** Writes at once what is asked for meanwhile: each write wakes the server, which may want this very core. */
  readonly gather: (commands: () => void) => void
  /** Runs a script by its hash; loads it where the server does not know it. For `attempt`. */
  readonly execute: <Input, Result>(script: Script<Input, Result>, input: Input) => Promise<Result>
  /** The same, and waits for replicas on this very connection. Rejects where the script does; then nothing was waited for. */
  readonly replicate: <Input, Result>(
    script: Script<Input, Result>,
    input: Input,
    replication: Replication
  ) => Promise<Replicated<Result>>
  /**
   * The same by the server whose connection this is at the moment, as `epoch` tells. Where another one serves the key by
   * now, nothing is done, and it rejects (`isElsewhere`): for what the new server has to be asked about before.
   */
  readonly here: Pick<Connection, "submit" | "execute">
  /** What a rejection of `submit` or `execute` means. Throws what is a bug. */
  readonly explain: (operation: string, error: unknown) => TransportErrors.TransportError
  /** Commands written from here as promises, with their failures classified. Interruption does not take back a command. */
  readonly attempt: <A>(operation: string, body: () => Promise<A>) => Effect.Effect<A, TransportErrors.TransportError>
  readonly command: (command: string, args: ReadonlyArray<Arg>) => Effect.Effect<Reply, TransportErrors.TransportError>
  readonly run: <Input, Result>(
    script: Script<Input, Result>,
    input: Input
  ) => Effect.Effect<Result, TransportErrors.TransportError>
  /** Whether a command would be written now. */
  readonly isReady: () => boolean
  /** Whether its scope is over, so that it will not be connected again. */
  readonly isClosed: () => boolean
  /** How often it was connected. */
  readonly epoch: () => number
  /** Why it is not connected, in an error. */
  readonly unavailable: (operation: string) => TransportErrors.TransportError
  /** Calls back after each connect, until the function that it returns is called. */
  readonly onReady: (listener: () => void) => () => void
  /** Calls back with the channel and the text of each message that it hears, for as long as the connection is used. */
  readonly onMessage: (listener: (channel: string, text: string) => void) => void
  /** Gives the connection up, and connects again. */
  readonly restart: () => void
}

export interface ConnectionOptions {
  /** Milliseconds without any reply, while one is due, after which the connection is given up. */
  readonly commandTimeout: number
}

/** One connection, with what a cluster needs beside. */
export interface Single extends Connection {
  /** `asking`: for a key of a slot that is being moved here. */
  readonly submit: (command: string, args: ReadonlyArray<Arg>, asking?: boolean) => Promise<Reply>
  readonly execute: <Input, Result>(script: Script<Input, Result>, input: Input, asking?: boolean) => Promise<Result>
  readonly replicate: <Input, Result>(
    script: Script<Input, Result>,
    input: Input,
    replication: Replication,
    asking?: boolean
  ) => Promise<Replicated<Result>>
  /** How many commands wait for a reply. */
  readonly waiting: () => number
  readonly close: Effect.Effect<void>
}

/** What every connection offers beyond its commands: how failures are told, and Effects. */
export const described = (
  self: Pick<Connection, "submit" | "execute" | "unavailable">
): Pick<Connection, "explain" | "attempt" | "command" | "run"> => {
  const explain = (operation: string, error: unknown): TransportErrors.TransportError => {
    if (error instanceof NotConnected) return self.unavailable(operation)
    if (error instanceof NotWritten && error.cause instanceof TransportErrors.TransportError) return error.cause
    if (error instanceof NotWritten && error.cause instanceof RangeError) return unwritable(operation, error.cause)
    if (error instanceof TransportErrors.TransportError) return error
    if (!(error instanceof CommandFailed)) throw error
    const known = failed(operation, error.cause)
    // neither the server's state nor its refusal: a bug here
    if (known === undefined) throw new Error(`${operation}: ${messageOf(error.cause)}`, { cause: error })
    return known
  }

  const attempt = <A>(operation: string, body: () => Promise<A>): Effect.Effect<A, TransportErrors.TransportError> =>
    Effect.callback((resume) => {
      body().then(
        (value) => resume(Effect.succeed(value)),
        (error: unknown) => resume(Effect.suspend(() => Effect.fail(explain(operation, error))))
      )
    })

  return {
    explain,
    attempt,
    command: (command, args) => attempt(command, () => self.submit(command, args)),
    run: (script, input) => attempt(script.name, () => self.execute(script, input))
  }
}

/** A connection that begins to connect when `connect` of its client is called. */
export const make = (native: Native, options: ConnectionOptions): Single => {
  const listeners = new Set<() => void>()
  let epoch = 0
  let attempts = 0
  let closing = false
  let lastError: unknown
  let waiting = 0
  let lastProgress = 0
  let watch: NodeJS.Timeout | undefined
  let again: NodeJS.Timeout | undefined
  let lastRestart = -Infinity
  let ended: (() => void) | undefined
  /** The longest that replicas were waited for: no reply is due while they are. */
  let allowance = 0

  const restart = () => {
    if (closing || native.status !== "ready") return
    lastRestart = performance.now()
    native.disconnect(true)
  }
  const judge = () => {
    watch = undefined
    if (waiting === 0 || closing) return
    const left = options.commandTimeout + allowance - (performance.now() - lastProgress)
    if (left <= 0) {
      lastError = new Error(`no reply within ${options.commandTimeout + allowance} ms`)
      restart()
    } else watch = setTimeout(check, timerOf(left))
  }
  // what came while the event loop was blocked is read first
  const check = () => void setImmediate(judge)
  const settled = () => {
    waiting -= 1
    lastProgress = performance.now()
  }
  const lost = (error: unknown): never => {
    settled()
    // a server that became a replica: another one may answer at this address
    if (replyCode(error) === "READONLY" && performance.now() - lastRestart > 5000) restart()
    throw new CommandFailed("command failed", { cause: error })
  }
  const replied = (reply: unknown): Reply => {
    settled()
    // a client that is asked for bytes gives these, and nothing else
    return reply as Reply
  }

  native.on("error", (error) => {
    lastError = error
  })
  native.on("ready", () => {
    epoch += 1
    attempts = 0
    lastError = undefined
    for (const listener of Array.from(listeners)) listener()
  })
  native.on("end", () => {
    if (closing) return ended?.()
    // a client that gave up, such as one whose sentinels were all down, is told to go on
    attempts += 1
    again = setTimeout(() => void native.connect().catch(() => {}), retryDelay(attempts))
  })

  const gather = (commands: () => void) => {
    const { stream } = native
    stream?.cork()
    try {
      commands()
    } finally {
      stream?.uncork()
    }
  }

  const submit = (command: string, args: ReadonlyArray<Arg>, asking = false): Promise<Reply> => {
    if (native.status !== "ready" || closing) return Promise.reject(new NotConnected())
    // it holds for the next command alone; what becomes of it shows in the reply to that
    if (asking) submit("ASKING", []).catch(() => {})
    let reply: Promise<unknown>
    try {
      reply = native.callBuffer(command, args.slice())
    } catch (cause) {
      return Promise.reject(new NotWritten("command not written", { cause }))
    }
    if (waiting === 0) lastProgress = performance.now()
    waiting += 1
    watch ??= setTimeout(check, timerOf(options.commandTimeout))
    return reply.then(replied, lost)
  }

  const execute = <Input, Result>(script: Script<Input, Result>, input: Input, asking = false): Promise<Result> => {
    const keys = script.keys(input)
    const args = Array.of<Arg>(script.sha, String(keys.length), ...keys).concat(script.args(input))
    return submit("EVALSHA", args, asking)
      .catch((error: unknown) => {
        if (codeOf(error) !== "NOSCRIPT") throw error
        // written together, so that scripts sent one after the other keep their order
        const loaded = submit("SCRIPT", ["LOAD", script.lua])
        const result = submit("EVALSHA", args, asking)
        // it may fail before anybody looks at it
        result.catch(() => {})
        return loaded.then(() => result)
      })
      .then((reply) => script.decode(reply, input))
  }

  const unavailable = (operation: string) => disconnected(operation, lastError)

  const replicate = async <Input, Result>(
    script: Script<Input, Result>,
    input: Input,
    wanted: Replication,
    asking = false
  ): Promise<Replicated<Result>> => {
    const began = epoch
    const result = await execute(script, input, asking)
    const unknown = (problem: string): Replicated<Result> => ({ result, confirmed: 0, problem })
    // on another connection WAIT knows nothing of these writes, and answers at once
    if (epoch !== began || native.status !== "ready") return unknown("the connection was lost")
    allowance = Math.max(allowance, wanted.within)
    return submit("WAIT", [`${wanted.replicas}`, `${wanted.within}`]).then(
      (reply): Replicated<Result> => ({ result, confirmed: Number(reply), problem: undefined }),
      (error: unknown) => unknown(error instanceof CommandFailed ? messageOf(error.cause) : messageOf(error))
    )
  }

  return {
    submit,
    gather,
    execute,
    replicate,
    here: { submit, execute },
    ...described({ submit, execute, unavailable }),
    waiting: () => waiting,
    isReady: () => native.status === "ready" && !closing,
    isClosed: () => closing,
    epoch: () => epoch,
    unavailable,
    onReady: (listener) => {
      listeners.add(listener)
      return () => void listeners.delete(listener)
    },
    onMessage: (listener) => void native.on("message", (channel, text) => listener(String(channel), String(text))),
    restart,
    close: Effect.callback<void>((resume) => {
      closing = true
      listeners.clear()
      clearTimeout(watch)
      clearTimeout(again)
      const status = native.status
      // a client that waits for its next attempt ends without a word
      if (status === "end") return resume(Effect.void)
      const patience = setTimeout(() => ended?.(), 1000)
      ended = () => {
        clearTimeout(patience)
        resume(Effect.void)
      }
      native.disconnect()
      if (status === "reconnecting" || status === "wait") return ended()
      return Effect.sync(() => clearTimeout(patience))
    })
  }
}

/** Opens a connection for the lifetime of the scope. It need not be there yet: `whenReady` waits. */
export const open = (
  options: ConnectionOptions & { readonly make: () => Native }
): Effect.Effect<Connection, never, Scope.Scope> =>
  Effect.map(
    Effect.acquireRelease(
      Effect.sync(() => {
        const native = options.make()
        const self = make(native, options)
        // a failure is told by "error" and tried again by the client
        native.connect().catch(() => {})
        return self
      }),
      (self) => self.close
    ),
    (self): Connection => self
  )

/** Waits until the connection stands. A refusal of the server ends the waiting, since only somebody can change it. */
export const whenReady = (self: Connection, operation: string): Effect.Effect<void, TransportErrors.TransportError> =>
  Effect.callback((resume) => {
    if (self.isReady()) return resume(Effect.void)
    const stop = self.onReady(() => done(Effect.void))
    const look = setInterval(() => {
      const error = self.unavailable(operation)
      if (error.reason._tag === "Refused") done(Effect.fail(error))
    }, 20)
    const done = (result: Effect.Effect<void, TransportErrors.TransportError>) => {
      stop()
      clearInterval(look)
      resume(result)
    }
    return Effect.sync(() => {
      stop()
      clearInterval(look)
    })
  })
