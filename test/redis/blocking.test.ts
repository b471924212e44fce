/**
 * Reads that block: one reader at a time waits for new entries without a bell.
 */
import { assert, describe, it } from "@effect/vitest"
import { type Consumer, type Entry, type Outcome, Transport } from "@clutch/core/Transport"
import { RedisClient, RedisKeys, RedisTransport } from "@clutch/redis"
import type { Role } from "@clutch/redis/RedisClient"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import { connect, createServer, type AddressInfo, type Socket } from "node:net"
import { wrapped } from "../support/native.ts"
import * as S from "./support.ts"

const setup = Effect.gen(function* () {
  const { proxy, redis } = yield* S.behindProxy()
  const admin = yield* S.looker(redis.url)
  /** Ids of the connections whose line in `CLIENT LIST` is such. */
  const ids = async (line: RegExp): Promise<ReadonlyArray<string>> =>
    String(await admin.client("LIST"))
      .split("\n")
      .flatMap((one) => (line.test(one) ? (/^id=(\d+)/.exec(one)?.[1] ?? []) : []))
  /** Of those that block. */
  const reads = () => ids(/ name=clutch-consumer .* flags=\S*b/)
  return {
    admin,
    direct: yield* S.transport({ url: redis.url }),
    ids,
    proxy,
    redis,
    reads,
    waits: S.until("somebody waits there", () => reads().then((ids) => ids.length === 1)),
    empty: S.until("nobody waits there", () => reads().then((ids) => ids.length === 0)),
    transport: yield* S.transport({ url: proxy.url })
  }
})

/** A way to the server that a client can lose while the server goes on. */
const tunnelTo = (port: number) =>
  Effect.acquireRelease(
    Effect.promise(async () => {
      const clients = new Set<Socket>()
      const all = new Set<Socket>()
      const listener = createServer((client) => {
        const server = connect(port, "127.0.0.1")
        client.on("data", (data) => server.write(data))
        server.on("data", (data) => client.write(data))
        clients.add(client)
        for (const socket of [client, server]) all.add(socket.on("error", () => {}))
      })
      await new Promise<void>((resolve) => listener.listen(0, "127.0.0.1", resolve))
      const { port: own } = listener.address() as AddressInfo // it listens on a port
      return {
        url: `redis://127.0.0.1:${own}`,
        drop: () => {
          for (const client of clients) client.destroy()
          clients.clear()
        },
        close: () => {
          for (const socket of all) socket.destroy()
          listener.close()
        }
      }
    }),
    ({ close }) => Effect.sync(close)
  )

type Setup = Effect.Success<typeof setup>

/** Fetches one, and acks it. */
const takes = (consumer: Consumer, expected: string) =>
  Effect.gen(function* () {
    const [entry, ...others] = yield* S.fetching(consumer)
    if (entry === undefined) return assert.fail("nothing was fetched")
    assert.deepStrictEqual([S.text(entry), entry.attempt, others.length], [expected, 1, 0])
    assert.strictEqual(yield* S.settle(consumer, entry, S.ack), "done")
  })

/** Has had a message, and waits for the next one. */
const waiting = ({ direct, waits, transport }: Setup) =>
  Effect.gen(function* () {
    const consumer = yield* S.join(transport)
    yield* S.publish(direct, "first")
    yield* takes(consumer, "first")
    const next = yield* Effect.forkChild(takes(consumer, "next"))
    yield* waits
    return { consumer, next }
  })

