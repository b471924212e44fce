/**
 * The connection on which one reader at a time waits for new entries, without a bell.
 */
import { assert, describe, it } from "@effect/vitest"
import { type Consumer, Transport } from "@clutch/core/Transport"
import { RedisClient, RedisTransport } from "@clutch/redis"
import type { Connection, Native, Role } from "@clutch/redis/RedisClient"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import { Redis } from "ioredis"
import * as Seat from "../../packages/redis/src/internal/seat.ts"
import * as S from "./support.ts"

const setup = Effect.gen(function* () {
  const { proxy, redis } = yield* S.behindProxy()
  const admin = yield* S.looker(redis.url)
  const lines = () => admin.client("LIST").then((list) => String(list).split("\n"))
  /** Ids of the connections that wait there. */
  const sitting = async () =>
    (await lines()).flatMap((line) => /^id=(\d+) .* name=clutch-consumer .* flags=\S*b/.exec(line)?.[1] ?? [])
  return {
    admin,
    direct: yield* S.transport({ url: redis.url }),
    proxy,
    redis,
    sitting,
    sits: S.until("somebody waits there", () => sitting().then((ids) => ids.length === 1)),
    empty: S.until("nobody waits there", () => sitting().then((ids) => ids.length === 0)),
    transport: yield* S.transport({ url: proxy.url })
  }
})

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
const seated = ({ direct, sits, transport }: Setup) =>
  Effect.gen(function* () {
    const consumer = yield* S.join(transport)
    yield* S.publish(direct, "first")
    yield* takes(consumer, "first")
    const next = yield* Effect.forkChild(takes(consumer, "next"))
    yield* sits
    return { consumer, next }
  })

describe("the seat", () => {
  it.live("who waits there is answered without a bell", () =>
    Effect.gen(function* () {
      const all = yield* setup
      const { consumer, next } = yield* seated(all)
      yield* S.publish(all.direct, "next")
      yield* S.joined(next)
      const rings = yield* Effect.promise(() => S.calls(all.admin, "publish"))
      const begun = performance.now()
      for (let i = 0; i < 20; i++) {
        const fiber = yield* Effect.forkChild(takes(consumer, `${i}`))
        yield* all.sits
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
      const first = yield* seated(all)
      const second = yield* S.join(all.transport, { group: S.group("orders", "shipping") })
      yield* takes(second, "first")
      const waiting = yield* Effect.forkChild(takes(second, "next"))
      // it had to look at what the other one's joining rang for
      yield* all.sits
      yield* Effect.sleep(5500)
      yield* all.empty
      yield* S.publish(all.direct, "next")
      yield* S.joined(first.next)
      yield* S.joined(waiting)
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
      yield* all.sits
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
      assert.deepStrictEqual(yield* Effect.promise(all.sitting), [])
    }).pipe(Effect.scoped)
  )

  it.live("what was delivered there and got lost with the connection comes back, at no cost", () =>
    Effect.gen(function* () {
      const all = yield* setup
      const { consumer, next } = yield* seated(all)
      const cut = all.proxy.cutReply((command) => /^xreadgroup .* block /i.test(command))
      yield* S.publish(all.direct, "next")
      yield* S.joined(next)
      const lost = yield* Effect.forkChild(takes(consumer, "lost"))
      yield* all.sits
      yield* S.publish(all.direct, "lost")
      yield* Effect.promise(() => cut)
      yield* S.joined(lost)
    }).pipe(Effect.scoped)
  )

  it.live("what is delivered to a connection that is gone, as the server has not noticed, comes back, at no cost", () =>
    Effect.gen(function* () {
      const all = yield* setup
      const { next } = yield* seated(all)
      const [before] = yield* Effect.promise(all.sitting)
      // the client is told that the server has gone, and the server nothing
      all.proxy.halfCloseAll("replies")
      yield* S.until("it reads by another connection", () =>
        all.sitting().then((ids) => ids.some((id) => id !== before))
      )
      yield* S.publish(all.direct, "next")
      yield* S.joined(next)
    }).pipe(Effect.scoped)
  )

  it.live("whoever leaves while it waits there leaves nothing, and what comes next goes to others", () =>
    Effect.gen(function* () {
      const all = yield* setup
      // what ends a read takes its time to arrive
      const slow = (role: Role): Native => {
        const redis = new Redis(all.redis.url, {
          lazyConnect: true,
          protocol: 2,
          connectionName: `clutch-${role}`,
          autoResendUnfulfilledCommands: false,
          enableOfflineQueue: false,
          maxRetriesPerRequest: 0
        })
        const call = redis.callBuffer.bind(redis) as Native["callBuffer"] // of many overloads
        return {
          get status() {
            return redis.status
          },
          connect: () => redis.connect(),
          disconnect: (again) => redis.disconnect(again),
          on: (event, listener) => redis.on(event, listener),
          callBuffer: async (command, args) => {
            if (args[0] === "UNBLOCK") await new Promise((resolve) => setTimeout(resolve, 40))
            return call(command, args)
          }
        }
      }
      const layer = RedisTransport.layerClient().pipe(Layer.provide(RedisClient.layerFactory(slow)))
      const transport = Context.get(yield* Layer.build(layer), Transport)
      for (let round = 0; round < 5; round++) {
        const scope = yield* Scope.make()
        const { next } = yield* Scope.provide(seated({ ...all, transport }), scope)
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

  it.effect("a read that got lost is ended at the server too, unless that may be another one by now", () =>
    Effect.gen(function* () {
      const sent: Array<string> = []
      let epoch = 1
      let lose = () => {}
      const connection = {
        submit: (command: string, args: ReadonlyArray<unknown>) => {
          sent.push([command, ...args].join(" "))
          if (command !== "XREADGROUP") return Promise.resolve(7)
          return new Promise((_, reject) => (lose = () => reject(new Error("lost"))))
        },
        epoch: () => epoch,
        isReady: () => true,
        onReady: () => () => {}
      } as unknown as Connection // what a seat uses of it
      const redis = { open: () => Effect.succeed(connection) } as unknown as RedisClient["Service"] // likewise
      const seat = yield* Seat.open(redis, { client: connection, patience: 1, mustWake: true })
      for (const isAnother of [false, true]) {
        yield* Effect.promise(() => new Promise(setImmediate))
        const sitting = seat.take(() => false)
        if (sitting === undefined) return assert.fail("it is not free")
        sent.length = 0
        const read = sitting.read(["GROUP"]).catch(() => "lost")
        if (isAnother) epoch += 1
        lose()
        assert.strictEqual(yield* Effect.promise(() => read), "lost")
        sitting.leave()
        assert.deepStrictEqual(sent, ["XREADGROUP GROUP", ...(isAnother ? [] : ["CLIENT UNBLOCK 7"])])
      }
    }).pipe(Effect.scoped)
  )
})
