/**
 * A cluster in use: few connections, load over all masters, and slots that move and masters that die while it runs.
 *
 * One cluster for all cases, in order: each leaves it whole.
 */
import { Subscription, Topic, Transport } from "@clutch/core"
import type { Consumer, Entry, Owner } from "@clutch/core/Transport"
import { RedisKeys, RedisTransport } from "@clutch/redis"
import { assert, describe } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { readFileSync } from "node:fs"
import { inspect } from "node:util"
import { afterAll, beforeAll } from "vitest"
import { as, failsOnce, fresh, range, recorder, test, texts, until, worker } from "../cases/kit.ts"
import * as Ordered from "../redis/order.support.ts"
import * as S from "../redis/support.ts"
import { type Member, type RedisCluster, startCluster } from "../support/cluster.ts"
import { changes, connections, handled, logged, publishing } from "./kit.ts"

let cluster: RedisCluster
beforeAll(async () => {
  cluster = await startCluster({ timeout: 2000 })
}, 60_000)
afterAll(() => cluster.stop())

const options = (namespace: string) => ({
  url: "redis://cluster",
  cluster: { nodes: cluster.nodes.slice(0, 2) },
  namespace,
  connectionName: namespace
})
const noRetention = { maxLength: undefined, maxAge: undefined }
const keyOf = (namespace: string, topic: string) => RedisKeys.log(namespace, { topic, partition: 0 }).main

/** Topics enough that each master has some. */
const spread = () => range(12).map(() => texts())

const mastersNow = Effect.promise(async () => {
  const masters = new Set<Member>()
  for (const i of range(60)) masters.add(await cluster.masterOf(`k${i}`))
  return Array.from(masters)
})

