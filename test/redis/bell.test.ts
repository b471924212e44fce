/**
 * The bell: one blocking read for all logs, which misses no ring.
 */
import { assert, describe, it } from "@effect/vitest"
import { RedisClient } from "@clutch/redis/RedisClient"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { Redis } from "ioredis"
import { inject } from "vitest"
import * as Bell from "../../packages/redis/src/internal/bell.ts"
import * as BellMessages from "../../packages/redis/src/internal/bellMessages.ts"
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

/** Takes one and acks it; how long that took, in milliseconds. */
const takeOne = (consumer: Effect.Success<ReturnType<typeof S.join>>) =>
  Effect.gen(function* () {
    const begun = performance.now()
    const { entries } = yield* consumer.fetch(S.limit({ count: 1 }))
    const took = performance.now() - begun
    const [entry] = entries
    if (entry === undefined) return assert.fail("nothing was fetched")
    yield* consumer.settle([{ entry, outcome: { _tag: "Ack" }, repeated: false }])
    return { took, data: S.text(entry) }
  })

const killBell = (admin: Redis) =>
  Effect.promise(async () => {
    for (const line of String(await admin.client("LIST")).split("\n")) {
      const id = /^id=(\d+) .* name=clutch-bell /.exec(line)?.[1]
      if (id !== undefined) await admin.client("KILL", "ID", id)
    }
  })

