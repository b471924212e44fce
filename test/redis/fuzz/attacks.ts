/**
 * What somebody may do to the keys of a log by mistake: write bytes that mean nothing, put a value of another type in a
 * key's place, tamper with pending lists.
 *
 * The keys are found in `RedisKeys`, so that one that is added there is attacked too.
 */
import * as RedisKeys from "@clutch/redis/RedisKeys"
import type { Group } from "@clutch/core/Transport"
import * as Schema from "effect/Schema"
import type { Redis } from "ioredis"

// -----------------------------------------------------------------------------
// keys
// -----------------------------------------------------------------------------

export const namespace = "fuzz"

export const keysOf = (group: Group): ReadonlyMap<string, string> => {
  const keys = { ...RedisKeys.group(namespace, group), meta: RedisKeys.topic(namespace, group.topic).meta }
  // the others are names of consumer groups
  return new Map(Object.entries(keys).filter(([, key]) => key.startsWith(`${namespace}.`)))
}

const names = [...keysOf({ topic: "t", partition: 0, subscription: "s" }).keys()]

export const kinds = ["stream", "zset", "hash", "string", "list", "set"] as const
export type Kind = (typeof kinds)[number]

const sortedSets: ReadonlyArray<string> = ["due", "blocked", "parked"]
const hashes: ReadonlyArray<string> = ["state", "groups", "meta"]
const strings: ReadonlyArray<string> = ["bell", "owners"]

/** What a key holds where it is as it should be; what is not named is a stream. */
export const kindOf = (name: string): Kind =>
  sortedSets.includes(name) ? "zset" : hashes.includes(name) ? "hash" : strings.includes(name) ? "string" : "stream"

/** The kinds of topic: some have a use for keys that the others leave alone. */
export const topics = ["plain", "acknowledged", "keyed", "partitioned"] as const
export type Topics = (typeof topics)[number]

export const isOrdered = (topic: Topics): boolean => topic === "keyed" || topic === "partitioned"

/** What a subscription to such a topic has no use for while it runs. */
export const unused = (topic: Topics): ReadonlyArray<string> => [
  "meta",
  ...(topic === "acknowledged" ? [] : ["groups"]),
  ...(isOrdered(topic) ? [] : ["blocked", "parked", "owners"])
]

// -----------------------------------------------------------------------------
// bytes, from a number: a case stays small to print, and is the same when it is played again
// -----------------------------------------------------------------------------

/** A stream of numbers below 2^32 (xorshift). */
const numbers = (seed: number) => {
  let x = (seed ^ 0x9e3779b9) >>> 0 || 1
  return (): number => {
    x ^= x << 13
    x ^= x >>> 17
    x ^= x << 5
    x >>>= 0
    return x
  }
}
type Numbers = ReturnType<typeof numbers>

const pick = <A>(next: Numbers, list: ReadonlyArray<A>): A => {
  const found = list[next() % list.length]
  if (found === undefined) throw new Error("nothing to pick from")
  return found
}

const bytes = (next: Numbers): Buffer => Buffer.from(Array.from({ length: next() % 40 }, () => next() % 256))

const odd: ReadonlyArray<string> = [
  "",
  "0",
  "-1",
  "nan",
  "inf",
  "1e308",
  "-1e308",
  "1e15",
  "9007199254740993",
  "18446744073709551616",
  "0x7f",
  "0-0",
  "0000-00",
  "18446744073709551615-18446744073709551615",
  "99999999999999999999999999-1",
  "null",
  "true",
  "[]",
  "{}",
  '""',
  '"\\ud800"',
  "[".repeat(2000),
  '{"__proto__":{"x":1}}',
  "\u0000",
  "%s%n{}",
  "x".repeat(70_000)
]

const values: ReadonlyArray<unknown> = [
  null,
  true,
  0,
  -1,
  0.5,
  1e300,
  -1e300,
  8.64e15 + 1,
  2 ** 53,
  "",
  "text",
  "1-1",
  "18446744073709551615-18446744073709551615",
  [],
  [1],
  {},
  { attempt: 1 }
]

/** A JSON object of these names, with values of any type; sometimes one that is right but for one of them. */
const object = (next: Numbers, right: Readonly<Record<string, unknown>>): string => {
  const keys = Object.keys(right)
  const wrong = pick(next, keys)
  const all = next() % 3 === 0
  return JSON.stringify(
    Object.fromEntries(keys.map((key) => [key, all || key === wrong ? pick(next, values) : right[key]]))
  )
}