describe("redis cluster", () => {
  test("two connections a master and two more at most, whatever runs; one more a master for replicas", () =>
    Effect.gen(function* () {
      const namespace = fresh("few")
      const context = yield* worker(options(namespace))
      const run = as(context)
      const seen = recorder()
      const topics = range(60).map(() => texts())
      for (const [i, topic] of topics.entries()) {
        yield* run(Subscription.subscribe(Subscription.make(`s${i}`, topic, seen.handler())))
      }
      for (const topic of topics) yield* run(Topic.publish(topic, topic.topic))
      yield* until("each has its own", () => seen.calls.length === 60)
      const transport = Context.get(context, Transport)
      for (const partition of range(24)) {
        yield* transport.publish({ topic: "wide", partition }, [{ data: "1", attributes: undefined }], noRetention)
      }
      const masters = yield* mastersNow
      assert.lengthOf(masters, 3)
      const counted = (names: ReadonlyArray<ReadonlyArray<string>>) => names.flat().toSorted()
      assert.deepStrictEqual(counted(yield* connections(cluster.members, namespace)), [
        "bell",
        ...masters.map(() => "commands")
      ])
      for (const topic of topics) yield* run(Topic.publish(topic, "y", { replicas: 1, within: "10 seconds" }))
      assert.deepStrictEqual(counted(yield* connections(cluster.members, namespace)), [
        "bell",
        ...masters.map(() => "commands"),
        ...masters.map(() => "replicas")
      ])
      yield* until("each has the second", () => seen.calls.length === 120)
      const own = texts()
      yield* run(
        Subscription.subscribe(
          Subscription.make("own", own, seen.handler(), { ownConnection: true, from: "beginning" })
        )
      )
      yield* run(Topic.publish(own, "z"))
      yield* until("it has it", () => seen.calls.length === 121)
      assert.strictEqual(
        counted(yield* connections(cluster.members, namespace)).filter((_) => _ === "consumer").length,
        1
      )
    }))

  test("one topic's partitions lie on all masters, and each takes its share of the load", () =>
    Effect.gen(function* () {
      const namespace = fresh("wide")
      const transport = Context.get(yield* worker(options(namespace)), Transport)
      const partitions = range(48)
      yield* Effect.forEach(
        partitions,
        (partition) =>
          transport.publish(
            { topic: "orders", partition },
            [{ data: "0", attributes: undefined }, ...range(19).map((i) => ({ data: `${i}`, attributes: undefined }))],
            noRetention
          ),
        { concurrency: "unbounded", discard: true }
      )
      const shares = new Map<Member, number>()
      for (const partition of partitions) {
        const { main } = RedisKeys.log(namespace, { topic: "orders", partition })
        const master = yield* Effect.promise(() => cluster.masterOf(main))
        const length = yield* Effect.promise(() => master.redis.xlen(main))
        shares.set(master, (shares.get(master) ?? 0) + length)
      }
      assert.strictEqual(
        [...shares.values()].reduce((a, b) => a + b),
        960
      )
      // where a partition lies is a hash of its name: even shares are 320
      assert.lengthOf(
        [...shares.values()].filter((share) => share >= 160 && share <= 480),
        3
      )
    }))

  const notSettled = {
    consumer: "a slot moves: what its new master does not know as delivered is not settled there, by a consumer",
    owner: "a slot moves: what its new master does not know as delivered is not settled there, by an owner"
  }
  for (const [by, name] of Object.entries(notSettled)) {
    test(name, () =>
      Effect.gen(function* () {
        const namespace = fresh("settled")
        const transport = Context.get(yield* worker(options(namespace)), Transport)
        yield* S.publish(transport, "known", "unknown")
        const { main, mainGroup } = RedisKeys.group(namespace, S.group())
        /** Acks both, where the slot has moved since, and the record of one delivery was lost on the way. */
        const settled = ([known, unknown]: ReadonlyArray<Entry>, settle: Pick<Consumer | Owner, "settle">["settle"]) =>
          Effect.gen(function* () {
            if (known === undefined || unknown === undefined) return assert.fail("nothing was fetched")
            const from = yield* Effect.promise(() => cluster.masterOf(main))
            const to = (yield* mastersNow).find((one) => one !== from) ?? from
            yield* Effect.promise(() => cluster.move(main, to))
            yield* Effect.promise(() => to.redis.xack(main, mainGroup, unknown.id))
            return yield* settle([
              { entry: known, outcome: S.ack, repeated: false },
              { entry: unknown, outcome: S.ack, repeated: false }
            ])
          })
        if (by === "consumer") {
          const consumer = yield* S.join(transport)
          assert.deepStrictEqual(yield* settled(yield* S.fetching(consumer), consumer.settle), ["done", "lost"])
        } else {
          const { owner } = yield* Effect.flatMap(Ordered.enroll(transport), Ordered.claim)
          assert.deepStrictEqual(yield* settled(yield* Ordered.fetch(owner), owner.settle), ["done", "lost"])
        }
      })
    )
  }

  test("a user that is refused fails the layer at once, and its password is in no error", () =>
    Effect.gen(function* () {
      const begun = performance.now()
      const layer = RedisTransport.layer({ ...options("refused"), url: "redis://nobody:hush-hush@cluster" })
      const error = yield* Effect.flip(Layer.build(layer))
      assert.strictEqual(error.reason._tag, "Refused")
      assert.isBelow(performance.now() - begun, 5000)
      assert.notInclude(`${String(error)} ${inspect(error, { depth: 20 })} ${JSON.stringify(error)}`, "hush-hush")
    }))

  test("servers that are none fail the layer, with an error that names the option or says what is missing", () =>
    Effect.gen(function* () {
      const node = { host: "127.0.0.1", port: 1 }
      const url = "redis://cluster"
      const untyped = { natMap: {} }
      const wrong: ReadonlyArray<readonly [RedisTransport.Options, string]> = [
        [{ url, cluster: { nodes: [] } }, "cluster.nodes"],
        [{ url, cluster: { nodes: [{ host: "", port: 1 }] } }, "cluster.nodes"],
        [{ url, cluster: { nodes: [{ host: "a", port: 70_000 }] } }, "cluster.nodes"],
        [{ url: `${url}/1`, cluster: { nodes: [node] } }, "url"],
        [{ url, cluster: { nodes: [node] }, sentinel: { name: "m", sentinels: [node] } }, "sentinel"],
        [{ url, sentinel: { name: "", sentinels: [node] } }, "sentinel.name"],
        [{ url, sentinel: { name: "m", sentinels: [node], ...untyped } }, "sentinel.natMap"],
        [{ url, cluster: { nodes: [node], ...untyped } }, "cluster.natMap"],
        [{ url, sentinel: { name: "m", sentinels: [] } }, "sentinel.sentinels"]
      ]
      for (const [given, option] of wrong) {
        const { reason } = yield* Effect.flip(Layer.build(RedisTransport.layer(given)))
        assert.strictEqual(reason._tag === "InvalidOption" && reason.option, option)
      }
      const absent = RedisTransport.layer({ url, cluster: { nodes: [node] }, connectTimeout: "500 millis" })
      const { reason } = yield* Effect.flip(Layer.build(absent))
      assert.strictEqual(reason._tag, "Unavailable")
      assert.include(reason.message, "ECONNREFUSED")
    }))

  test("an ACL user with what the docs name, and no more, does everything on every server", () =>
    Effect.gen(function* () {
      const docs = readFileSync(new URL("../../docs/operations.md", import.meta.url), "utf8")
      const always = /^ACL SETUSER clutch (.*)$/m.exec(docs)?.[1]?.split(" ") ?? []
      const onCluster = /`(\+cluster[^`]*)`/.exec(docs)?.[1]?.split(" ") ?? []
      assert.isAbove(always.length, 3)
      assert.isAbove(onCluster.length, 1)
      for (const { redis } of cluster.members) {
        yield* Effect.promise(() => redis.call("ACL", "SETUSER", "clutch", "reset", ...always, ...onCluster))
        yield* Effect.promise(() => redis.call("ACL", "LOG", "RESET"))
      }
      const { lines, run, seen } = yield* logged({
        ...options("clutch"),
        url: "redis://clutch:secret@cluster",
        connectionName: fresh("user")
      })
      const topics = spread()
      const settings = { retry: { base: "20 millis" }, ownConnection: true } as const
      for (const topic of topics) {
        yield* run(Subscription.subscribe(Subscription.make("billing", topic, seen.handler(failsOnce), settings)))
      }
      for (const topic of topics) yield* run(Topic.publish(topic, topic.topic, { replicas: 1, within: "10 seconds" }))
      yield* until("each was retried", () => seen.calls.length === 2 * topics.length)
      const begun = performance.now()
      for (const topic of topics) yield* run(Topic.publish(topic, "x"))
      yield* until("each was rung for", () => seen.of("x").length === 2 * topics.length)
      assert.isBelow(performance.now() - begun, 4000)
      assert.deepStrictEqual(changes(lines), [])
      for (const { redis } of cluster.members) {
        const log = yield* Effect.promise(() => redis.call("ACL", "LOG"))
        assert.deepStrictEqual(log, [])
      }
    }))

  test("no ring is lost: whoever is idle is woken, whatever server hears of it", () =>
    Effect.gen(function* () {
      const namespace = fresh("awake")
      const run = as(yield* worker(options(namespace)))
      const other = as(yield* worker(options(namespace)))
      const seen = recorder()
      const topics = spread()
      for (const topic of topics) yield* run(Subscription.subscribe(Subscription.make("s", topic, seen.handler())))
      const waits: Array<number> = []
      for (const i of range(40)) {
        const topic = topics[i % topics.length] ?? texts()
        const begun = performance.now()
        yield* other(Topic.publish(topic, `${i}`))
        yield* until("it is handled", () => seen.of(`${i}`).length === 1)
        waits.push(performance.now() - begun)
      }
      // without a ring, it would be found after seconds
      assert.isBelow(Math.max(...waits), 2000)
    }))

  test("a slot moves while it runs: nothing is lost, doubled, or held up for good", () =>
    Effect.gen(function* () {
      const namespace = fresh("move")
      const { lines, run, seen } = yield* logged(options(namespace))
      const [topic = texts(), own = texts(), ...rest] = spread()
      const failing = ({ attempt, data }: { readonly attempt: number; readonly data: string }) =>
        attempt === 1 && data.endsWith("7") ? Effect.fail("not this time") : Effect.void
      const retry = { base: "50 millis" } as const
      yield* run(
        Subscription.subscribe(Subscription.make("s", topic, seen.handler(failing), { retry, concurrency: 8 }))
      )
      yield* run(
        Subscription.subscribe(
          Subscription.make("own", own, seen.handler(failing), { retry, concurrency: 8, ownConnection: true })
        )
      )
      for (const one of rest) yield* run(Subscription.subscribe(Subscription.make("s", one, seen.handler())))
      const load = yield* publishing([topic, own, ...rest], {}, run)
      yield* until("it flows", () => seen.calls.length > 200)
      for (const moved of [topic, own, topic]) {
        const key = keyOf(namespace, moved.topic)
        const from = yield* Effect.promise(() => cluster.masterOf(key))
        const [to] = (yield* mastersNow).filter((one) => one !== from)
        if (to === undefined) return assert.fail("there is one master only")
        // half moved for a while: some keys are here, and some are there
        yield* Effect.promise(() => cluster.move(key, to, () => new Promise((resolve) => setTimeout(resolve, 400))))
        const before = load.confirmed.filter((data) => data.startsWith(moved.topic)).length
        yield* until(
          "publishing there goes on",
          () => load.confirmed.filter((data) => data.startsWith(moved.topic)).length > before + 20
        )
      }
      load.stop()
      yield* handled(seen, load.confirmed)
      assert.deepStrictEqual(load.failed, [])
      const first = seen.calls.filter(({ attempt }) => attempt === 1).map(({ data }) => data)
      assert.lengthOf(first, new Set(first).size, "none is handled twice")
      // at most once a move and subscription, and each works again
      const changed = changes(lines)
      yield* until(
        "all works again",
        () => changes(lines).filter((one) => one.endsWith("works again")).length * 2 === changes(lines).length
      )
      assert.isAtMost(changed.length, 60)
    }))

  test("a failover that somebody asks for loses nothing", () =>
    Effect.gen(function* () {
      const namespace = fresh("asked")
      const { lines, run, seen } = yield* logged(options(namespace))
      const topics = spread()
      for (const topic of topics) yield* run(Subscription.subscribe(Subscription.make("s", topic, seen.handler())))
      const load = yield* publishing(topics, {}, run)
      yield* until("it flows", () => seen.calls.length > 200)
      yield* Effect.promise(() => cluster.giveWay(keyOf(namespace, topics[0]?.topic ?? "")))
      const before = load.confirmed.length
      yield* until("it goes on", () => load.confirmed.length > before + 200)
      load.stop()
      yield* handled(seen, load.confirmed)
      yield* Effect.promise(() => cluster.settled())
      yield* until(
        "all works again",
        () => changes(lines).filter((one) => one.endsWith("works again")).length * 2 === changes(lines).length
      )
    }))

  test("a master dies: what replicas confirmed is handled, and all goes on by itself", () =>
    Effect.gen(function* () {
      const namespace = fresh("dies")
      const { lines, run, seen } = yield* logged(options(namespace))
      const topics = spread()
      for (const topic of topics) yield* run(Subscription.subscribe(Subscription.make("s", topic, seen.handler())))
      const load = yield* publishing(topics, { replicas: 1, within: "5 seconds", timeout: "30 seconds" }, run)
      yield* until("it flows", () => load.confirmed.length > 200)
      const key = keyOf(namespace, topics[0]?.topic ?? "")
      const master = yield* Effect.promise(() => cluster.masterOf(key))
      yield* Effect.promise(() => master.server.kill())
      yield* Effect.promise(() => cluster.failedOver(key, master))
      // as a replica of its successor, which has no other
      yield* Effect.promise(() => master.server.restart())
      const mine = topics[0]?.topic ?? ""
      const before = load.confirmed.filter((data) => data.startsWith(mine)).length
      yield* until(
        "publishing there goes on",
        () => load.confirmed.filter((data) => data.startsWith(mine)).length > before + 20
      )
      load.stop()
      yield* handled(seen, load.confirmed)
      // what had left for the server that died
      assert.deepStrictEqual(
        load.failed.filter((reason) => reason !== "Unknown" && reason !== "UnderReplicated"),
        []
      )
      yield* until(
        "all works again",
        () => changes(lines).filter((one) => one.endsWith("works again")).length * 2 === changes(lines).length
      )
      // it is told once for each loop
      const failing = changes(lines).filter((one) => !one.endsWith("works again"))
      assert.isAtMost(failing.length, 3 * topics.length)
      yield* Effect.promise(() => cluster.settled())
    }))

  test("the server dies that the bell hears by: the others still wake whoever waits", () =>
    Effect.gen(function* () {
      const namespace = fresh("deaf")
      const run = as(yield* worker(options(namespace)))
      const seen = recorder()
      const topics = spread()
      for (const topic of topics) yield* run(Subscription.subscribe(Subscription.make("s", topic, seen.handler())))
      const names = yield* connections(cluster.members, namespace)
      const bell = cluster.members[names.findIndex((one) => one.includes("bell"))]
      if (bell === undefined) return assert.fail("nothing hears")
      yield* Effect.promise(() => bell.server.kill())
      yield* until("another server is heard", async () => {
        const now = await Effect.runPromise(connections(cluster.members, namespace))
        return now.some((one) => one.includes("bell"))
      })
      yield* until("every slot is served", async () => {
        for (const { topic } of topics) if ((await cluster.masterOf(keyOf(namespace, topic))) === bell) return false
        return true
      })
      for (const topic of topics) yield* run(Topic.publish(topic, topic.topic, { timeout: "30 seconds" }))
      yield* until("each has its own", () => seen.calls.length === topics.length)
      for (const topic of topics) {
        const begun = performance.now()
        yield* run(Topic.publish(topic, `again ${topic.topic}`))
        yield* until("it is handled", () => seen.of(`again ${topic.topic}`).length > 0)
        assert.isBelow(performance.now() - begun, 2000)
      }
      yield* Effect.promise(() => bell.server.restart())
      yield* Effect.promise(() => cluster.settled())
    }))
})
