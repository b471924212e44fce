/**
 * A Redis of its own that holds so and so much, and what a call then costs it.
 *
 * What is measured is the time that the server spends in commands. A call that needs less of it than 5 ms has no command
 * that takes longer. The slow log, which tells each command, is read too; but a server that was not scheduled looks slow
 * there.
 */
import type { Consumer, Entry, FetchLimit, Group, Settlement } from "@clutch/core/Transport"
import { Transport } from "@clutch/core/Transport"
import { RedisKeys, RedisTransport } from "@clutch/redis"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import { Redis } from "ioredis"
import { type RedisServer, startRedis } from "../support/redis.ts"

const namespace = "growth"
export const group: Group = { topic: "orders", partition: 0, subscription: "billing" }
export const keys: RedisKeys.GroupKeys = RedisKeys.group(namespace, group)

/** 200 bytes of data, as JSON text. */
const text = JSON.stringify("x".repeat(198))

/** How many messages one call handles, where it handles many. */
export const batch = 100

/** Longer than this nothing of ours may keep the server from its other clients; microseconds. */
const slow = 5000

export interface Lab {
  readonly size: number
  readonly server: RedisServer
  readonly redis: Redis
  readonly transport: Transport["Service"]
  /** A transport that knows nothing of the group yet, for the lifetime of the lab. */
  readonly another: () => Promise<Transport["Service"]>
  readonly join: () => Promise<{ readonly consumer: Consumer; readonly leave: () => Promise<void> }>
  /** One member, for what needs one. */
  readonly consumer: Consumer
  readonly close: () => Promise<void>
}

const run = <A, E>(effect: Effect.Effect<A, E>): Promise<A> => Effect.runPromise(effect)

export const limit = (count: number): FetchLimit => ({
  count,
  bytes: 64 * 1024 * 1024,
  alone: false,
  maxAttempts: 1000
})

/** Starts a server, fills it, and joins. */
export const open = async (size: number, fill: (redis: Redis, size: number) => Promise<void>): Promise<Lab> => {
  const server = await startRedis({ args: ["--slowlog-log-slower-than", `${slow}`, "--slowlog-max-len", "10000"] })
  const redis = new Redis(server.port)
  const scope = Scope.makeUnsafe()
  const another = () =>
    run(
      Effect.map(
        Layer.buildWithScope(Layer.fresh(RedisTransport.layer({ url: server.url, namespace })), scope),
        Context.get(Transport)
      )
    )
  // the group is there before what it has not read
  const first = await another()
  const joinAs = async (transport: Transport["Service"]) => {
    const own = Scope.makeUnsafe()
    const consumer = await run(
      Scope.provide(
        transport.join({
          group,
          consumer: undefined,
          visibilityTimeout: Duration.hours(1),
          from: "beginning",
          ownConnection: false
        }),
        own
      )
    )
    consumer.keep()
    return { consumer, leave: () => run(Scope.close(own, Exit.void)) }
  }
  await (await joinAs(first)).leave()
  await fill(redis, size)
  const { consumer } = await joinAs(first)
  return {
    size,
    server,
    redis,
    transport: first,
    another,
    join: () => joinAs(first),
    consumer,
    close: async () => {
      redis.disconnect()
      // what is held by the hundred thousand need not be given back
      await server.kill()
      await run(Effect.timeoutOption(Scope.close(scope, Exit.void), 3000))
      await server.stop()
    }
  }
}

// -----------------------------------------------------------------------------
// moves
// -----------------------------------------------------------------------------

export const publish = (lab: Lab, count = batch): Promise<unknown> =>
  run(
    lab.transport.publish(group, [outgoing, ...Array.from({ length: count - 1 }, () => outgoing)], {
      maxLength: undefined,
      maxAge: undefined
    })
  )
const outgoing = { data: text, attributes: undefined }

export const fetch = async (lab: Lab, count = batch): Promise<ReadonlyArray<Entry>> => {
  const entries: Array<Entry> = []
  while (entries.length < count) {
    const fetched = await run(lab.consumer.fetch(limit(count - entries.length)))
    for (const entry of fetched.entries) entries.push(entry)
  }
  return entries
}

export const settle = async (
  lab: Lab,
  entries: ReadonlyArray<Entry>,
  outcome: Settlement["outcome"]
): Promise<void> => {
  const [first, ...rest] = entries.map((entry): Settlement => ({ entry, outcome, repeated: false }))
  if (first === undefined) return
  const answers = await run(lab.consumer.settle([first, ...rest]))
  const bad = answers.filter((one) => one !== "done" && !(typeof one === "object" && one._tag === "DeadLettered"))
  if (bad.length > 0) throw new Error(`${bad.length} were not settled: ${JSON.stringify(bad[0])}`)
}

// -----------------------------------------------------------------------------
// filling
// -----------------------------------------------------------------------------

/** Runs a script of the laboratory's own for 1 to `size`, in steps. */
const steps = async (redis: Redis, size: number, lua: string, keys: ReadonlyArray<string>, ...args: Array<string>) => {
  const step = 5000
  for (let from = 1; from <= size; from += step) {
    const to = Math.min(size, from + step - 1)
    await redis.eval(`for i = ${from}, ${to} do ${lua} end`, keys.length, ...keys, ...args)
  }
}

