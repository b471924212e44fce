/**
 * Private Redis servers for tests: each on a free port, in a temporary folder that goes when it stops.
 *
 * Only a server that was started here may be stopped, killed, flushed or filled.
 */
import { type ChildProcess, spawn } from "node:child_process"
import { once } from "node:events"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { connect, createServer } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { setTimeout as sleep } from "node:timers/promises"
import { redisBinaries } from "./ensure-redis.mjs"

export interface RedisServerOptions {
  /** Arguments for the server, such as `["--maxmemory", "4mb"]`. They come last, so they win over ours. */
  readonly args?: ReadonlyArray<string> | undefined
  /** Default: the first of `CLUTCH_REDIS_BINARIES`, else `redis-server` on the PATH. */
  readonly binary?: string | undefined
  /** Default: a free one. */
  readonly port?: number | undefined
  /** Added to its environment. */
  readonly env?: Readonly<Record<string, string>> | undefined
  /** Lines of a configuration that make it a sentinel; it writes its own below them. */
  readonly sentinel?: ReadonlyArray<string> | undefined
}

export interface RedisServer {
  readonly url: string
  readonly port: number
  /** Its working folder, where `dump.rdb` and append-only files go. */
  readonly dir: string
  /** The running process's id; it changes with a restart. */
  readonly pid: () => number
  readonly isRunning: () => boolean
  /** Ends it (SIGTERM) and removes its folder. */
  readonly stop: () => Promise<void>
  /** Ends it at once (SIGKILL), keeping port and folder for `restart`. */
  readonly kill: () => Promise<void>
  /** Starts it again on the same port and folder; ends it by SIGTERM first where it still runs. `args` replace the first ones. */
  readonly restart: (args?: ReadonlyArray<string>) => Promise<void>
}

/** The server binary to start: the first of `CLUTCH_REDIS_BINARIES`, else the one on the PATH. */
export const redisBinary = (): string => {
  const [binary] = redisBinaries()
  if (binary === undefined) throw new Error("redis-server is missing: run `node test/support/ensure-redis.mjs`")
  return binary
}

/** A port that nothing listens on right now. */
export const freePort = async (): Promise<number> => {
  const server = createServer().listen(0, "127.0.0.1")
  await once(server, "listening")
  const address = server.address()
  server.close()
  await once(server, "close")
  if (address === null || typeof address === "string") throw new Error("a TCP server has no port")
  return address.port
}

/** Sends one inline command on a connection of its own; the first line of the reply. */
export const rawCommand = (port: number, command: string): Promise<string> =>
  new Promise((resolve, reject) => {
    let reply = ""
    const socket = connect(port, "127.0.0.1", () => socket.write(`${command}\r\n`))
    socket.setTimeout(1000, () => socket.destroy(new Error(`no reply to ${command} within a second`)))
    socket.on("data", (chunk) => {
      reply += chunk.toString("latin1")
      const end = reply.indexOf("\r\n")
      if (end < 0) return
      resolve(reply.slice(0, end))
      socket.destroy()
    })
    socket.on("error", reject)
    socket.on("close", () => reject(new Error(`closed before a reply to ${command}`)))
  })

// a test run that dies must leave neither a server nor its folder behind
const running = new Set<ChildProcess>()
const folders = new Set<string>()
const killAll = () => {
  for (const child of running) child.kill("SIGKILL")
  for (const folder of folders) rmSync(folder, { recursive: true, force: true })
}
process.on("exit", killAll)
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
  process.once(signal, () => {
    killAll()
    // as if nobody had listened, unless somebody else does
    if (process.listenerCount(signal) === 0) process.kill(process.pid, signal)
  })
}

/** Resolves when the server answers commands; a server that asks for a password does answer. */
const untilReady = async (port: number, child: ChildProcess, log: () => string): Promise<void> => {
  const deadline = Date.now() + 20_000
  while (Date.now() < deadline) {
    if (child.exitCode !== null || child.signalCode !== null) throw new Error(`redis-server ended:\n${log()}`)
    const reply = await rawCommand(port, "PING").catch(() => "")
    if (reply === "+PONG" || reply.startsWith("-NOAUTH") || reply.startsWith("-DENIED")) return
    await sleep(20)
  }
  throw new Error(`redis-server did not become ready in 20 seconds:\n${log()}`)
}

const end = async (child: ChildProcess, signal: "SIGTERM" | "SIGKILL"): Promise<void> => {
  if (child.exitCode !== null || child.signalCode !== null) return
  const exited = once(child, "exit")
  // a server that a test has stopped with SIGSTOP would never see SIGTERM
  child.kill("SIGCONT")
  child.kill(signal)
  const hung = setTimeout(() => child.kill("SIGKILL"), 5000)
  await exited
  clearTimeout(hung)
}

/** Starts a server and waits until it answers. It ends with the test process at the latest. */
export const startRedis = async (options: RedisServerOptions = {}): Promise<RedisServer> => {
  const binary = options.binary ?? redisBinary()
  const dir = mkdtempSync(join(tmpdir(), "clutch-redis-"))
  folders.add(dir)
  let args = options.args ?? []
  const configuration: Array<string> = []
  if (options.sentinel !== undefined) {
    const file = join(dir, "sentinel.conf")
    writeFileSync(file, `${options.sentinel.join("\n")}\n`)
    configuration.push(file)
  }
  let child: ChildProcess

  const launch = async (port: number): Promise<void> => {
    const base = ["--port", `${port}`, "--bind", "127.0.0.1", "--dir", dir]
    const ours =
      options.sentinel === undefined ? [...base, "--save", "", "--appendonly", "no"] : [...base, "--sentinel"]
    let log = ""
    child = spawn(binary, [...configuration, ...ours, ...args], {
      stdio: ["ignore", "pipe", "pipe"],
      cwd: dir,
      env: { ...process.env, ...options.env }
    })
    const current = child
    const keep = (chunk: Buffer) => {
      log = (log + chunk.toString()).slice(-4000)
    }
    child.stdout?.on("data", keep)
    child.stderr?.on("data", keep)
    child.on("error", (error) => keep(Buffer.from(String(error))))
    running.add(current)
    child.on("exit", () => running.delete(current))
    await untilReady(port, current, () => log)
  }

  // another process may take the free port before our server does: try again with the next one
  let port = options.port ?? (await freePort())
  for (let attempt = 1; ; attempt++) {
    try {
      await launch(port)
      break
    } catch (error) {
      if (options.port !== undefined || attempt === 3 || !String(error).includes("in use")) throw error
      port = await freePort()
    }
  }

  return {
    url: `redis://127.0.0.1:${port}`,
    port,
    dir,
    pid: () => child.pid ?? -1,
    isRunning: () => running.has(child),
    stop: async () => {
      await end(child, "SIGTERM")
      rmSync(dir, { recursive: true, force: true })
      folders.delete(dir)
    },
    kill: () => end(child, "SIGKILL"),
    restart: async (newArgs) => {
      await end(child, "SIGTERM")
      if (newArgs !== undefined) args = newArgs
      await launch(port)
    }
  }
}
