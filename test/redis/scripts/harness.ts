/** A private server, and scripts run on it as a client would: what the tests of the scripts share. */
import type { Arg, Reply, Script } from "@clutch/redis/Script"
import * as RedisKeys from "@clutch/redis/RedisKeys"
import * as Scripts from "@clutch/redis/Scripts"
import * as Codec from "@clutch/redis/Codec"
import * as Result from "effect/Result"
import { Redis } from "ioredis"
import { afterAll, beforeAll, beforeEach } from "vitest"
import { startRedis, type RedisServer } from "../../support/redis.ts"

export const keys = RedisKeys.group("clutch", { topic: "orders", partition: 0, subscription: "billing" })

let server: RedisServer
/** The connection of the running test file. */
export let redis: Redis

/** Starts a server for the calling file, and empties it before each test. It is ours alone, so it may be flushed. */
export const useServer = (): void => {
  beforeAll(async () => {
    server = await startRedis()
    redis = new Redis(server.port, { maxRetriesPerRequest: 1 })
    redis.on("error", () => {})
  })
  beforeEach(async () => {
    await redis.config("SET", "maxmemory", "0")
    await redis.config("SET", "maxmemory-policy", "noeviction")
    await redis.flushall()
  })
  afterAll(async () => {
    redis.disconnect()
    await server.stop()
  })
}

export const run = async <Input, Result>(script: Script<Input, Result>, input: Input): Promise<Result> => {
  const keys = script.keys(input)
  const args: ReadonlyArray<Arg> = script.args(input)
  // ioredis says `unknown`; a script's reply has these shapes only
  const reply = (await redis.callBuffer("EVAL", script.lua, keys.length, ...keys, ...args)) as Reply
  return script.decode(reply, input)
}

/** Runs the script, and gives the server's error; fails where there is none. */
export const refused = async <Input, Result>(script: Script<Input, Result>, input: Input): Promise<string> => {
  const result = await run(script, input).then(
    (value) => value,
    (error: unknown) => (error instanceof Error ? error : new Error(String(error)))
  )
  if (result instanceof Error) return result.message
  throw new Error(`${script.name} was not refused: ${JSON.stringify(result)}`)
}

/** Everything that the server holds, but for what time alone changes (idle times): to show that nothing has changed. */
export const everything = async (): Promise<ReadonlyArray<string>> => {
  const lines: Array<string> = []
  for (const key of (await redis.keys("*")).toSorted()) {
    const type = await redis.type(key)
    // marks of messages that nobody heard, which go by themselves
    if (type === "string" && (key === keys.bell || key === keys.owners)) continue
    lines.push(`${key} ${type} ${(await redis.dumpBuffer(key))?.length}`)
    if (type === "string") lines.push(`  ${await redis.get(key)}`)
    if (type === "hash")
      lines.push(
        `  ${JSON.stringify(Object.entries(await redis.hgetall(key)).toSorted(([a], [b]) => (a < b ? -1 : 1)))}`
      )
    if (type === "zset") lines.push(`  ${(await scored(key)).map(String).join(" ")}`)
    if (type === "stream") {
      lines.push(`  ${JSON.stringify(await redis.xrange(key, "-", "+"))}`)
      for (const group of await groups(key)) {
        lines.push(`  ${JSON.stringify(group)} ${JSON.stringify(await pending(key, String(group["name"])))}`)
        lines.push(
          `  ${JSON.stringify((await consumers(key, String(group["name"]))).map((_) => [_["name"], _["pending"]]))}`
        )
      }
    }
  }
  return lines
}

/** Members of a sorted set, each followed by its score. */
export const scored = async (key: string): Promise<ReadonlyArray<Buffer>> => {
  // pairs or a flat list, by the protocol's version, and `unknown` to ioredis
  const reply = (await redis.callBuffer("ZRANGE", key, 0, -1, "WITHSCORES")) as ReadonlyArray<Reply>
  return reply.flat().map((part) => (Buffer.isBuffer(part) ? part : Buffer.from(String(part))))
}

type Info = Readonly<Record<string, string | number | null>>

const records = (rows: unknown): ReadonlyArray<Info> =>
  // XINFO answers flat lists of names and values
  (rows as ReadonlyArray<ReadonlyArray<string | number | null>>).map((row) =>
    Object.fromEntries(row.flatMap((name, i) => (i % 2 === 0 ? [[String(name), row[i + 1] ?? null]] : [])))
  )

export const groups = async (stream: string): Promise<ReadonlyArray<Info>> =>
  (await redis.exists(stream)) === 0 ? [] : records(await redis.xinfo("GROUPS", stream))

export const consumers = async (stream: string, group: string): Promise<ReadonlyArray<Info>> =>
  records(await redis.xinfo("CONSUMERS", stream, group))

