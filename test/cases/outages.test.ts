/**
 * A server that cannot serve for a while: subscriptions go on by themselves, with bounded work meanwhile and one log line a
 * change of state; publishing waits, and never reports success for what was not stored.
 */
import { Subscription, Topic } from "@clutch/core"
import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import type { Redis } from "ioredis"
import { mkdirSync, rmdirSync } from "node:fs"
import { join } from "node:path"
import { setTimeout as sleep } from "node:timers/promises"
import { rawCommand, type RedisServer } from "../support/redis.ts"
import {
  admin,
  as,
  collecting,
  failsOnce,
  fresh,
  type Line,
  outcome,
  privateServer,
  range,
  rate,
  recorder,
  test,
  texts,
  until,
  untilEffect,
  worker
} from "./kit.ts"

interface Outage {
  readonly name: string
  /** What the server says, or nothing where it says nothing. */
  readonly reply: string | undefined
  readonly args?: ReadonlyArray<string>
  readonly begin: (redis: Redis, server: RedisServer) => Promise<unknown>
  readonly end: (redis: Redis, server: RedisServer) => Promise<unknown>
}

const aof = ["--appendonly", "yes", "--appendfsync", "always"]

const outages: ReadonlyArray<Outage> = [
  {
    name: "killed and started again",
    reply: undefined,
    args: aof,
    begin: (_, server) => server.kill(),
    end: (_, server) => server.restart()
  },
  {
    name: "READONLY: it became a replica",
    reply: "READONLY",
    begin: (redis) => redis.replicaof("127.0.0.1", 1),
    end: (redis) => redis.replicaof("NO", "ONE")
  },
  {
    name: "MASTERDOWN: a replica that lost its master",
    reply: "MASTERDOWN",
    args: ["--replica-serve-stale-data", "no"],
    begin: (redis) => redis.replicaof("127.0.0.1", 1),
    end: (redis) => redis.replicaof("NO", "ONE")
  },
  {
    name: "NOREPLICAS: too few replicas are left",
    reply: "NOREPLICAS",
    begin: (redis) => redis.config("SET", "min-replicas-to-write", "1"),
    end: (redis) => redis.config("SET", "min-replicas-to-write", "0")
  },
  {
    name: "OOM: its memory is full",
    reply: "OOM",
    begin: (redis) => redis.config("SET", "maxmemory", "1"),
    end: (redis) => redis.config("SET", "maxmemory", "0")
  },
  {
    name: "MISCONF: it cannot save",
    reply: "MISCONF",
    begin: async (redis, server) => {
      // a file cannot take the place of a folder
      mkdirSync(join(server.dir, "dump.rdb"))
      await redis.config("SET", "save", "3600 1")
      await redis.bgsave()
      while (!(await redis.info("persistence")).includes("rdb_last_bgsave_status:err")) await sleep(10)
    },
    end: async (redis, server) => {
      rmdirSync(join(server.dir, "dump.rdb"))
      await redis.bgsave()
      while (!(await redis.info("persistence")).includes("rdb_last_bgsave_status:ok")) await sleep(10)
    }
  },
  {
    name: "BUSY: a script of somebody else runs for long",
    reply: "BUSY",
    args: ["--lua-time-limit", "50"],
    begin: async (_, server) => {
      void rawCommand(server.port, `EVAL "while true do end" 0`).catch(() => {})
      while (!(await rawCommand(server.port, "PING")).startsWith("-BUSY")) await sleep(10)
    },
    end: (_, server) => rawCommand(server.port, "SCRIPT KILL")
  }
]

/** Of each loop: how often it said that it fails, and that it works again. */
const changes = (lines: ReadonlyArray<Line>) => {
  const counts: Record<string, { failing: number; again: number }> = {}
  for (const { text } of lines) {
    const [, loop, what] = /^(.*?) (is failing and goes on trying|works again)/.exec(text) ?? []
    if (loop === undefined) continue
    const count = (counts[loop] ??= { failing: 0, again: 0 })
    if (what === "works again") count.again += 1
    else count.failing += 1
  }
  return counts
}

