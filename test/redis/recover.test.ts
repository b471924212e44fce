/**
 * What a lost connection or a full memory does to deliveries: nothing is lost, and nothing is doubled.
 */
import { TransportError } from "@clutch/core/Errors"
import { type Entry, Transport } from "@clutch/core/Transport"
import { RedisClient, RedisTransport } from "@clutch/redis"
import * as RedisKeys from "@clutch/redis/RedisKeys"
import * as Scripts from "@clutch/redis/Scripts"
import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import * as Exit from "effect/Exit"
import { type Call, wrapped } from "../support/native.ts"
import * as S from "./support.ts"

type Consumer = Effect.Success<ReturnType<typeof S.join>>

const setup = (args: ReadonlyArray<string> = []) =>
  Effect.gen(function* () {
    const { proxy, redis } = yield* S.behindProxy(args)
    return {
      admin: yield* S.looker(redis.url),
      /** Straight to the server. */
      direct: yield* S.transport({ url: redis.url }),
      proxy,
      redis,
      transport: yield* S.transport({ url: proxy.url })
    }
  })

/** Acks as the runtime does: what was not sent is tried again. */
const settling = (consumer: Consumer, entry: Entry): Effect.Effect<unknown, TransportError> =>
  Effect.catchIf(
    S.settle(consumer, entry, S.ack),
    ({ reason }) => reason._tag === "Unavailable",
    () => Effect.andThen(Effect.sleep(5), settling(consumer, entry))
  ).pipe(
    Effect.flatMap((settled) =>
      settled instanceof TransportError
        ? Effect.andThen(Effect.sleep(5), settling(consumer, entry))
        : Effect.succeed(settled)
    )
  )

/** A log reached by a client that a test changes. */
const changed = (around: (call: Call) => Call) =>
  Effect.gen(function* () {
    const { redis } = yield* S.behindProxy()
    const factory = RedisClient.layerFactory((role) => wrapped(redis.url, `clutch-${role}`, around))
    const layer = RedisTransport.layerClient().pipe(Layer.provide(factory))
    return {
      admin: yield* S.looker(redis.url),
      direct: yield* S.transport({ url: redis.url }),
      transport: Context.get(yield* Layer.build(layer), Transport)
    }
  })

const attempts = (entries: ReadonlyArray<Entry>) => entries.map((entry) => [S.text(entry), entry.attempt])

describe("a comparison", () => {
  it.live("finds what a read delivered that came to the server when its connection was lost", () =>
    Effect.gen(function* () {
      let late = false
      const { direct, transport } = yield* changed((call) => (command, args) => {
        if (!late || command !== "XREADGROUP" || !args.includes("billing")) return call(command, args)
        late = false
        setTimeout(() => void call(command, args).catch(() => {}), 200)
        return Promise.reject(new Error("Connection is closed."))
      })
      const consumer = yield* S.join(transport)
      yield* S.publish(direct, "a", "b")
      late = true
      assert.isTrue(Exit.isFailure(yield* Effect.exit(consumer.fetch(S.limit({ count: 2 })))))
      yield* Effect.sleep(300)
      assert.deepStrictEqual(attempts(yield* S.fetching(consumer, { count: 2 })), [
        ["a", 1],
        ["b", 1]
      ])
    })
  )

  it.live("finds what the server would not take back for a moment", () =>
    Effect.gen(function* () {
      let busy = false
      const { admin, direct, transport } = yield* changed((call) => async (command, args) => {
        if (!busy) return call(command, args)
        if (args[0] === Scripts.release.sha) {
          busy = false
          throw Object.assign(new Error("BUSY Redis is busy running a script"), { name: "ReplyError" })
        }
        const reply = await call(command, args)
        if (command === "XREADGROUP") await new Promise((resolve) => setTimeout(resolve, 100))
        return reply
      })
      const consumer = yield* S.join(transport)
      yield* S.publish(direct, "a", "b")
      busy = true
      const fetching = yield* Effect.forkChild(consumer.fetch(S.limit({ count: 2 })), { startImmediately: true })
      yield* S.until("they are delivered", async () => {
        const [count] = (await admin.xpending("clutch.{orders}", "billing")) as [number]
        return count === 2
      })
      yield* Fiber.interrupt(fetching)
      yield* S.until("the server refuses", () => !busy)
      assert.deepStrictEqual(attempts(yield* S.fetching(consumer, { count: 2 })), [
        ["a", 1],
        ["b", 1]
      ])
    })
  )
})