/** How often it was delivered, of a delivery count that has its givings back at no cost in millions. */
export const delivered = (count: number): number => count % 1_000_000

/** `[id, consumer, how often it was delivered]` of each pending entry. */
export const pending = async (
  stream: string,
  group: string
): Promise<ReadonlyArray<readonly [id: string, consumer: string, count: number]>> => {
  const rows = (await redis.xpending(stream, group, "-", "+", 10_000)) as ReadonlyArray<
    [string, string, number, number]
  >
  return rows.map(([id, consumer, , count]) => [id, consumer, delivered(count)] as const)
}

/** What a bell told while `effect` ran, each once; nothing where it was not rung. */
export const told = async (effect: () => Promise<unknown>, bell: string = keys.bell): Promise<string | null> => {
  await redis.del(bell)
  await effect()
  return redis.get(bell)
}

/** Whether the bell was rung while `effect` ran. */
export const rung = async (effect: () => Promise<unknown>): Promise<boolean> => (await told(effect)) !== null

export const member = (consumer: string, nonce = `nonce-of-${consumer}`): Scripts.Member => ({ keys, consumer, nonce })

export const join = (consumer: string, options: Partial<Scripts.Join> = {}): Promise<Scripts.Joined> =>
  run(Scripts.join, { ...member(consumer), visibilityTimeout: 30_000, from: "beginning", mode: "first", ...options })

/** Entries `1-0`, `2-0`, … on the main stream. */
export const add = async (n: number, stream: string = keys.main): Promise<ReadonlyArray<string>> => {
  const ids: Array<string> = []
  for (let i = 1; i <= n; i++) ids.push((await redis.xadd(stream, `${i}-0`, "data", `{"n":${i}}`)) ?? "")
  return ids
}

/** Entries on the retry stream, written before their attempt `attempt + 1`. */
export const addRetry = async (attempt: number, ...ids: ReadonlyArray<string>): Promise<void> => {
  for (const id of ids) {
    await redis.xadd(keys.retry, id, "data", "{}", "clutch", JSON.stringify({ original: `1${id}`, attempt, first: 5 }))
  }
}

/** Reads as a consumer does; the ids. */
export const read = async (consumer: string, count = 100, origin: "main" | "retry" = "main") => {
  const group = origin === "main" ? keys.mainGroup : keys.retryGroup
  const reply = (await redis.xreadgroup(
    "GROUP",
    group,
    consumer,
    "COUNT",
    count,
    "STREAMS",
    keys[origin],
    ">"
  )) as ReadonlyArray<[string, ReadonlyArray<[string, ReadonlyArray<string>]>]> | null
  return reply?.[0]?.[1].map(([id]) => id) ?? []
}

/** Makes entries look as if nobody had touched them for this long. */
export const idle = async (origin: "main" | "retry", consumer: string, ms: number, ...ids: ReadonlyArray<string>) => {
  const group = origin === "main" ? keys.mainGroup : keys.retryGroup
  for (const id of ids) await redis.xclaim(keys[origin], group, consumer, 0, id, "IDLE", ms, "JUSTID")
}

export const held = (ids: ReadonlyArray<string>, count = 1): Scripts.Settle["held"] => {
  const [first, ...rest] = ids.map((id) => ({ id, count }))
  if (first === undefined) throw new Error("no ids")
  return [first, ...rest]
}

const data = (text: string): Codec.Fields => [Buffer.from("data"), Buffer.from(text)]

export const retry = (id: string, delay: number, options: Partial<Scripts.Failure> = {}): Scripts.Failure => ({
  id,
  count: 1,
  to: { retry: delay },
  first: 1234,
  meta: Codec.openRetry("main", data(`{"of":"${id}"}`), { original: id, attempt: 1, cause: "no", redriven: undefined }),
  ...options
})

export const dead = (id: string, options: Partial<Scripts.Failure> = {}): Scripts.Failure => ({
  id,
  count: 1,
  to: "deadLetters",
  first: 1234,
  meta: Codec.openDead("main", data(`{"of":"${id}"}`), {
    original: id,
    reason: "exhausted",
    cause: 'said "no"',
    attempts: 6,
    from: keys.main,
    redriven: undefined
  }),
  ...options
})

// -----------------------------------------------------------------------------
// order by key
// -----------------------------------------------------------------------------

/** The nonce of a claim by this consumer, and a member's proof of it. */
export const claimed = (consumer: string, nonce = `claim-of-${consumer}`): Scripts.Member => ({ keys, consumer, nonce })

/** Claims until nothing is left to be taken. */
export const claim = async (consumer: string, nonce?: string): Promise<Scripts.Claimed> => {
  for (;;) {
    const answer = await run(Scripts.claim, claimed(consumer, nonce))
    if (typeof answer === "string" || !answer.more) return answer
  }
}

