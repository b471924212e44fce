/** What the docs say of keys, groups, fields and permissions is what the code makes and needs. */
import { Agent, DeadLetters, Delivery, DoNotRetry, Subscription, Topic } from "@clutch/core"
import { RedisKeys, RedisTransport } from "@clutch/redis"
import { Effect, Layer, Logger, Option, Schema } from "effect"
import { Redis } from "ioredis"
import { readFileSync, readdirSync } from "node:fs"
import { afterAll, beforeAll, describe, expect, inject, it } from "vitest"
import { startRedis, type RedisServer } from "../support/redis.ts"
import { freshNamespace } from "./support.ts"

const root = new URL("../../", import.meta.url)
const read = (file: string): string => readFileSync(new URL(file, root), "utf8")

/** The cells of every row of a Markdown text whose first cell is code. */
const rows = (markdown: string): ReadonlyArray<ReadonlyArray<string>> =>
  markdown
    .split("\n")
    .filter((line) => line.startsWith("| `"))
    .map((line) =>
      line
        .slice(1, -1)
        .split(" | ")
        .map((cell) => cell.trim())
    )

const codes = (text: string): ReadonlyArray<string> => [...text.matchAll(/`([^`]+)`/g)].map(([, code]) => code ?? "")

const documented = rows(read("README.md")).filter(([key]) => key?.startsWith("`clutch.{orders}"))
const keys = RedisKeys.group("clutch", { topic: "orders", partition: 0, subscription: "billing" })
const ofOrdered = rows(read("README.md")).filter(([key]) => key?.startsWith("`clutch.{shipments}"))
const ordered = {
  ...RedisKeys.topic("clutch", "shipments"),
  ...RedisKeys.group("clutch", { topic: "shipments", partition: 0, subscription: "tracking" })
}

// -----------------------------------------------------------------------------
// a program that comes by every key, and every command
// -----------------------------------------------------------------------------

const Order = Schema.Struct({ n: Schema.Number })
const Orders = Topic.make("orders", { schema: Order, maxLength: 1000, maxAge: "1 hour", retention: "acknowledged" })

const billing = Subscription.make(
  "billing",
  Orders,
  Effect.fn(function* ({ data }) {
    const { attempt } = yield* Delivery
    if (data.n === 1 && attempt === 1) return yield* Effect.fail("not yet")
    if (data.n === 2) return yield* new DoNotRetry({ reason: "never" })
  }),
  { retry: { base: "20 millis" } }
)
/** Reads by a connection of its own, and gives back what it holds when it closes. */
const slow = Subscription.make("slow", Orders, () => Effect.sleep("1 minute"), { ownConnection: true, drainTimeout: 0 })
/** Holds for so long that its lease is extended. */
const held = Subscription.make("held", Orders, () => Effect.sleep("400 millis"), { visibilityTimeout: "1 second" })

const Shipments = Topic.make("shipments", { schema: Order, key: () => "k", partitions: 2 })
/** Holds its key back until it is asked to go on. */
const tracking = Subscription.make(
  "tracking",
  Shipments,
  Effect.fn(function* ({ data }) {
    const { attempt } = yield* Delivery
    if (data.n === 0 && attempt === 1) return yield* Effect.fail("not yet")
    if (data.n === 2) return yield* new DoNotRetry({ reason: "never" })
  }),
  { retry: { base: "1 second" } }
)

const Quiet = Logger.layer([])