describe("reads that block", () => {
  it.live("who waits there is answered without a bell", () =>
    Effect.gen(function* () {
      const all = yield* setup
      const { consumer, next } = yield* waiting(all)
      yield* S.publish(all.direct, "next")
      yield* S.joined(next)
      const rings = yield* Effect.promise(() => S.calls(all.admin, "publish"))
      const begun = performance.now()
      for (let i = 0; i < 20; i++) {
        const fiber = yield* Effect.forkChild(takes(consumer, `${i}`))
        yield* all.waits
        yield* S.publish(all.direct, `${i}`)
        yield* S.joined(fiber)
      }
      // the mark of the last ring, which nobody takes away, stays for a second
      const since = (yield* Effect.promise(() => S.calls(all.admin, "publish"))) - rings
      assert.isAtMost(since, 1 + Math.floor((performance.now() - begun) / 1000))
    }).pipe(Effect.scoped)
  )

  it.live("one waits there, for five seconds, and all others hear bells, as it does then", () =>
    Effect.gen(function* () {
      const all = yield* setup
      const first = yield* waiting(all)
      const second = yield* S.join(all.transport, { group: S.group("orders", "shipping") })
      yield* takes(second, "first")
      const listening = yield* Effect.forkChild(takes(second, "next"))
      // it had to look at what the other one's joining rang for
      yield* all.waits
      yield* Effect.sleep(5500)
      yield* all.empty
      yield* S.publish(all.direct, "next")
      yield* S.joined(first.next)
      yield* S.joined(listening)
    }).pipe(Effect.scoped)
  )

  it.live("a retry that falls due is not kept waiting", () =>
    Effect.gen(function* () {
      const all = yield* setup
      const other = yield* S.join(all.direct)
      yield* S.publish(all.direct, "given back")
      const [entry] = yield* S.fetching(other)
      if (entry === undefined) return assert.fail("nothing was fetched")
      yield* S.publish(all.direct, "first")
      const consumer = yield* S.join(all.transport)
      yield* takes(consumer, "first")
      const next = yield* Effect.forkChild(takes(consumer, "given back"))
      yield* all.waits
      const begun = performance.now()
      assert.strictEqual(yield* S.settle(other, entry, { _tag: "Release" }), "done")
      yield* S.joined(next)
      assert.isBelow(performance.now() - begun, 1000)
    }).pipe(Effect.scoped)
  )

  it.live("where the server forbids to end a read, nobody waits there", () =>
    Effect.gen(function* () {
      const all = yield* setup
      yield* Effect.promise(() =>
        all.admin.acl("SETUSER", "worker", "on", ">secret", "~*", "&*", "+@all", "-client|unblock")
      )
      const transport = yield* S.transport({ url: all.proxy.url, username: "worker", password: "secret" })
      const consumer = yield* S.join(transport)
      for (const text of ["first", "second", "third"]) {
        yield* S.publish(all.direct, text)
        yield* takes(consumer, text)
      }
      yield* Effect.forkChild(S.fetching(consumer))
      yield* Effect.sleep(200)
      assert.deepStrictEqual(yield* Effect.promise(all.reads), [])
    }).pipe(Effect.scoped)
  )

  it.live("what was delivered there and got lost with the connection comes back, at no cost", () =>
    Effect.gen(function* () {
      const all = yield* setup
      const { consumer, next } = yield* waiting(all)
      const cut = all.proxy.cutReply((command) => /^xreadgroup .* block /i.test(command))
      yield* S.publish(all.direct, "next")
      yield* S.joined(next)
      const lost = yield* Effect.forkChild(takes(consumer, "lost"))
      yield* all.waits
      yield* S.publish(all.direct, "lost")
      yield* Effect.promise(() => cut)
      const begun = performance.now()
      yield* S.joined(lost)
      assert.isBelow(performance.now() - begun, 2000)
    }).pipe(Effect.scoped)
  )

  it.live(
    "what is delivered to who is gone, as the server has not noticed, comes back within seconds, at no cost",
    () =>
      Effect.gen(function* () {
        const all = yield* setup
        const tunnel = yield* tunnelTo(all.redis.port)
        const { next } = yield* waiting({ ...all, transport: yield* S.transport({ url: tunnel.url }) })
        tunnel.drop()
        yield* S.until("it reads by another connection", () => all.reads().then(({ length }) => length === 2))
        yield* S.publish(all.direct, "next")
        const { main, mainGroup } = RedisKeys.group("clutch", S.group())
        yield* S.until("it is delivered", async () => (await all.admin.xpending(main, mainGroup))[0] === 1)
        yield* S.joined(next)
      }).pipe(Effect.scoped)
  )

  it.live(
    "where the connection for commands is lost alone, both are made again, since the server may be another one",
    () =>
      Effect.gen(function* () {
        const all = yield* setup
        const { next } = yield* waiting(all)
        const [before] = yield* Effect.promise(all.reads)
        const commands = yield* Effect.promise(() => all.ids(/ name=clutch-commands /))
        for (const id of commands) yield* Effect.promise(() => all.admin.client("KILL", "ID", id))
        yield* S.until("it reads by another connection", async () => {
          const [id] = await all.reads()
          return id !== undefined && id !== before
        })
        yield* S.publish(all.direct, "next").pipe(Effect.retry({ times: 20, schedule: Schedule.spaced(20) }))
        yield* S.joined(next)
      }).pipe(Effect.scoped)
  )

  it.live("new entries do not wait behind many retries", () =>
    Effect.gen(function* () {
      const all = yield* setup
      const other = yield* S.join(all.direct)
      const many = Array.from({ length: 1000 }, (_, i) => `retry ${i}`)
      yield* S.publish(all.direct, "retry", ...many)
      const held: Array<Entry> = []
      while (held.length <= many.length) held.push(...(yield* S.fetching(other, { count: 1000 })))
      const { consumer, next } = yield* waiting(all)
      yield* S.publish(all.direct, "next")
      yield* S.joined(next)
      const first = yield* Effect.forkChild(S.fetching(consumer, { count: 100 }))
      yield* all.waits
      const outcome: Outcome = { _tag: "Retry", delay: S.millis(0), cause: "no" }
      const [one, ...others] = held.map((entry) => ({ entry, outcome, repeated: false }))
      if (one === undefined) return assert.fail("nothing is held")
      yield* other.settle([one, ...others])
      for (let moved = 0; moved < held.length;) moved += (yield* all.direct.tend(S.group())).moved
      yield* S.publish(all.direct, "urgent")
      let before = 0
      for (let entries = yield* S.joined(first); ; entries = yield* S.fetching(consumer, { count: 100 })) {
        const texts = entries.map(S.text)
        if (texts.includes("urgent")) break
        before += texts.length
      }
      assert.isBelow(before, 500)
    }).pipe(Effect.scoped)
  )

  it.live("whoever leaves while it waits there leaves nothing, and what comes next goes to others", () =>
    Effect.gen(function* () {
      const all = yield* setup
      // what ends a read takes its time to arrive
      const slow = (role: Role) =>
        wrapped(all.redis.url, `clutch-${role}`, (call) => async (command, args) => {
          if (args[0] === "UNBLOCK") await new Promise((resolve) => setTimeout(resolve, 40))
          return call(command, args)
        })
      const layer = RedisTransport.layerClient().pipe(Layer.provide(RedisClient.layerFactory(slow)))
      const transport = Context.get(yield* Layer.build(layer), Transport)
      for (let round = 0; round < 5; round++) {
        const scope = yield* Scope.make()
        const { next } = yield* Scope.provide(waiting({ ...all, transport }), scope)
        yield* Fiber.interrupt(next)
        const left = yield* Effect.forkChild(Scope.close(scope, Exit.void), { startImmediately: true })
        yield* Effect.sleep(20)
        yield* S.publish(all.direct, "next")
        yield* S.joined(left)
        yield* all.empty
        const consumers = String(
          yield* Effect.promise(() => all.admin.xinfo("CONSUMERS", "clutch.{orders}", "billing"))
        )
        const names = Array.from(consumers.matchAll(/name,([^,]+)/g), ([, name]) => name)
        // what it was given before it left was given back
        assert.isEmpty(names.filter((name) => name !== "-released"))
        yield* Effect.scoped(Effect.flatMap(S.join(all.direct), (heir) => takes(heir, "next")))
      }
    }).pipe(Effect.scoped)
  )
})
