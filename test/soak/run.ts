/**
 * Many messages with failures through two worker processes: memory, file descriptors and Redis keys do not grow, and
 * nothing is left behind.
 */
import { Subscription, Topic } from "@clutch/core"
import { RedisKeys, RedisTransport } from "@clutch/redis"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Option from "effect/Option"
import { Redis } from "ioredis"
import { type ChildProcess, spawn } from "node:child_process"
import { once } from "node:events"
import { readdirSync, readFileSync } from "node:fs"
import { join } from "node:path"
import { setTimeout as sleep } from "node:timers/promises"
import { fileURLToPath } from "node:url"
import { type RedisServer, startRedis } from "../support/redis.ts"
import { namespace, outcomeOf, type Question, type Sample, topicOf } from "./messages.ts"

/** What is in flight at most: published, and not done. */
const inFlight = 10_000
const batch = 500
const workers = 2

/** One look at everything that must not grow. */
export interface Look {
  readonly published: number
  readonly seconds: number
  /** By name: bytes, or a number of things. */
  readonly values: Readonly<Record<string, number>>
}

export interface Report {
  readonly looks: ReadonlyArray<Look>
  readonly messagesPerSecond: number
  readonly missing: number
  readonly repeated: number
  readonly deadLetters: { readonly expected: number; readonly found: number }
  /** What is left in Redis at the end: pending, waiting and due. */
  readonly left: { readonly pending: number; readonly due: number; readonly waiting: number | undefined }
}

const file = fileURLToPath(new URL("./worker.ts", import.meta.url))

/** A worker that can be asked, one question after the other. */
const start = (url: string, total: number) => {
  const child: ChildProcess = spawn(
    process.execPath,
    ["--expose-gc", "--conditions=@clutch/source", file, url, `${total}`],
    { stdio: ["ignore", "inherit", "inherit", "ipc"] }
  )
  const kill = () => void child.kill("SIGKILL")
  process.once("exit", kill)
  const ended = once(child, "exit").then(([code]: ReadonlyArray<unknown>) => {
    process.removeListener("exit", kill)
    return code
  })
  const died = ended.then(() => Promise.reject(new Error("a worker ended before its time")))
  // whoever asks is told
  died.catch(() => {})
  return {
    ask: async (question: Question): Promise<Sample> => {
      const answer = once(child, "message")
      child.send(question)
      const [sample] = (await Promise.race([answer, died])) as ReadonlyArray<Sample> // what worker.ts sends
      if (sample === undefined) throw new Error("a worker answers with nothing")
      return sample
    },
    stop: async () => {
      child.kill("SIGTERM")
      return ended
    },
    kill
  }
}
type Worker = ReturnType<typeof start>

const info = (text: string, field: string): number => Number(new RegExp(`^${field}:(\\d+)`, "m").exec(text)?.[1])

/** A set of retries is there while some are due later, and a mark until somebody hears it. */
const comesAndGoes = (() => {
  const { bell, due } = RedisKeys.group(namespace, { topic: topicOf().topic, partition: 0, subscription: "work" })
  return new Set([bell, due])
})()

const looking = async (all: ReadonlyArray<Worker>, redis: Redis, server: RedisServer): Promise<Look["values"]> => {
  const values: Record<string, number> = {}
  for (const [i, worker] of all.entries()) {
    const { files, heap, rss } = await worker.ask({ ask: "sample" })
    values[`worker ${i + 1}: resident memory`] = rss ?? Number.NaN
    values[`worker ${i + 1}: heap after a collection`] = heap ?? Number.NaN
    values[`worker ${i + 1}: file descriptors`] = files ?? Number.NaN
  }
  const memory = await redis.info("memory")
  values["redis: used memory"] = info(memory, "used_memory")
  values["redis: resident memory"] = info(memory, "used_memory_rss")
  values["redis: file descriptors"] = readdirSync(`/proc/${server.pid()}/fd`).length
  values["redis: keys"] = (await redis.keys("*")).filter((key) => !comesAndGoes.has(key)).length
  return values
}

export interface Options {
  readonly total: number
  /** How many looks there are, at even distances. */
  readonly looks: number
  readonly tell: (line: string) => void
}

export const soak = async ({ looks: count, tell, total }: Options): Promise<Report> => {
  const server = await startRedis()
  const redis = new Redis(server.port)
  const all = Array.from({ length: workers }, () => start(server.url, total))
  try {
    return await Effect.runPromise(
      Effect.provide(
        soaking({ all, count, redis, server, tell, total }),
        // each batch trims, and says so
        Layer.mergeAll(
          RedisTransport.layer({ url: server.url, namespace, connectionName: "soak-publisher" }),
          Logger.layer([])
        )
      )
    )
  } finally {
    for (const worker of all) worker.kill()
    redis.disconnect()
    await server.stop()
  }
}