const retryMeta = { original: "1-1", attempt: 1, first: 5, failed: 6, cause: "no", redriven: "2-2" }
const deadMeta = { original: "1-1", reason: "exhausted", cause: "no", attempts: 3, from: "x", first: 5, failed: 6 }
const attributes = {
  id: "a",
  source: "s",
  subject: "t",
  time: "2026-01-01T00:00:00Z",
  type: "y",
  traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
  tracestate: "a=b",
  partitionkey: "k",
  headers: { a: "b" }
}

const value = (next: Numbers): string | Buffer => {
  switch (next() % 6) {
    case 0:
      return bytes(next)
    case 1:
      return pick(next, odd)
    case 2:
      return object(next, retryMeta)
    case 3:
      return object(next, deadMeta)
    case 4:
      return object(next, attributes)
    default:
      return JSON.stringify(pick(next, values))
  }
}

/** Fields of an entry: at least one; often those that mean something, sometimes one of them twice, or many. */
const fields = (next: Numbers): ReadonlyArray<string | Buffer> => {
  if (next() % 12 === 0) return Array.from({ length: 9000 }, (_, i) => `${i}`)
  const list: Array<string | Buffer> = []
  if (next() % 2 === 0) list.push("data", next() % 2 === 0 ? '"spoilt"' : value(next))
  if (next() % 3 > 0)
    list.push("clutch", next() % 3 === 0 ? value(next) : object(next, pick(next, [retryMeta, deadMeta])))
  if (next() % 3 === 0) list.push("ce", next() % 2 === 0 ? value(next) : object(next, attributes))
  if (list.length === 0 || next() % 4 === 0) list.push(pick(next, ["data", "clutch", "ce", "", "x"]), value(next))
  if (next() % 5 === 0) list.push(bytes(next), value(next))
  return list
}

const netstrings = (parts: ReadonlyArray<string | Buffer>): Buffer =>
  Buffer.concat(
    parts.flatMap((part) => {
      const text = typeof part === "string" ? Buffer.from(part) : part
      return [Buffer.from(`${text.length}:`), text, Buffer.from(",")]
    })
  )

/** A member of the due set: netstrings of some fields, or those broken, or something else. */
const member = (next: Numbers): Buffer => {
  const whole = netstrings(fields(next))
  switch (next() % 5) {
    case 0:
      return bytes(next)
    case 1:
      return whole.subarray(0, next() % whole.length)
    case 2:
      return Buffer.concat([Buffer.from("00"), whole])
    case 3:
      return Buffer.from(pick(next, ["4294967296:x,", "-1:,", "1:a,", ":,", "99999999999:", "1:,1:,", "0:,0:,"]))
    default:
      return whole
  }
}

/** A member of the parked set: as those of the due set, mostly behind a key that is in use, and an id. */
const parkedMember = (next: Numbers): Buffer => {
  if (next() % 4 === 0) return member(next)
  const key = Buffer.from(pick(next, ["plain", "once", "never", "spoilt"])).toString("hex")
  const id = pick(next, [`${"0".repeat(15)}1-${"0".repeat(15)}1`, "0".repeat(33), "x".repeat(33), "-", ""])
  return Buffer.concat([Buffer.from(`${key}:${id}:`), member(next)])
}

/** A key that is held back. */
const blockedMember = (next: Numbers): Buffer | string => (next() % 2 === 0 ? bytes(next) : pick(next, odd))

const scores = ["-inf", "-1e300", "-1", "0", "1", "0.5", "inf", "1e300", "1e18", "9007199254740993"]

// -----------------------------------------------------------------------------
// attacks
// -----------------------------------------------------------------------------

const seed = Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 2 ** 31 }))
const key = Schema.Literals(names)

/** Something of the right type, which means nothing. */
export const Garbage = Schema.TaggedStruct("Garbage", { key, seed })
/** Moves in a pending list that no consumer of ours makes. */
export const Tampering = Schema.TaggedStruct("Tampering", {
  key: Schema.Literals(["main", "retry"]),
  how: Schema.Literals(["claims", "acks", "adds a consumer", "sets the group back", "destroys the group", "deletes"]),
  seed
})
export const Attack = Schema.Union([Garbage, Garbage, Garbage, Tampering])
export type Attack = typeof Attack.Type

/** A value of another type in a key's place, or a stream that can have no further entry. Deleting the key repairs it. */
export const Wrong = Schema.Struct({ key, kind: Schema.Literals([...kinds, "full"]) })
export type Wrong = typeof Wrong.Type