const everything = (
  options: RedisTransport.Options,
  discard: boolean,
  whileHeldBack: Effect.Effect<void> = Effect.void
) => {
  const log = RedisTransport.layer(options)
  const program = Effect.gen(function* () {
    yield* Topic.publishAll(Orders, [{ n: 0 }, { n: 1 }, { n: 2 }])
    yield* Subscription.awaitIdle(billing)
    const stats = yield* Subscription.stats(billing)
    expect(stats.deadLetters).toBe(1)
    expect(yield* DeadLetters.redrive(billing)).toBe(1)
    yield* Subscription.awaitIdle(billing)
    yield* Subscription.awaitIdle(held)
    expect(yield* DeadLetters.redrive(billing, { delay: "20 millis" })).toBe(1)
    yield* Subscription.awaitIdle(billing)
    // one that stays away from its time, so that the due set is there to see
    yield* DeadLetters.redrive(billing, { delay: "1 hour" })
    yield* Topic.publish(Orders, { n: 2 })
    yield* Subscription.awaitIdle(billing, { due: "ignore" })
    const groups = yield* Topic.groups(Orders)
    expect(groups.map(({ name }) => name)).toEqual(["billing", "held", "slow"])
    expect(Option.isNone(yield* Topic.removeGroup(Orders, "nobody"))).toBe(true)
    yield* Topic.publishAll(Shipments, [{ n: 0 }, { n: 1 }, { n: 2 }])
    yield* whileHeldBack
    yield* Subscription.awaitIdle(tracking)
    if (discard) expect(yield* DeadLetters.discard(billing, "all")).toBe(1)
  })
  return program.pipe(
    Effect.provide(
      Agent.layer("docs", [billing, slow, held, tracking]).pipe(Layer.provideMerge(log), Layer.provideMerge(Quiet))
    ),
    Effect.runPromise
  )
}

