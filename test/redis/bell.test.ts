/**
 * The connection that hears all bells, and faults of it. What bells promise is in `ringing.test.ts`.
 */
import { assert, describe, it } from "@effect/vitest"
import { RedisClient } from "@clutch/redis/RedisClient"
import * as Effect from "effect/Effect"
import type { Redis } from "ioredis"
import { inject } from "vitest"
import * as Bell from "../../packages/redis/src/internal/bell.ts"
import { startRedis } from "../support/redis.ts"
import * as S from "./support.ts"

const url = inject("redisUrl")

const fresh = Effect.gen(function* () {
  const namespace = S.freshNamespace()
  yield* Effect.addFinalizer(() => S.clean(url, namespace))
  return { namespace, transport: yield* S.transport({ url, namespace }) }
})

const server = Effect.acquireRelease(
  Effect.promise(() => startRedis()),
  (redis) => Effect.promise(() => redis.stop())
)

const killBell = (admin: Redis) =>
  Effect.promise(async () => {
    for (const line of String(await admin.client("LIST")).split("\n")) {
      const id = /^id=(\d+) .* name=clutch-bell /.exec(line)?.[1]
      if (id !== undefined) await admin.client("KILL", "ID", id)
    }
  })

describe("the connection of the bell", () => {
  it.live("after its connection was killed, what was published meanwhile is found, and later rings are heard", () =>
    Effect.gen(function* () {
      const redis = yield* server
      const admin = yield* S.looker(redis.url)
      const transport = yield* S.transport({ url: redis.url })
      const consumer = yield* S.join(transport)
      for (let round = 0; round < 5; round++) {
        const waiting = yield* Effect.forkChild(S.takeOne(consumer))
        yield* Effect.sleep(30)
        yield* killBell(admin)
        yield* S.publish(transport, `${round}`)
        const begun = performance.now()
        assert.strictEqual((yield* S.joined(waiting)).data, `${round}`)
        assert.isBelow(performance.now() - begun, 1000)
      }
    }).pipe(Effect.scoped)
  )

  it.live("a bell that holds something else deafens no other log", () =>
    Effect.gen(function* () {
      const { namespace, transport } = yield* fresh
      const admin = yield* S.looker(url)
      yield* Effect.promise(() => admin.rpush(`${namespace}.{broken}.bell`, "text"))
      yield* S.join(transport, { group: S.group("broken") })
      const consumer = yield* S.join(transport)
      yield* Effect.sleep(100)
      const waiting = yield* Effect.forkChild(S.takeOne(consumer))
      yield* Effect.sleep(50)
      const begun = performance.now()
      yield* S.publish(transport, "x")
      yield* S.joined(waiting)
      assert.isBelow(performance.now() - begun, 200)
      // broken for a moment while it is listened to: heard again soon
      yield* Effect.promise(() => admin.rpush(`${namespace}.{orders}.bell`, "text"))
      yield* Effect.promise(() => admin.del(`${namespace}.{orders}.bell`, `${namespace}.{broken}.bell`))
      const again = yield* Effect.forkChild(S.takeOne(consumer))
      yield* S.publish(transport, "y")
      const lost = performance.now()
      yield* S.joined(again)
      assert.isBelow(performance.now() - lost, 2500)
    }).pipe(Effect.scoped)
  )
})

/** A client that connects when it is told to, and notes what it is asked. */
const fakeNative = () => {
  const commands: Array<string> = []
  const listeners: Array<() => void> = []
  const native = {
    status: "connecting",
    connect: () => Promise.resolve(),
    disconnect: () => {},
    callBuffer: (command: string) => {
      commands.push(command)
      return Promise.resolve([])
    },
    on: (event: string, listener: () => void) => event === "ready" && listeners.push(listener)
  }
  const stand = () => {
    native.status = "ready"
    for (const listener of listeners) listener()
  }
  return { commands, native, stand }
}

describe("while its connection is made", () => {
  it.live("the bell waits, and listens as soon as it stands", () =>
    Effect.gen(function* () {
      const shared = fakeNative()
      const own = fakeNative()
      shared.native.status = "ready"
      const client = yield* RedisClient.fromFactory((role) => (role === "bell" ? own : shared).native)
      const bell = yield* Bell.make(client)
      const turns = Effect.promise(async () => {
        for (let i = 0; i < 10; i++) await new Promise((resolve) => setImmediate(resolve))
      })
      yield* turns
      yield* bell.register("orders.bell", () => false)
      yield* turns
      own.stand()
      yield* turns
      assert.include(own.commands, "subscribe")
    }).pipe(Effect.scoped)
  )
})