export const draw = (consumer: string, options: Partial<Scripts.Draw> = {}) =>
  run(Scripts.draw, {
    ...claimed(consumer),
    count: 100,
    bytes: 1e6,
    alone: false,
    maxAttempts: 6,
    retries: 100,
    mains: 100,
    ...options
  })

const idsOf = (rows: ReadonlyArray<Reply>) => rows.map((row) => String(Array.isArray(row) ? row[0] : ""))

/** The ids that were drawn, in order, by where they came from. */
export const drawn = async (consumer: string, options: Partial<Scripts.Draw> = {}) => {
  const answer = await draw(consumer, options)
  if (typeof answer === "string") throw new Error(`the log is ${answer}`)
  const { given, unread } = answer
  return {
    given: [...idsOf(given.main), ...idsOf(given.retry).map((id) => `retry ${id}`)],
    unread: [...idsOf(unread.retry).map((id) => `retry ${id}`), ...idsOf(unread.main)],
    suspects: answer.suspects
  }
}

const keyedMeta = (id: string, key: string | null, attempt: number) =>
  Codec.openRetry("main", data(`{"of":"${id}"}`), {
    original: id,
    attempt,
    cause: undefined,
    redriven: undefined,
    key: key ?? undefined
  })

export const park = (id: string, key: string | null = "k"): Scripts.Move => ({
  to: "park",
  meta: keyedMeta(id, key, 0)
})

export const orderedRetry = (id: string, delay: number, key: string | null = "k", attempt = 1): Scripts.Move => ({
  to: "retry",
  delay,
  meta: keyedMeta(id, key, attempt)
})

export const orderedDead = (id: string): Scripts.Move => ({ to: "dead", meta: dead(id).meta })

export const ordered = (id: string, move: Scripts.Move, options: Partial<Scripts.Ordered> = {}): Scripts.Ordered => ({
  id,
  count: 1,
  origin: "main",
  move,
  key: "k",
  original: id,
  first: 1234,
  ...options
})

export const order = (consumer: string, items: ReadonlyArray<Scripts.Ordered>, acks: ReadonlyArray<string> = []) =>
  run(Scripts.order, { ...claimed(consumer), acks, items })

/** What each was found to be; fails where something was not stored. */
export const settled = async (consumer: string, ...items: ReadonlyArray<Scripts.Ordered>) => {
  const answer = await order(consumer, items)
  if (answer.problem !== undefined) throw new Error(answer.problem)
  return answer.found.map((one) => (typeof one === "string" ? one : one.freed ? "dead, freed" : "dead"))
}

/** The keys that are held back, each with the ms of what holds it back. */
export const blocked = async (): Promise<ReadonlyArray<string>> => (await scored(keys.blocked)).map(String)

/** The parked messages: their keys and the ids in their topic. */
export const parked = async (): Promise<ReadonlyArray<string>> =>
  (await redis.zrange(keys.parked, "0", "-1")).map((member) => {
    const [key = "", id = ""] = member.split(":")
    const part = (digits: string) => BigInt(`0x${digits}`).toString()
    const [ms = "", seq = ""] = id.split("-")
    return `${Buffer.from(key, "hex").toString()} ${part(ms)}-${part(seq)}`
  })

/** Entries of the retry stream: original id, attempts made, key. */
export const fronts = async (): Promise<ReadonlyArray<string>> =>
  (await redis.xrangeBuffer(keys.retry, "-", "+")).map(([, fields]) => {
    const meta = Result.getOrThrow(Codec.retryMeta(fields))
    return `${meta.original} ${meta.attempt} ${meta.key}`
  })

/** Lets the server refuse whatever needs memory. */
export const fillMemory = async (): Promise<void> => {
  await redis.set("ballast", Buffer.alloc(100_000))
  await redis.config("SET", "maxmemory", "1")
  await redis.set("more", "x").then(
    () => Promise.reject(new Error("memory is not full")),
    () => {}
  )
}

/** Fields of each entry of a stream. */
export const entries = async (
  stream: string
): Promise<ReadonlyArray<readonly [string, Readonly<Record<string, string>>]>> =>
  (await redis.xrange(stream, "-", "+")).map(([id, fields]) => [
    id,
    Object.fromEntries(fields.flatMap((name, i) => (i % 2 === 0 ? [[name, fields[i + 1] ?? ""]] : [])))
  ])

export const now = async (): Promise<number> => {
  const [seconds, micros] = await redis.time()
  return Number(seconds) * 1000 + Math.floor(Number(micros) / 1000)
}

/** The state hash's fields that begin so. */
export const state = async (prefix = ""): Promise<Readonly<Record<string, string>>> =>
  Object.fromEntries(Object.entries(await redis.hgetall(keys.state)).filter(([name]) => name.startsWith(prefix)))