describe("the README's table of keys", () => {
  it("names exactly the keys that RedisKeys makes, each with its type", () => {
    const named = documented.map(([key]) => codes(key ?? "")[0] ?? "")
    const made = [keys.main, keys.bell, keys.groups, keys.retry, keys.due, keys.deadLetters, keys.state]
    expect(named.toSorted()).toEqual(made.toSorted())
  })

  it("names those that an ordered subscription has beside them", () => {
    const named = ofOrdered.map(([key]) => codes(key ?? "")[0] ?? "")
    expect(named.toSorted()).toEqual([ordered.meta, ordered.blocked, ordered.parked, ordered.owners].toSorted())
  })

  it("names the consumer groups of both streams", () => {
    const group = (key: string) => codes(documented.find(([cell]) => codes(cell ?? "")[0] === key)?.[2] ?? "")[0]
    expect(group(keys.main)).toBe(keys.mainGroup)
    expect(group(keys.retry)).toBe(keys.retryGroup)
  })

  it("is the whole keyspace of a subscription that failed, retried and dead-lettered", async () => {
    const url = inject("redisUrl")
    const namespace = freshNamespace()
    const redis = new Redis(url)
    try {
      const there = new Set<string>()
      await everything(
        { url, namespace },
        false,
        // the key's partition is wherever it is
        Effect.promise(async () => {
          const end = performance.now() + 10_000
          while (performance.now() < end && ![...there].some((key) => key.startsWith("zset") && /parked/.test(key))) {
            for (const key of await redis.keys(`${namespace}.{shipments*`)) {
              there.add(
                `${await redis.type(key)} ${key.replace(namespace, "clutch").replace("shipments/1", "shipments")}`
              )
            }
          }
        })
      )
      // it is gone when its message is heard: now nobody listens
      await Effect.runPromise(Effect.provide(Topic.publish(Orders, { n: 2 }), RedisTransport.layer({ url, namespace })))
      const owners = ordered.owners.replace("clutch", namespace)
      there.add(`${await redis.type(owners)} ${ordered.owners}`)
      for (const [key, type] of ofOrdered) {
        const word = type === "sorted set" ? "zset" : type?.split(" ")[0]
        expect([...there]).toContain(`${word} ${codes(key ?? "")[0]}`)
      }
      const found = await redis.keys(`${namespace}.*`)
      const ofBilling = found
        .filter((key) => !/\.(slow|held)\.|\{shipments/.test(key))
        .map((key) => key.replace(namespace, "clutch"))
        .toSorted()
      expect(ofBilling).toEqual(documented.map(([key]) => codes(key ?? "")[0] ?? "").toSorted())
      const types = await Promise.all(
        documented.map(([key]) => redis.type((codes(key ?? "")[0] ?? "").replace("clutch", namespace)))
      )
      const told = documented.map(([, type]) => ({ "sorted set": "zset" })[type ?? ""] ?? type?.split(" ")[0])
      expect(types).toEqual(told)
    } finally {
      const left = await redis.keys(`${namespace}.*`)
      if (left.length > 0) await redis.del(...left)
      redis.disconnect()
    }
  })
})

describe("docs/operations.md", () => {
  const operations = read("docs/operations.md")

  it("reads only keys that there are", () => {
    const used = [...operations.matchAll(/'(clutch\.\{[^']*)'/g)].map(([, key]) => key)
    const made: ReadonlyArray<string> = [
      keys.main,
      keys.bell,
      keys.groups,
      keys.retry,
      keys.due,
      keys.deadLetters,
      keys.state,
      ordered.meta,
      ordered.blocked,
      ordered.parked
    ]
    expect(used.length).toBeGreaterThan(10)
    expect(used.filter((key) => !made.includes(key ?? ""))).toEqual([])
  })

  it("names every field of the state hash", () => {
    const folder = new URL("packages/redis/src/scripts/", root)
    const lua = readdirSync(folder, { recursive: true, encoding: "utf8" })
      .filter((file) => file.endsWith(".lua"))
      .map((file) => readFileSync(new URL(file, folder), "utf8"))
      .join("\n")
    const written = new Set(
      [...lua.matchAll(/"([a-z]:)"/g)].map(([, field]) => `${field}{consumer}`).concat("position", "owner", "fence")
    )
    const section = operations.slice(operations.indexOf("| field of `state` |"))
    const told = rows(section.slice(0, section.indexOf("\n\n"))).flatMap(([field]) => codes(field ?? ""))
    expect(told.toSorted()).toEqual([...written].toSorted())
  })
})

describe("the permissions in docs/operations.md", () => {
  let server: RedisServer
  beforeAll(async () => {
    server = await startRedis()
  })
  afterAll(() => server.stop())

  it("are enough for publishers, workers, reclaimers and tools, and none is refused on the way", async () => {
    const line = /^ACL SETUSER clutch .*$/m.exec(read("docs/operations.md"))?.[0] ?? ""
    const admin = new Redis(server.url)
    try {
      await admin.call("ACL", ...line.split(" ").slice(1))
      await everything({ url: server.url, username: "clutch", password: "secret" }, true)
      const refusals = (await admin.call("ACL", "LOG")) as ReadonlyArray<ReadonlyArray<unknown>>
      // told in the text beside it: Redis 7.0 does not know the subcommand yet, and 6.2 names no subcommands
      const old = /^redis_version:6\./m.test(await admin.info("server"))
      const refused = refusals
        .map((entry) => String(entry[7]))
        .filter((what) => what !== (old ? "client" : "client|setinfo"))
      expect(refused).toEqual([])
    } finally {
      admin.disconnect()
    }
  })

  it("name no command that nothing sends", () => {
    const line = /^ACL SETUSER clutch .*$/m.exec(read("docs/operations.md"))?.[0] ?? ""
    const sources = readdirSync(new URL("packages/redis/src/", root), { recursive: true, encoding: "utf8" })
      .filter((file) => /\.(ts|lua)$/.test(file) && !file.endsWith("lua.ts"))
      .map((file) => read(`packages/redis/src/${file}`))
      .join("\n")
      .toLowerCase()
    const granted = line.match(/\+\S+/g)?.map((word) => word.slice(1)) ?? []
    // sent by ioredis itself
    const ofClient = ["client|setname", "info"]
    const idle = granted
      .filter((command) => !ofClient.includes(command))
      .filter((command) => !sources.includes(`"${command.split("|")[0]}"`))
    expect(granted.length).toBeGreaterThan(20)
    expect(idle).toEqual([])
  })
})