describe("a lost connection", () => {
  for (const ownConnection of [false, true]) {
    it.live(
      `entries of a read whose reply was cut come back at no cost${ownConnection ? ", own connection" : ""}`,
      () =>
        Effect.gen(function* () {
          const { direct, proxy, transport } = yield* setup()
          const consumer = yield* S.join(transport, { ownConnection })
          yield* Effect.sleep(50)
          for (let round = 0; round < 5; round++) {
            const cut = proxy.cutReply((command) => /^xreadgroup .*billing .*\{orders\} >/i.test(command))
            const fiber = yield* Effect.forkChild(S.fetching(consumer))
            yield* Effect.sleep(20)
            yield* S.publish(direct, `${round}`)
            yield* Effect.promise(() => cut)
            const entries = yield* S.joined(fiber)
            assert.deepStrictEqual(
              entries.map((entry) => [S.text(entry), entry.attempt, entry.reclaims]),
              [[`${round}`, 1, 0]]
            )
            const [entry] = entries
            if (entry !== undefined) assert.strictEqual(yield* S.settle(consumer, entry, S.ack), "done")
          }
          assert.strictEqual((yield* direct.inspect(S.group())).pending, 0)
        }).pipe(Effect.scoped)
    )
  }

  const notKnown = {
    before: "what a new master does not know as delivered is not settled, asked for before it is delivered again",
    when: "what a new master does not know as delivered is not settled, asked for when it was delivered again",
    while: "what a new master does not know as delivered is not settled, asked for while it is delivered again"
  }
  for (const [asked, name] of Object.entries(notKnown)) {
    it.live(name, () =>
      Effect.gen(function* () {
        const { admin, direct, proxy, transport } = yield* setup()
        const consumer = yield* S.join(transport)
        yield* S.publish(direct, "x")
        const [first] = yield* S.fetching(consumer)
        if (first === undefined) return assert.fail("nothing was fetched")
        // a failover that loses the last writes: the record that "x" was delivered
        const { main, mainGroup } = RedisKeys.group("clutch", S.group())
        proxy.refuse(true)
        proxy.cutAll()
        yield* Effect.promise(() => admin.xack(main, mainGroup, first.id))
        yield* Effect.promise(() => admin.xgroup("SETID", main, mainGroup, "0-0"))
        proxy.refuse(false)
        const acked = settling(consumer, first)
        if (asked === "before") assert.strictEqual(yield* acked, "lost")
        if (asked === "while") proxy.delayReplies(200)
        const fetched = yield* Effect.forkChild(S.fetching(consumer), { startImmediately: true })
        if (asked === "while") {
          yield* S.until("it is delivered", async () => (await admin.xpending(main, mainGroup))[0] === 1)
          assert.strictEqual(yield* acked, "lost")
          proxy.delayReplies(0)
        }
        const [second] = yield* S.joined(fetched)
        if (second === undefined) return assert.fail("nothing was fetched")
        if (asked === "when") assert.strictEqual(yield* acked, "lost")
        assert.deepStrictEqual([second.id, second.attempt], [first.id, 1])
        assert.strictEqual(yield* S.settle(consumer, second, S.ack), "done")
      }).pipe(Effect.scoped)
    )
  }

  it.live("what is held stays held: it is not given back by the comparison", () =>
    Effect.gen(function* () {
      const { admin, direct, proxy, transport } = yield* setup()
      const consumer = yield* S.join(transport)
      yield* S.publish(direct, "held", "lost")
      const [held] = yield* S.fetching(consumer, { count: 1 })
      if (held === undefined) return assert.fail("nothing was fetched")
      const cut = proxy.cutReply((command) => command.toLowerCase().startsWith("xreadgroup"))
      const fiber = yield* Effect.forkChild(S.fetching(consumer))
      yield* Effect.promise(() => cut)
      const [lost] = yield* S.joined(fiber)
      assert.strictEqual(lost === undefined ? "" : S.text(lost), "lost")
      assert.strictEqual(lost?.attempt, 1)
      const owners = yield* Effect.promise(() => admin.xpending("clutch.{orders}", "billing", "-", "+", 10))
      assert.strictEqual(owners.length, 2)
      assert.strictEqual(yield* S.settle(consumer, held, S.ack), "done")
    }).pipe(Effect.scoped)
  )

  it.live("what was taken from others, and whose reply was cut, comes back", () =>
    Effect.gen(function* () {
      const { direct, proxy, transport } = yield* setup()
      const other = yield* S.join(direct)
      const consumer = yield* S.join(transport)
      yield* S.publish(direct, "x")
      const [entry] = yield* S.fetching(other)
      if (entry === undefined) return assert.fail("nothing was fetched")
      // the script that takes is the only one with this many attempts allowed
      const cut = proxy.cutReply((command) => /^evalsha .* 77$/i.test(command))
      const fiber = yield* Effect.forkChild(S.fetching(consumer, { maxAttempts: 77 }))
      yield* Effect.promise(() => cut)
      const again = proxy.cutReply((command) => /^evalsha .* 77$/i.test(command))
      assert.strictEqual(yield* S.settle(other, entry, { _tag: "Release" }), "done")
      yield* Effect.promise(() => again)
      const [taken] = yield* S.joined(fiber)
      assert.deepStrictEqual([taken?.attempt, taken?.reclaims], [1, 0])
    }).pipe(Effect.scoped)
  )

  for (const [name, outcome, answer] of [
    ["ack", S.ack, "unknown"],
    ["retry", { _tag: "Retry", delay: S.millis(3_600_000), cause: "no" }, "unknown"],
    ["dead letter", { _tag: "DeadLetter", reason: "rejected", cause: "no", attempts: 1 }, "unknown"],
    ["release", { _tag: "Release" }, "lost"]
  ] as const) {
    it.live(`a settle whose reply was cut is Unknown; repeated, it changes nothing: ${name}`, () =>
      Effect.gen(function* () {
        const { admin, direct, proxy, transport } = yield* setup()
        const consumer = yield* S.join(transport)
        yield* S.publish(direct, "x")
        const [entry] = yield* S.fetching(consumer)
        if (entry === undefined) return assert.fail("nothing was fetched")
        // or the reply that is cut would be that there is no such script, and nothing would be done twice
        for (const { lua } of Scripts.all) yield* Effect.promise(() => admin.script("LOAD", lua))
        const cut = proxy.cutReply(
          (command) => command.toUpperCase().startsWith("EVALSHA") && command.includes(entry.id)
        )
        const error = yield* Effect.flip(S.settle(consumer, entry, outcome))
        yield* Effect.promise(() => cut)
        yield* Effect.sleep(300)
        const settled = yield* S.settle(consumer, entry, outcome, true)
        assert.strictEqual(error.reason._tag, "Unknown")
        const once = typeof settled === "object" ? settled._tag : settled
        assert.strictEqual(once, answer)
        const { deadLetters, due, pending } = yield* direct.inspect(S.group())
        assert.deepStrictEqual(
          [pending, due, deadLetters],
          name === "ack" ? [0, 0, 0] : name === "retry" ? [0, 1, 0] : name === "dead letter" ? [0, 0, 1] : [1, 0, 0]
        )
      }).pipe(Effect.scoped)
    )
  }
})