/** Whether there is such a thing: a key of its own type is right, unless it is full. */
export const isWrong = ({ key, kind }: Wrong): boolean =>
  kind === "full" ? kindOf(key) === "stream" : kindOf(key) !== kind

const last = "18446744073709551615"

const group = (keys: RedisKeys.GroupKeys, name: "main" | "retry") =>
  name === "main" ? keys.mainGroup : keys.retryGroup

const garbage = async (redis: Redis, name: string, key: string, next: Numbers): Promise<void> => {
  switch (kindOf(name)) {
    case "zset": {
      // some are due now, and are then moved, and some are never
      const soon = `${Date.now() - 50 + (next() % 200)}`
      const what = name === "blocked" ? blockedMember : name === "parked" ? parkedMember : member
      await redis.call("ZADD", key, next() % 3 === 0 ? pick(next, scores) : soon, what(next))
      return
    }
    case "hash": {
      // a fence that is no number is told, and stops its log until somebody mends it
      const known = (await redis.hkeys(key)).filter((field) => field !== "fence")
      const field =
        next() % 3 > 0 && known.length > 0
          ? pick(next, known)
          : pick(next, ["position", "", "v:", "n:", "h:x", bytes(next)])
      await redis.call("HSET", key, field, value(next))
      return
    }
    case "string": {
      // silence, and no error: what is not rung for is found by looking, some seconds later
      await redis.call("SET", key, next() % 2 === 0 ? "new given due" : value(next))
      return
    }
    default: {
      await redis.call("XADD", key, "*", ...fields(next))
    }
  }
}

const ids = async (redis: Redis, key: string): Promise<ReadonlyArray<string>> =>
  (await redis.xrevrange(key, "+", "-", "COUNT", 5)).map(([id]) => id)

const tamper = async (
  redis: Redis,
  keys: RedisKeys.GroupKeys,
  { how, key: name, seed }: typeof Tampering.Type
): Promise<void> => {
  const next = numbers(seed)
  const key = keys[name]
  const some = await ids(redis, key)
  switch (how) {
    case "claims": {
      const count = pick(next, ["0", "1", "2", "1000000000"])
      // for long enough that nobody waits for a consumer that there is not
      const idle = "86400000"
      const who = next() % 2 === 0 ? "-released" : bytes(next)
      for (const id of some) {
        await redis.call("XCLAIM", key, group(keys, name), who, 0, id, "IDLE", idle, "RETRYCOUNT", count, "FORCE")
      }
      return
    }
    case "acks":
      return void (some.length > 0 && (await redis.xack(key, group(keys, name), ...some)))
    case "deletes":
      return void (some.length > 0 && (await redis.xdel(key, ...some)))
    case "adds a consumer":
      return void (await redis.call("XGROUP", "CREATECONSUMER", key, group(keys, name), bytes(next)))
    case "sets the group back":
      return void (await redis.call("XGROUP", "SETID", key, group(keys, name), "0"))
    case "destroys the group":
      return void (await redis.call("XGROUP", "DESTROY", key, group(keys, name)))
  }
}

/** What the server refuses of an attack never happened: the group may be gone by an attack before it. */
const refusedToo = (error: unknown): void => {
  if (!(error instanceof Error) || error.name !== "ReplyError") throw error
}

export const attack = (redis: Redis, at: Group, one: Attack): Promise<void> => {
  const keys = RedisKeys.group(namespace, at)
  return (
    one._tag === "Tampering"
      ? tamper(redis, keys, one)
      : garbage(redis, one.key, keysOf(at).get(one.key) ?? keys.main, numbers(one.seed))
  ).catch(refusedToo)
}

/** Puts the wrong thing in the key's place. */
export const spoil = async (redis: Redis, key: string, kind: Wrong["kind"]): Promise<void> => {
  if (kind === "full") return void (await redis.xadd(key, `${last}-${last}`, "data", "1"))
  const put: Record<Kind, ReadonlyArray<string>> = {
    stream: ["XADD", key, "*", "data", "1"],
    zset: ["ZADD", key, "1", "x"],
    hash: ["HSET", key, "x", "1"],
    string: ["SET", key, "x"],
    list: ["RPUSH", key, "x"],
    set: ["SADD", key, "x"]
  }
  const [command = "", ...args] = put[kind]
  // in one step: nothing of ours may come between
  await redis
    .multi()
    .del(key)
    .call(command, ...args)
    .exec()
}
