/**
 * What a lost connection, a lost group or a full memory does to deliveries: nothing is lost, and nothing is doubled but
 * what the log's loss makes so.
 */
import { TransportError } from "@clutch/core/Errors"
import type { Entry, Outcome } from "@clutch/core/Transport"
import * as RedisKeys from "@clutch/redis/RedisKeys"
import * as Scripts from "@clutch/redis/Scripts"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Logger from "effect/Logger"
import * as Scope from "effect/Scope"
import * as Exit from "effect/Exit"
import { startProxy } from "../support/proxy.ts"
import { startRedis } from "../support/redis.ts"
import * as S from "./support.ts"

type Consumer = Effect.Success<ReturnType<typeof S.join>>

const setup = (args: ReadonlyArray<string> = []) =>
  Effect.gen(function* () {
    const redis = yield* Effect.acquireRelease(
      Effect.promise(() => startRedis({ args })),
      (redis) => Effect.promise(() => redis.stop())
    )
    const proxy = yield* Effect.acquireRelease(
      Effect.promise(() => startProxy(redis.url)),
      (proxy) => Effect.promise(() => proxy.close())
    )
    const logs: Array<string> = []
    const logger = Logger.layer([Logger.make(({ message }) => void logs.push(String(message)))])
    return {
      admin: yield* S.looker(redis.url),
      /** Straight to the server. */
      direct: yield* S.transport({ url: redis.url }),
      logs,
      logger,
      proxy,
      redis,
      transport: yield* S.transport({ url: proxy.url })
    }
  })

const settle = (consumer: Consumer, entry: Entry, outcome: Outcome, repeated = false) =>
  Effect.map(consumer.settle([{ entry, outcome, repeated }]), ([settled]) => settled)
const ack: Outcome = { _tag: "Ack" }

/** Fetches as the runtime does: faults are tried again. */
const fetching = (consumer: Consumer, options?: Parameters<typeof S.limit>[0]): Effect.Effect<ReadonlyArray<Entry>> =>
  consumer.fetch(S.limit(options)).pipe(
    Effect.map(({ entries }) => entries),
    Effect.catch(() => Effect.andThen(Effect.sleep(20), fetching(consumer, options))),
    Effect.timeoutOrElse({ duration: 10_000, orElse: () => Effect.die(new Error("nothing was fetched")) })
  )

/** Acks as the runtime does: what was not sent is tried again. */
const settling = (consumer: Consumer, entry: Entry): Effect.Effect<unknown, TransportError> =>
  Effect.catchIf(
    settle(consumer, entry, ack),
    ({ reason }) => reason._tag === "Unavailable",
    () => Effect.andThen(Effect.sleep(5), settling(consumer, entry))
  ).pipe(
    Effect.flatMap((settled) =>
      settled instanceof TransportError
        ? Effect.andThen(Effect.sleep(5), settling(consumer, entry))
        : Effect.succeed(settled)
    )
  )