const progress = async (all: ReadonlyArray<Worker>) => {
  const samples = await Promise.all(all.map((worker) => worker.ask({ ask: "progress" })))
  return samples.reduce((sum, { handled }) => sum + handled, 0)
}

const soaking = Effect.fnUntraced(function* (given: {
  readonly all: ReadonlyArray<Worker>
  readonly count: number
  readonly redis: Redis
  readonly server: RedisServer
  readonly tell: (line: string) => void
  readonly total: number
}) {
  const { all, count, redis, server, tell, total } = given
  const topic = topicOf()
  const subscription = Subscription.address("work", topic)
  const begun = performance.now()
  const seconds = () => (performance.now() - begun) / 1000
  const looks: Array<Look> = []
  const text = "x".repeat(100)
  let published = 0
  let dying = 0
  let done = 0

  while (published < total) {
    while (published - done > inFlight) {
      done = (yield* Effect.promise(() => progress(all))) + dying
      if (published - done > inFlight) yield* Effect.promise(() => sleep(5))
    }
    const size = Math.min(batch, total - published)
    const data = Array.from({ length: size }, (_, i) => ({ n: published + i, text }))
    for (const { n } of data) if (outcomeOf(n).dies) dying += 1
    const [first, ...rest] = data
    if (first === undefined) break
    yield* Topic.publishAll(topic, [first, ...rest])
    published += size
    if (published >= ((looks.length + 1) * total) / count) {
      const values = yield* Effect.promise(() => looking(all, redis, server))
      looks.push({ published, seconds: seconds(), values })
      const memory = Object.entries(values)
        .filter(([name]) => name.includes("resident"))
        .map(([name, bytes]) => `${name.replace(": resident memory", "")} ${(bytes / 1e6).toFixed(0)} MB`)
      tell(
        `${published.toLocaleString("en")} published, ${Math.round(published / seconds())} a second; ${memory.join(", ")}`
      )
    }
  }
  yield* Subscription.awaitIdle(subscription)
  const took = seconds()

  const files = all.map((_, i) => join(server.dir, `seen-${i}`))
  const last = yield* Effect.promise(() =>
    Promise.all(all.map((worker, i) => worker.ask({ ask: "dump", file: files[i] ?? "" })))
  )
  const { due, deadLetters, pending, waiting } = yield* Subscription.stats(subscription)
  const counted = count_(
    files.map((name) => readFileSync(name)),
    total
  )
  yield* Effect.promise(() => Promise.all(all.map((worker) => worker.stop())))
  return {
    looks,
    messagesPerSecond: total / took,
    missing: counted.missing,
    repeated: counted.both + last.reduce((sum, { repeated }) => sum + repeated, 0),
    deadLetters: { expected: dying, found: deadLetters },
    left: { pending, due, waiting: Option.getOrUndefined(waiting) }
  } satisfies Report
})

/** Messages that nobody has done, of those that succeed; and those that both workers have done. */
const count_ = ([one, two]: ReadonlyArray<Buffer>, total: number) => {
  let missing = 0
  let both = 0
  for (let n = 0; n < total; n++) {
    const bit = 1 << (n & 7)
    const first = ((one?.[n >> 3] ?? 0) & bit) !== 0
    const second = ((two?.[n >> 3] ?? 0) & bit) !== 0
    if (!first && !second && !outcomeOf(n).dies) missing += 1
    if (first && second) both += 1
  }
  return { missing, both }
}

/** How much each value has grown from the looks behind the warm-up to the last ones, as a share. */
export const growth = (
  looks: ReadonlyArray<Look>,
  warmUp: number
): ReadonlyMap<string, { readonly from: number; readonly to: number }> => {
  const warm = looks.slice(Math.floor(looks.length * warmUp))
  const part = Math.max(1, Math.floor(warm.length / 4))
  const names = Object.keys(warm[0]?.values ?? {})
  const middle = (some: ReadonlyArray<Look>, name: string) =>
    some.map(({ values }) => values[name] ?? Number.NaN).toSorted((a, b) => a - b)[Math.floor(some.length / 2)] ??
    Number.NaN
  return new Map(
    names.map((name) => [name, { from: middle(warm.slice(0, part), name), to: middle(warm.slice(-part), name) }])
  )
}
