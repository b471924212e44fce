/**
 * Publishing that waits for replicas: on a connection of its own, once a batch, and told where too few confirm.
 */
import { PublishError } from "@clutch/core/Errors"
import * as Topic from "@clutch/core/Topic"
import { Transport } from "@clutch/core/Transport"
import { assert, describe, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type { Redis } from "ioredis"
import { startRedis } from "../support/redis.ts"
import * as S from "./support.ts"

const Orders = Topic.make("orders", { schema: Schema.String })

const server = (args: ReadonlyArray<string> = []) =>
  Effect.acquireRelease(
    Effect.promise(() => startRedis({ args })),
    (redis) => Effect.promise(() => redis.stop())
  )

/** A master with so many replicas that follow it. */
const setup = (replicas: number) =>
  Effect.gen(function* () {
    const master = yield* server(["--repl-diskless-sync-delay", "0"])
    const admin = yield* S.looker(master.url)
    const following = yield* Effect.forEach(Array.from({ length: replicas }), () =>
      server(["--replicaof", "127.0.0.1", `${master.port}`])
    )
    yield* S.until("the replicas are there", async () => {
      const info = await admin.info("replication")
      return (info.match(/state=online/g) ?? []).length === replicas
    })
    const transport = yield* S.transport({ url: master.url })
    const publish = (data: string, options?: Topic.PublishOptions) =>
      Effect.provideService(Topic.publish(Orders, data, options), Transport, transport)
    return { admin, following, master, publish, transport }
  })

const names = async (admin: Redis): Promise<ReadonlyArray<string>> =>
  String(await admin.client("LIST"))
    .split("\n")
    .flatMap((line) => / name=(clutch-\S+)/.exec(line)?.[1] ?? [])
    .toSorted()

/** How often a command was called. */
const calls = async (admin: Redis, command: string): Promise<number> =>
  Number(new RegExp(`^cmdstat_${command}:calls=(\\d+)`, "m").exec(await admin.info("commandstats"))?.[1] ?? 0)

const underReplicated = (error: PublishError) => {
  if (error.reason._tag !== "UnderReplicated") return assert.fail(String(error))
  return error.reason
}

describe("replicas", () => {
  it.live("a publish succeeds once so many replicas have it", () =>
    Effect.gen(function* () {
      const { following, publish } = yield* setup(2)
      const message = yield* publish("x", { replicas: 2, within: "10 seconds" })
      for (const { url } of following) {
        const replica = yield* S.looker(url)
        const entries = yield* Effect.promise(() => replica.xrange("clutch.{orders}", "-", "+"))
        assert.deepStrictEqual(
          entries.map(([id]) => id),
          [message.id]
        )
      }
    }).pipe(Effect.scoped)
  )

  it.live("where too few confirm in time, it says how many, and that it is stored; once, and others do not wait", () =>
    Effect.gen(function* () {
      const { admin, following, publish } = yield* setup(2)
      yield* publish("first", { replicas: 2, within: "10 seconds" })
      const [frozen] = following
      if (frozen === undefined) return assert.fail("no replica")
      process.kill(frozen.pid(), "SIGSTOP")
      const begun = performance.now()
      const waiting = yield* Effect.forkChild(Effect.flip(publish("second", { replicas: 2, within: "2 seconds" })), {
        startImmediately: true
      })
      // not behind it
      yield* publish("third")
      assert.isBelow(performance.now() - begun, 1500)
      const error = yield* S.joined(waiting)
      const { confirmed, wanted, within } = underReplicated(error)
      assert.deepStrictEqual([confirmed, wanted, Duration.toMillis(within)], [1, 2, 2000])
      assert.strictEqual(error.stored, 1)
      assert.isAtLeast(performance.now() - begun, 1990)
      const entries = yield* Effect.promise(() => admin.xlen("clutch.{orders}"))
      assert.strictEqual(entries, 3)
    }).pipe(Effect.scoped)
  )

  it.live("a server without replicas confirms none", () =>
    Effect.gen(function* () {
      const { publish } = yield* setup(0)
      const error = yield* Effect.flip(publish("x", { replicas: 1, within: "50 millis" }))
      assert.strictEqual(error.message, 'publish to "orders": stored, but 0 of 1 replicas confirmed it within 50ms')
    }).pipe(Effect.scoped)
  )

  it.live("one connection more, made when it is first needed, and one WAIT a batch", () =>
    Effect.gen(function* () {
      const { admin, publish } = yield* setup(1)
      yield* publish("x")
      yield* S.until("all are named", async () => (await names(admin)).length === 3)
      assert.deepStrictEqual(yield* Effect.promise(() => names(admin)), [
        "clutch-bell",
        "clutch-commands",
        "clutch-consumer"
      ])
      const all = Array.from({ length: 1000 }, (_, i) => `${i}`)
      const options = { replicas: 1, within: "10 seconds" } as const
      yield* Effect.forEach(all, (data) => publish(data, options), { concurrency: "unbounded" })
      assert.deepStrictEqual(yield* Effect.promise(() => names(admin)), [
        "clutch-bell",
        "clutch-commands",
        "clutch-consumer",
        "clutch-replicas"
      ])
      // 256 a batch at most, and the first may leave alone
      assert.isAtMost(yield* Effect.promise(() => calls(admin, "wait")), 5)
      const entries = yield* Effect.promise(() => admin.xlen("clutch.{orders}"))
      assert.strictEqual(entries, 1001)
    }).pipe(Effect.scoped)
  )

  it.live("a connection that is lost while it waits has confirmed nothing, and nothing is sent again", () =>
    Effect.gen(function* () {
      const { admin, following, publish } = yield* setup(1)
      yield* publish("first", { replicas: 1, within: "10 seconds" })
      const [frozen] = following
      if (frozen === undefined) return assert.fail("no replica")
      process.kill(frozen.pid(), "SIGSTOP")
      const waiting = yield* Effect.forkChild(Effect.flip(publish("second", { replicas: 1, within: "30 seconds" })), {
        startImmediately: true
      })
      yield* S.until("it waits", async () => (await admin.info("clients")).includes("blocked_clients:1"))
      yield* Effect.promise(async () => {
        for (const line of String(await admin.client("LIST")).split("\n")) {
          const id = /^id=(\d+) .* name=clutch-replicas /.exec(line)?.[1]
          if (id !== undefined) await admin.client("KILL", "ID", id)
        }
      })
      const error = yield* S.joined(waiting)
      const { confirmed, detail } = underReplicated(error)
      assert.strictEqual(confirmed, 0)
      assert.isString(detail)
      assert.strictEqual(error.stored, 1)
      assert.strictEqual(yield* Effect.promise(() => admin.xlen("clutch.{orders}")), 2)
      // on the next connection it works again
      process.kill(frozen.pid(), "SIGCONT")
      yield* publish("third", { replicas: 1, within: "20 seconds" })
    }).pipe(Effect.scoped)
  )
})