/** Everything that a consumer is given for a while, acked. */
const drained = (consumer: Consumer, forMillis: number) =>
  Effect.gen(function* () {
    const seen: Array<string> = []
    yield* Effect.gen(function* () {
      for (;;) {
        for (const entry of yield* fetching(consumer)) {
          seen.push(`${S.text(entry)} ${entry.attempt}`)
          yield* settle(consumer, entry, ack)
        }
      }
    }).pipe(Effect.timeoutOption(forMillis))
    return seen.toSorted()
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
            const fiber = yield* Effect.forkChild(fetching(consumer))
            yield* Effect.sleep(20)
            yield* S.publish(direct, `${round}`)
            yield* Effect.promise(() => cut)
            const entries = yield* S.joined(fiber)
            assert.deepStrictEqual(
              entries.map((entry) => [S.text(entry), entry.attempt, entry.reclaims]),
              [[`${round}`, 1, 0]]
            )
            const [entry] = entries
            if (entry !== undefined) assert.strictEqual(yield* settle(consumer, entry, ack), "done")
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
        const [first] = yield* fetching(consumer)
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
        const fetched = yield* Effect.forkChild(fetching(consumer), { startImmediately: true })
        if (asked === "while") {
          yield* S.until("it is delivered", async () => (await admin.xpending(main, mainGroup))[0] === 1)
          assert.strictEqual(yield* acked, "lost")
          proxy.delayReplies(0)
        }
        const [second] = yield* S.joined(fetched)
        if (second === undefined) return assert.fail("nothing was fetched")
        if (asked === "when") assert.strictEqual(yield* acked, "lost")
        assert.deepStrictEqual([second.id, second.attempt], [first.id, 1])
        assert.strictEqual(yield* settle(consumer, second, ack), "done")
      }).pipe(Effect.scoped)
    )
  }

  it.live("what is held stays held: it is not given back by the comparison", () =>
    Effect.gen(function* () {
      const { admin, direct, proxy, transport } = yield* setup()
      const consumer = yield* S.join(transport)
      yield* S.publish(direct, "held", "lost")
      const [held] = yield* fetching(consumer, { count: 1 })
      if (held === undefined) return assert.fail("nothing was fetched")
      const cut = proxy.cutReply((command) => command.toLowerCase().startsWith("xreadgroup"))
      const fiber = yield* Effect.forkChild(fetching(consumer))
      yield* Effect.promise(() => cut)
      const [lost] = yield* S.joined(fiber)
      assert.strictEqual(lost === undefined ? "" : S.text(lost), "lost")
      assert.strictEqual(lost?.attempt, 1)
      const owners = yield* Effect.promise(() => admin.xpending("clutch.{orders}", "billing", "-", "+", 10))
      assert.strictEqual(owners.length, 2)
      assert.strictEqual(yield* settle(consumer, held, ack), "done")
    }).pipe(Effect.scoped)
  )

  it.live("what was taken from others, and whose reply was cut, comes back", () =>
    Effect.gen(function* () {
      const { direct, proxy, transport } = yield* setup()
      const other = yield* S.join(direct)
      const consumer = yield* S.join(transport)
      yield* S.publish(direct, "x")
      const [entry] = yield* fetching(other)
      if (entry === undefined) return assert.fail("nothing was fetched")
      // the script that takes is the only one with this many attempts allowed
      const cut = proxy.cutReply((command) => /^evalsha .* 77$/i.test(command))
      const fiber = yield* Effect.forkChild(fetching(consumer, { maxAttempts: 77 }))
      yield* Effect.promise(() => cut)
      const again = proxy.cutReply((command) => /^evalsha .* 77$/i.test(command))
      assert.strictEqual(yield* settle(other, entry, { _tag: "Release" }), "done")
      yield* Effect.promise(() => again)
      const [taken] = yield* S.joined(fiber)
      assert.deepStrictEqual([taken?.attempt, taken?.reclaims], [1, 0])
    }).pipe(Effect.scoped)
  )

  for (const [name, outcome, answer] of [
    ["ack", ack, "unknown"],
    ["retry", { _tag: "Retry", delay: S.millis(3_600_000), cause: "no" }, "unknown"],
    ["dead letter", { _tag: "DeadLetter", reason: "rejected", cause: "no", attempts: 1 }, "unknown"],
    ["release", { _tag: "Release" }, "lost"]
  ] as const) {
    it.live(`a settle whose reply was cut is Unknown; repeated, it changes nothing: ${name}`, () =>
      Effect.gen(function* () {
        const { admin, direct, proxy, transport } = yield* setup()
        const consumer = yield* S.join(transport)
        yield* S.publish(direct, "x")
        const [entry] = yield* fetching(consumer)
        if (entry === undefined) return assert.fail("nothing was fetched")
        // or the reply that is cut would be that there is no such script, and nothing would be done twice
        for (const { lua } of Scripts.all) yield* Effect.promise(() => admin.script("LOAD", lua))
        const cut = proxy.cutReply(
          (command) => command.toUpperCase().startsWith("EVALSHA") && command.includes(entry.id)
        )
        const error = yield* Effect.flip(settle(consumer, entry, outcome))
        yield* Effect.promise(() => cut)
        yield* Effect.sleep(300)
        const settled = yield* settle(consumer, entry, outcome, true)
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

  it.live(
    "CLIENT KILL of all connections, again and again, under load: each message once",
    () =>
      Effect.gen(function* () {
        const { admin, direct, redis } = yield* setup()
        const victim = yield* S.transport({ url: redis.url, connectionName: "victim" })
        const consumer = yield* S.join(victim)
        const total = 1000
        const publisher = yield* Effect.forkChild(
          Effect.gen(function* () {
            for (let i = 0; i < total; i++) {
              yield* S.publish(direct, `${i}`)
              if (i % 3 === 0) yield* Effect.sleep(5)
            }
          })
        )
        const seen = new Map<string, number>()
        let unknown = 0
        const killer = yield* Effect.gen(function* () {
          for (;;) {
            yield* Effect.sleep(150)
            yield* Effect.promise(async () => {
              for (const line of String(await admin.client("LIST")).split("\n")) {
                const id = /^id=(\d+) .* name=victim-/.exec(line)?.[1]
                if (id !== undefined && Math.random() < 0.7) await admin.client("KILL", "ID", id)
              }
            })
          }
        }).pipe(Effect.forkChild)
        const settleAgain = (entry: Entry, repeated: boolean): Effect.Effect<unknown> =>
          settle(consumer, entry, ack, repeated).pipe(
            Effect.flatMap((settled) => (settled instanceof TransportError ? Effect.fail(settled) : Effect.void)),
            Effect.catch((error) => {
              if (error.reason._tag === "Unknown") unknown += 1
              return Effect.andThen(Effect.sleep(20), settleAgain(entry, repeated || error.reason._tag === "Unknown"))
            })
          )
        while (seen.size < total) {
          for (const entry of yield* fetching(consumer)) {
            const data = S.text(entry)
            seen.set(data, (seen.get(data) ?? 0) + 1)
            yield* settleAgain(entry, false)
          }
        }
        yield* Fiber.interrupt(killer)
        yield* Fiber.join(publisher)
        assert.deepStrictEqual(
          Array.from(seen).filter(([, times]) => times !== 1),
          []
        )
        const { pending } = yield* direct.inspect(S.group())
        assert.strictEqual(pending, 0, `${unknown} settles were unknown`)
      }).pipe(Effect.scoped, Effect.timeout("50 seconds")),
    60_000
  )
})

describe("a lost group", () => {
  const losses = [
    ["FLUSHALL", (admin: S.Admin) => admin.flushall()],
    ["XGROUP DESTROY", (admin: S.Admin) => admin.xgroup("DESTROY", "clutch.{orders}", "billing")],
    [
      "XGROUP DESTROY of the retry group",
      (admin: S.Admin) => admin.xgroup("DESTROY", "clutch.{orders}.billing.retry", "billing-retry")
    ],
    ["DEL of the stream", (admin: S.Admin) => admin.del("clutch.{orders}")],
    ["DEL of the retry stream", (admin: S.Admin) => admin.del("clutch.{orders}.billing.retry")]
  ] as const
  for (const ownConnection of [false, true]) {
    for (const [name, lose] of losses) {
      it.live(
        `${name} while waiting${ownConnection ? ", own connection" : ""}: what comes next is delivered, retries too`,
        () =>
          Effect.gen(function* () {
            const { admin, direct, logs, logger, transport } = yield* setup()
            const consumer = yield* S.join(transport, { ownConnection })
            yield* S.publish(direct, "before")
            const [before] = yield* fetching(consumer)
            if (before === undefined) return assert.fail("nothing was fetched")
            yield* settle(consumer, before, ack)
            const fiber = yield* Effect.forkChild(Effect.provide(fetching(consumer), logger))
            yield* Effect.sleep(50)
            yield* Effect.promise(() => lose(admin))
            yield* S.publish(direct, "after")
            const seen = new Map<string, Entry>()
            for (const entry of yield* S.joined(fiber)) seen.set(S.text(entry), entry)
            while (!seen.has("after")) {
              for (const entry of yield* Effect.provide(fetching(consumer), logger)) seen.set(S.text(entry), entry)
            }
            const after = seen.get("after")
            if (after === undefined) return assert.fail("not delivered")
            assert.strictEqual(after.attempt, 1)
            assert.strictEqual(
              yield* settle(consumer, after, { _tag: "Retry", delay: S.millis(0), cause: "no" }),
              "done"
            )
            yield* transport.tend(S.group())
            let retried: Entry | undefined
            while (retried?.originalId !== after.id) {
              ;[retried] = yield* Effect.provide(fetching(consumer), logger)
            }
            assert.strictEqual(retried.attempt, 2)
            assert.strictEqual(yield* settle(consumer, retried, ack), "done")
            assert.isAtMost(logs.filter((line) => line.includes("disappeared")).length, 1)
          }).pipe(Effect.scoped)
      )
    }
  }

  it.live("a group that was destroyed goes on where it was: what was settled is not repeated", () =>
    Effect.gen(function* () {
      const { admin, direct, logs, logger, transport } = yield* setup()
      const consumer = yield* S.join(transport)
      yield* S.publish(direct, "1", "2", "3")
      const entries = yield* fetching(consumer)
      const [one, two] = entries
      if (one === undefined || two === undefined) return assert.fail("nothing was fetched")
      yield* settle(consumer, one, ack)
      yield* consumer.extend([two])
      yield* Effect.promise(() => admin.xgroup("DESTROY", "clutch.{orders}", "billing"))
      yield* S.publish(direct, "4")
      const seen = yield* Effect.provide(drained(consumer, 500), logger)
      assert.deepStrictEqual(seen, ["2 1", "3 1", "4 1"])
      assert.deepStrictEqual(logs.filter((line) => line.includes("disappeared")).length, 1)
      assert.match(logs.join(), /3 of the messages may repeat/)
    }).pipe(Effect.scoped)
  )
})

describe("memory is full", () => {
  it.live("acks and releases work, a failure that cannot be stored says so and stays", () =>
    Effect.gen(function* () {
      const { admin, direct, transport } = yield* setup(["--maxmemory-policy", "noeviction"])
      const consumer = yield* S.join(transport)
      yield* S.publish(direct, "ack", "retry", "dead", "release")
      const entries = yield* fetching(consumer)
      const [a, b, c, d] = entries
      if (a === undefined || b === undefined || c === undefined || d === undefined) return assert.fail("deliveries")
      yield* Effect.promise(() => admin.config("SET", "maxmemory", "1"))
      const settled = yield* consumer.settle([
        { entry: a, outcome: ack, repeated: false },
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
      const [again] = yield* fetching(consumer)
      assert.strictEqual(again === undefined ? "" : S.text(again), "release")
      const tended = yield* transport.tend(S.group())
      assert.strictEqual(tended.moved, 0)
      yield* Effect.promise(() => admin.config("SET", "maxmemory", "0"))
      assert.strictEqual(yield* settle(consumer, b, { _tag: "Retry", delay: S.millis(0), cause: "no" }), "done")
    }).pipe(Effect.scoped)
  )
})

describe("a server that comes back", () => {
  it.live("restarted with its data: the consumer goes on by itself, with few commands meanwhile", () =>
    Effect.gen(function* () {
      const { direct, redis, transport } = yield* setup(["--appendonly", "yes", "--appendfsync", "always"])
      const consumer = yield* S.join(transport)
      yield* S.publish(direct, "held", "next")
      const [held] = yield* fetching(consumer, { count: 1 })
      if (held === undefined) return assert.fail("nothing was fetched")
      yield* Effect.promise(() => redis.kill())
      const error = yield* Effect.flip(consumer.fetch(S.limit()))
      assert.include(["Unavailable", "Unknown"], error.reason._tag)
      yield* Effect.promise(() => redis.restart())
      const [next] = yield* fetching(consumer)
      assert.strictEqual(next === undefined ? "" : S.text(next), "next")
      assert.strictEqual(yield* settle(consumer, held, ack), "done")
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