describe("an outage of the server", () => {
  for (const outage of outages) {
    test(`13. ${outage.name}: the subscription goes on by itself, within bounds, and nothing confirmed is lost`, () =>
      Effect.gen(function* () {
        const server = yield* privateServer(...(outage.args ?? []))
        let redis = yield* admin(server.url)
        const topic = texts()
        const seen = recorder()
        const log = collecting()
        const namespace = fresh("outage")
        const run = as(yield* Effect.provide(worker({ url: server.url, namespace }), log.layer))
        let begun = false
        const subscription = Subscription.make(
          "billing",
          topic,
          seen.handler((call) =>
            call.data === "held" && call.attempt === 1
              ? Effect.andThen(
                  until("the outage begins", () => begun),
                  failsOnce(call)
                )
              : failsOnce(call)
          ),
          { concurrency: 4, retry: { base: 50 }, from: "beginning" }
        )
        const handle = yield* Effect.provide(run(Subscription.subscribe(subscription)), log.layer)
        yield* run(Topic.publish(topic, "before"))
        yield* run(Subscription.awaitIdle(subscription))

        yield* run(Topic.publish(topic, "held"))
        yield* until("it is held", () => seen.data().includes("held"))
        yield* Effect.promise(() => outage.begin(redis, server))
        // its failure is to be stored while nothing can be
        begun = true
        const patient = yield* Effect.forkChild(
          Effect.forEach(range(5), (i) =>
            run(Effect.exit(Topic.publish(topic, `meanwhile ${i}`, { timeout: "30 seconds" })))
          )
        )
        const asked = performance.now()
        const impatient = yield* Effect.exit(run(Topic.publish(topic, "impatient", { timeout: 0 })))
        assert.isBelow(performance.now() - asked, 1000, "timeout 0 fails at once")
        assert.strictEqual(outcome(impatient), "Unavailable")
        const short = yield* Effect.exit(run(Topic.publish(topic, "short", { timeout: "300 millis" })))
        assert.strictEqual(outcome(short), "Unavailable")
        assert.isAtLeast(performance.now() - asked, 300, "a timeout is waited for")
        if (outage.reply !== undefined && outage.reply !== "BUSY") {
          const perSecond = yield* Effect.promise(() => rate(redis, 1500))
          assert.isBelow(perSecond, 150, "commands a second in the outage")
        } else yield* Effect.sleep(1000)
        if (outage.reply !== undefined && outage.reply !== "BUSY" && outage.reply !== "MASTERDOWN") {
          const { problem, state } = yield* run(handle.stats)
          assert.strictEqual(state, "unhealthy")
          assert.isTrue(
            Option.exists(problem, (text) => text.includes(outage.reply ?? "")),
            String(problem)
          )
        }
        yield* Effect.promise(() => outage.end(redis, server))
        if (outage.reply === undefined) redis = yield* admin(server.url)
        const exits = yield* Fiber.join(patient)
        assert.deepStrictEqual(
          exits.map(outcome),
          range(5).map(() => "stored")
        )
        yield* run(Topic.publish(topic, "after"))
        const confirmed = ["before", "held", ...range(5).map((i) => `meanwhile ${i}`), "after"]
        yield* until("all is handled", () => confirmed.every((data) => seen.of(data).length >= 2))
        yield* run(Subscription.awaitIdle(subscription))
        // never success for what was not stored, and nothing stored of what failed as unavailable
        assert.deepStrictEqual([...new Set(seen.data())].toSorted(), confirmed.toSorted())
        for (const data of confirmed)
          assert.deepStrictEqual(
            seen.of(data).map(({ attempt }) => attempt),
            [1, 2],
            data
          )
        yield* untilEffect(
          "it is healthy again",
          Effect.map(run(handle.stats), ({ state }) => state === "running")
        )
        for (const [loop, { again, failing }] of Object.entries(changes(log.lines))) {
          assert.isAtMost(failing, 1, `${loop}: one line when it fails`)
          assert.strictEqual(again, failing, `${loop}: one line when it works again`)
        }
        assert.isTrue(log.lines.some(({ text }) => /is failing and goes on trying/.test(text)))
        assert.isBelow(log.lines.filter(({ level }) => level !== "Info").length, 40)
      }))
  }

  test("13. LOADING: a server that is started with much to load is waited for", () =>
    Effect.gen(function* () {
      const server = yield* privateServer("--save", "", "--rdbcompression", "no")
      const redis = yield* admin(server.url)
      const topic = texts()
      const seen = recorder()
      const log = collecting()
      const run = as(yield* Effect.provide(worker({ url: server.url, namespace: fresh("loading") }), log.layer))
      const subscription = Subscription.make("billing", topic, seen.handler(), { from: "beginning" })
      yield* Effect.provide(run(Subscription.subscribe(subscription)), log.layer)
      yield* run(Topic.publish(topic, "before"))
      yield* run(Subscription.awaitIdle(subscription))
      yield* Effect.promise(async () => {
        const pipeline = redis.pipeline()
        // a server that loads listens once for every 2 MB
        for (const i of range(14_000)) pipeline.set(`filler ${i}`, "x".repeat(1000))
        await pipeline.exec()
        await redis.save()
        await server.kill()
      })
      let loading = 0
      const restarted = server.restart(["--save", "", "--rdbcompression", "no", "--key-load-delay", "200"])
      const watching = async (): Promise<void> => {
        for (let done = false; !done;) {
          const reply = await rawCommand(server.port, "PING").catch(() => "")
          if (reply.startsWith("-LOADING")) loading += 1
          done = reply === "+PONG"
          await sleep(20)
        }
      }
      const published = yield* Effect.forkChild(run(Topic.publish(topic, "meanwhile", { timeout: "30 seconds" })))
      yield* Effect.promise(() => Promise.all([restarted, watching()]))
      assert.isAbove(loading, 3, "it was not seen loading")
      yield* Fiber.join(published)
      yield* until("it goes on", () => seen.data().includes("meanwhile"))
      assert.deepStrictEqual(seen.data(), ["before", "meanwhile"])
      assert.isBelow(log.lines.filter(({ level }) => level === "Warn").length, 10)
    }))
})