/** Entries that nobody has read. */
export const backlog = (redis: Redis, size: number): Promise<void> =>
  steps(redis, size, `redis.call("XADD", KEYS[1], "*", "data", ARGV[1])`, [keys.main], text)

/** Deliveries that a living consumer holds, of this program or another. */
export const pending = async (redis: Redis, size: number, consumer = "another"): Promise<void> => {
  await backlog(redis, size)
  await redis.hset(keys.state, `v:${consumer}`, "3600000", `h:${consumer}`, `${Date.now()}`)
  for (let taken = 0; taken < size; taken += 5000) {
    await redis.xreadgroup("GROUP", keys.mainGroup, consumer, "COUNT", 5000, "STREAMS", keys.main, ">")
  }
}

/** Deliveries that were given back, and wait for anybody. */
export const released = async (redis: Redis, size: number): Promise<void> => {
  await backlog(redis, size)
  for (let taken = 0; taken < size; taken += 5000) {
    await redis.eval(
      `local rows = redis.call("XREADGROUP", "GROUP", ARGV[1], "-released", "COUNT", 5000, "STREAMS", KEYS[1], ">")
       for _, row in ipairs(rows[1][2]) do
         redis.call("XCLAIM", KEYS[1], ARGV[1], "-released", 0, row[1], "IDLE", 86400000, "RETRYCOUNT", 0, "JUSTID")
       end`,
      1,
      keys.main,
      keys.mainGroup
    )
  }
}

const member = `4:data,200:${text},6:clutch,`
const due = (redis: Redis, size: number, score: string, original: string): Promise<void> =>
  steps(
    redis,
    size,
    `local clutch = '{"original":"' .. ARGV[2] .. i .. '","attempt":1,"cause":"no","first":1,"failed":1}'
     redis.call("ZADD", KEYS[1], ARGV[3] + i, ARGV[1] .. #clutch .. ":" .. clutch .. ",")`,
    [keys.due],
    member,
    original,
    score
  )

/** Retries whose time is far, of entries as old as can be. */
export const scheduled = (redis: Redis, size: number): Promise<void> =>
  due(redis, size, `${Date.now() + 86_400_000}`, "1-")

/** The same of entries that will be published, so that no one waits for them now. */
export const scheduledLater = (redis: Redis, size: number): Promise<void> =>
  due(redis, size, `${Date.now() + 86_400_000}`, "99999999999999-")

/** Retries whose time has come. */
export const overdue = (redis: Redis, size: number): Promise<void> => due(redis, size, "1", "1-")

/** Dead letters. */
export const letters = (redis: Redis, size: number): Promise<void> =>
  steps(
    redis,
    size,
    `redis.call("XADD", KEYS[1], "*", "data", ARGV[1], "clutch",
       '{"original":"1-' .. i .. '","reason":"exhausted","cause":"no","attempts":6,"first":1,"failed":1}')`,
    [keys.deadLetters],
    text
  )

// -----------------------------------------------------------------------------
// measuring
// -----------------------------------------------------------------------------

/** What is done before each call, and the call. */
export interface Operation<A = unknown, B = unknown> {
  readonly name: string
  readonly prepare: (lab: Lab) => Promise<A>
  readonly call: (lab: Lab, prepared: A) => Promise<B>
  /** What is to be undone behind it. */
  readonly after?: ((lab: Lab, prepared: A, result: B) => Promise<unknown>) | undefined
}

/**
 * Microseconds that the server has spent in commands other than these that ask. What a script runs counts with the script,
 * and once more. CPU time would have the server's waking for each command in it, which costs more than many a command, or
 * less, as the machine has it.
 */
const spent = async (redis: Redis): Promise<number> => {
  let sum = 0
  for (const [, command, micros] of (await redis.info("commandstats")).matchAll(/^cmdstat_([^:|]+).*?usec=(\d+)/gm)) {
    if (command !== "info" && command !== "slowlog") sum += Number(micros)
  }
  return sum
}

/** The server counts whole microseconds a command, so that what takes less is told by chance. */
const resolution = 20

/** What one call cost, in microseconds; and the longest single command that the slow log has. */
export interface Call {
  readonly cost: number
  readonly longest: number
}

export const once = async (lab: Lab, { after, call, prepare }: Operation): Promise<Call> => {
  const prepared = await prepare(lab)
  await lab.redis.slowlog("RESET")
  const before = await spent(lab.redis)
  const result = await call(lab, prepared)
  const cost = (await spent(lab.redis)) - before
  const log = (await lab.redis.slowlog("GET", 100)) as ReadonlyArray<readonly [number, number, number, unknown]>
  await after?.(lab, prepared, result)
  return { cost: Math.max(resolution, cost), longest: Math.max(0, ...log.map(([, , micros]) => micros)) }
}

/** The value below which this share of all lies. */
export const quantile = (values: ReadonlyArray<number>, share: number): number =>
  values.toSorted((a, b) => a - b)[Math.floor(values.length * share)] ?? Number.NaN