describe("the bell", () => {
  it.live("no ring is lost while publishers hammer and consumers fall idle again and again", () =>
    Effect.gen(function* () {
      const { namespace, transport } = yield* fresh
      const other = yield* S.transport({ url, namespace })
      const consumers = yield* Effect.all([S.join(transport), S.join(transport)])
      const total = 2000
      const seen = new Set<string>()
      let longest = 0
      const publishers = 10
      for (let p = 0; p < publishers; p++) {
        yield* Effect.gen(function* () {
          for (let i = 0; i < total / publishers; i++) {
            yield* S.publish(p % 2 === 0 ? transport : other, `${p}-${i}`)
            if (Math.random() < 0.3) yield* Effect.sleep(Math.random() * 12)
          }
        }).pipe(Effect.forkScoped)
      }
      const ended = Effect.sync(() => seen.size === total)
      yield* Effect.all(
        consumers.map((consumer) =>
          Effect.gen(function* () {
            while (seen.size < total) {
              const { data, took } = yield* takeOne(consumer)
              longest = Math.max(longest, took)
              seen.add(data)
            }
          })
        ),
        { concurrency: "unbounded" }
      ).pipe(Effect.raceFirst(Effect.repeat(Effect.sleep(10), { until: () => ended })), Effect.timeout("40 seconds"))
      assert.strictEqual(seen.size, total)
      // a lost ring would wait for the next look, after seconds
      assert.isBelow(longest, 1000)
    }).pipe(Effect.scoped)
  )

  it.live("a ring shortly after another one is heard, also where no later one makes up for it", () =>
    Effect.gen(function* () {
      const { namespace, transport } = yield* fresh
      const other = yield* S.transport({ url, namespace })
      const consumer = yield* S.join(transport)
      let longest = 0
      for (let round = 0; round < 300; round++) {
        const waiting = yield* Effect.forkChild(Effect.andThen(takeOne(consumer), takeOne(consumer)))
        yield* S.publish(other, "1")
        // while the first ring is dealt with
        const begun = performance.now()
        while (performance.now() - begun < Math.random() * 4) yield* Effect.promise(() => new Promise(setImmediate))
        yield* S.publish(other, "2")
        yield* S.joined(waiting)
        longest = Math.max(longest, performance.now() - begun)
      }
      // a lost ring would wait for the next look, after seconds
      assert.isBelow(longest, 1000)
    }).pipe(Effect.scoped)
  )

  it.live("a log that is new while the read blocks is listened to at once", () =>
    Effect.gen(function* () {
      const { transport } = yield* fresh
      yield* S.join(transport)
      yield* Effect.sleep(100)
      const group = S.group("another")
      const consumer = yield* S.join(transport, { group })
      yield* Effect.sleep(100)
      const waiting = yield* Effect.forkChild(takeOne(consumer))
      yield* Effect.sleep(50)
      const begun = performance.now()
      yield* transport.publish(group, [{ data: '"x"', attributes: undefined }], S.noRetention)
      yield* S.joined(waiting)
      assert.isBelow(performance.now() - begun, 200)
    }).pipe(Effect.scoped)
  )

  it.live("after its connection was killed, what was published meanwhile is found, and later rings are heard", () =>
    Effect.gen(function* () {
      const redis = yield* server
      const admin = yield* S.looker(redis.url)
      const transport = yield* S.transport({ url: redis.url })
      const consumer = yield* S.join(transport)
      for (let round = 0; round < 5; round++) {
        const waiting = yield* Effect.forkChild(takeOne(consumer))
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
      yield* Effect.promise(() => admin.set(`${namespace}.{broken}.bell`, "text"))
      yield* S.join(transport, { group: S.group("broken") })
      const consumer = yield* S.join(transport)
      yield* Effect.sleep(100)
      const waiting = yield* Effect.forkChild(takeOne(consumer))
      yield* Effect.sleep(50)
      const begun = performance.now()
      yield* S.publish(transport, "x")
      yield* S.joined(waiting)
      assert.isBelow(performance.now() - begun, 200)
      // broken for a moment while it is listened to: heard again soon
      yield* Effect.promise(() => admin.set(`${namespace}.{orders}.bell`, "text"))
      yield* Effect.promise(() => admin.del(`${namespace}.{orders}.bell`, `${namespace}.{broken}.bell`))
      const again = yield* Effect.forkChild(takeOne(consumer))
      yield* S.publish(transport, "y")
      const lost = performance.now()
      yield* S.joined(again)
      assert.isBelow(performance.now() - lost, 2500)
    }).pipe(Effect.scoped)
  )

  it.live("watchers are called for what is due, and not more often than they can use", () =>
    Effect.gen(function* () {
      const { transport } = yield* fresh
      let calls = 0
      yield* transport.watch(S.group(), () => {
        calls += 1
      })
      yield* Effect.sleep(100)
      calls = 0
      yield* S.publish(transport, "x")
      yield* Effect.sleep(50)
      assert.strictEqual(calls, 1)
      for (let i = 0; i < 100; i++) yield* S.publish(transport, `${i}`)
      yield* Effect.sleep(50)
      assert.isAtLeast(calls, 2)
      assert.isAtMost(calls, 30)
    }).pipe(Effect.scoped)
  )

  it.live("entries that somebody else added without ringing are found by the next look", () =>
    Effect.gen(function* () {
      const { namespace, transport } = yield* fresh
      const admin = yield* S.looker(url)
      const consumer = yield* S.join(transport)
      const waiting = yield* Effect.forkChild(takeOne(consumer))
      yield* Effect.sleep(50)
      yield* Effect.promise(() => admin.xadd(`${namespace}.{orders}`, "*", "data", '"x"'))
      assert.strictEqual((yield* Effect.timeout(S.joined(waiting), Duration.seconds(8))).data, "x")
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
      return command === "XREAD" ? new Promise<never>(() => {}) : Promise.resolve([])
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
  const bells = [
    { name: "the bell by a stream", make: Bell.make, listens: "XREAD" },
    { name: "the bell by messages", make: BellMessages.make, listens: "subscribe" }
  ]
  for (const { listens, make, name } of bells) {
    it.live(`${name} waits, and listens as soon as it stands`, () =>
      Effect.gen(function* () {
        const shared = fakeNative()
        const own = fakeNative()
        shared.native.status = "ready"
        const client = yield* RedisClient.fromFactory((role) => (role === "bell" ? own : shared).native)
        const bell = yield* make(client)
        const turns = Effect.promise(async () => {
          for (let i = 0; i < 10; i++) await new Promise((resolve) => setImmediate(resolve))
        })
        yield* turns
        yield* bell.register("orders.bell", () => false)
        yield* turns
        own.stand()
        yield* turns
        assert.include(own.commands, listens)
      }).pipe(Effect.scoped)
    )
  }
})