describe("memory is full", () => {
  it.live("acks and releases work, a failure that cannot be stored says so and stays", () =>
    Effect.gen(function* () {
      const { admin, direct, transport } = yield* setup(["--maxmemory-policy", "noeviction"])
      const consumer = yield* S.join(transport)
      yield* S.publish(direct, "ack", "retry", "dead", "release")
      const entries = yield* S.fetching(consumer)
      const [a, b, c, d] = entries
      if (a === undefined || b === undefined || c === undefined || d === undefined) return assert.fail("deliveries")
      yield* Effect.promise(() => admin.config("SET", "maxmemory", "1"))
      const settled = yield* consumer.settle([
        { entry: a, outcome: S.ack, repeated: false },
        { entry: b, outcome: { _tag: "Retry", delay: S.millis(0), cause: "no" }, repeated: false },
        { entry: c, outcome: { _tag: "DeadLetter", reason: "rejected", cause: "no", attempts: 1 }, repeated: false },
        { entry: d, outcome: { _tag: "Release" }, repeated: false }
      ])
      assert.deepStrictEqual(
        settled.map((one) => (typeof one === "object" && "reason" in one ? one.reason._tag : one)),
        ["done", "Unavailable", "Unavailable", "done"]
      )
      assert.deepStrictEqual(yield* consumer.extend([b, c]), [])
      yield* consumer.mark("main", b.id)
      // given back while memory is full, and taken again
      const [again] = yield* S.fetching(consumer)
      assert.strictEqual(again === undefined ? "" : S.text(again), "release")
      const tended = yield* transport.tend(S.group())
      assert.strictEqual(tended.moved, 0)
      yield* Effect.promise(() => admin.config("SET", "maxmemory", "0"))
      assert.strictEqual(yield* S.settle(consumer, b, { _tag: "Retry", delay: S.millis(0), cause: "no" }), "done")
    }).pipe(Effect.scoped)
  )
})

describe("a server that comes back", () => {
  it.live("restarted with its data: the consumer goes on by itself, with few commands meanwhile", () =>
    Effect.gen(function* () {
      const { direct, redis, transport } = yield* setup(["--appendonly", "yes", "--appendfsync", "always"])
      const consumer = yield* S.join(transport)
      yield* S.publish(direct, "held", "next")
      const [held] = yield* S.fetching(consumer, { count: 1 })
      if (held === undefined) return assert.fail("nothing was fetched")
      yield* Effect.promise(() => redis.kill())
      const error = yield* Effect.flip(consumer.fetch(S.limit()))
      assert.include(["Unavailable", "Unknown"], error.reason._tag)
      yield* Effect.promise(() => redis.restart())
      const [next] = yield* S.fetching(consumer)
      assert.strictEqual(next === undefined ? "" : S.text(next), "next")
      assert.strictEqual(yield* S.settle(consumer, held, S.ack), "done")
    }).pipe(Effect.scoped)
  )

  it.live("closing in an outage does not hang", () =>
    Effect.gen(function* () {
      const { proxy, transport } = yield* setup()
      const scope = yield* Scope.make()
      yield* Scope.provide(S.join(transport), scope)
      proxy.refuse(true)
      proxy.cutAll()
      const begun = performance.now()
      yield* Scope.close(scope, Exit.void)
      assert.isBelow(performance.now() - begun, 4000)
    }).pipe(Effect.scoped)
  )
})
