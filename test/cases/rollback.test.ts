/**
 * Subscribing that fails or is interrupted at its k-th command leaves no trace on the server nor in the process, for every
 * k until it succeeds, and a second try works.
 */
import { Reclaimer, Subscription, Topic, Transport } from "@clutch/core"
import { RedisClient, RedisTransport } from "@clutch/redis"
import { assert, describe } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import type { Redis } from "ioredis"
import { wrapped } from "../support/native.ts"
import {
  admin,
  as,
  clients,
  connectionsOf,
  fibers,
  fresh,
  keysOf,
  privateServer,
  proxyTo,
  recorder,
  test,
  texts,
  until,
  worker,
  xinfo
} from "./kit.ts"

type Mode =
  | "is refused by the server"
  | "is lost before it is sent"
  | "loses its reply"
  | "hangs until the caller is interrupted"

/** Breaks the k-th command of the shared connection, counted while it is armed. */
class Breaker {
  k = Number.POSITIVE_INFINITY
  count = 0
  mode: Mode = "loses its reply"
  meanwhile: () => Promise<void> = async () => {}
  hit: string | undefined
  /** What is listened to. */
  readonly listened = new Set<string>()

  arm(k: number, mode: Mode, meanwhile: () => Promise<void> = async () => {}): void {
    Object.assign(this, { k, mode, meanwhile, count: 0, hit: undefined })
  }

  readonly pass = async (
    command: string,
    args: ReadonlyArray<unknown>,
    send: () => Promise<unknown>
  ): Promise<unknown> => {
    this.count += 1
    if (this.count !== this.k) return send()
    this.hit = `${command} ${String(args[0]).slice(0, 8)}`
    if (this.mode === "is lost before it is sent") {
      await this.meanwhile()
      throw new Error("Connection is closed.")
    }
    if (this.mode === "is refused by the server") {
      await this.meanwhile()
      throw Object.assign(new Error("OOM command not allowed when used memory > 'maxmemory'."), { name: "ReplyError" })
    }
    await send().catch(() => {})
    await this.meanwhile()
    if (this.mode === "loses its reply") throw new Error("Connection is closed.")
    return new Promise((_, reject) => (this.hangs = reject))
  }

  hangs: ((error: Error) => void) | undefined

  /** A connection that is given up fails what waits for its reply. */
  readonly disconnected = (): void => {
    this.hangs?.(new Error("Connection is closed."))
    this.hangs = undefined
  }
}

const wired = (url: string, namespace: string, breaker: Breaker, connectionName: string) =>
  Reclaimer.layer.pipe(
    Layer.provideMerge(RedisTransport.layerClient({ namespace })),
    Layer.provide(
      RedisClient.layerFactory(
        (role) => {
          const native = wrapped(url, `${connectionName}-${role}`, (call) => (command, args) => {
            for (const key of role === "bell" ? args.map(String) : []) {
              if (command === "subscribe") breaker.listened.add(key)
              if (command === "unsubscribe") breaker.listened.delete(key)
            }
            return role === "commands" ? breaker.pass(command, args, () => call(command, args)) : call(command, args)
          })
          return {
            ...native,
            get status() {
              return native.status
            },
            disconnect: (again) => {
              native.disconnect(again)
              if (role === "commands") breaker.disconnected()
            }
          }
        },
        { commandTimeout: "1 second" }
      )
    )
  )

/** All that a case's rollback must restore, without what time alone changes. */
const snapshot = async (redis: Redis, namespace: string) => {
  const found: Record<string, unknown> = {}
  for (const key of await keysOf(redis, namespace)) {
    const type = await redis.type(key)
    if (type === "hash") {
      const fields = Object.entries(await redis.hgetall(key))
      found[key] = Object.fromEntries(fields.filter(([field]) => !field.startsWith("h:")))
    } else if (type === "stream") {
      const groups = await xinfo(redis, "GROUPS", key)
      const consumers = await Promise.all(
        groups.map(async ({ name }) =>
          (await xinfo(redis, "CONSUMERS", key, name ?? "")).map(({ name, pending }) => [name, pending])
        )
      )
      found[key] = { length: await redis.xlen(key), groups, consumers }
    } else found[key] = type
  }
  return found
}

const setUp = Effect.gen(function* () {
  const server = yield* privateServer()
  const redis = yield* admin(server.url)
  const namespace = fresh("rollback")
  const name = fresh("subscriber")
  const breaker = new Breaker()
  const context = yield* Layer.build(wired(server.url, namespace, breaker, name))
  return { server, redis, namespace, name, breaker, run: as(context), transport: Context.get(context, Transport) }
})

/** Waits until the bell no longer listens to this topic: its watch is gone. It listens to another one afterwards. */
const unwatched = (run: ReturnType<typeof as>, breaker: Breaker, topic: string) =>
  Effect.scoped(
    Effect.gen(function* () {
      const other = texts()
      yield* run(Subscription.subscribe(Subscription.make("other", other, () => Effect.void)))
      yield* until("the bell listens anew", () => [...breaker.listened].some((key) => key.includes(other.topic)))
      assert.isFalse(
        [...breaker.listened].some((key) => key.includes(topic)),
        "a watch remains"
      )
    })
  )

describe("rollback of a half-finished subscribe", () => {
  const modes: ReadonlyArray<Mode> = [
    "is refused by the server",
    "is lost before it is sent",
    "loses its reply",
    "hangs until the caller is interrupted"
  ]
  for (const mode of modes) {
    for (const company of ["alone", "while another worker creates the same group"] as const) {
      test(`2. ${company}: where the k-th command ${mode}, for every k, nothing remains, and a second try works`, () =>
        Effect.gen(function* () {
          const { breaker, name, namespace, redis, run, server } = yield* setUp
          const others = as(yield* worker({ url: server.url, namespace, connectionName: "other" }))
          for (let k = 1; ; k++) {
            assert.isBelow(k, 30, "subscribing never succeeds")
            // the script is loaded anew each time, which is a command that can fail too
            yield* Effect.promise(() => redis.script("FLUSH"))
            const topic = texts()
            const seen = recorder()
            const foreign = recorder()
            const subscription = Subscription.make("billing", topic, seen.handler(), { drainTimeout: 0 })
            const otherScope = yield* Scope.make()
            const runPromise = Effect.runPromiseWith(yield* Effect.context<never>())
            const expected = yield* Effect.promise(() => snapshot(redis, namespace))
            const meanwhile = async () => {
              if (company === "alone") return
              const twin = Subscription.make("billing", topic, foreign.handler(), { consumer: "twin" })
              await runPromise(Scope.provide(others(Subscription.subscribe(twin)), otherScope))
            }
            const observer = fibers()
            const scope = yield* Scope.make()
            const connections = (yield* Effect.promise(() => clients(redis, name))).length
            breaker.arm(k, mode, meanwhile)
            const attempt = yield* Effect.forkChild(
              Scope.provide(run(Subscription.subscribe(subscription)), scope).pipe(observer.observing, Effect.exit)
            )
            const hung = () => mode.startsWith("hangs") && breaker.hit !== undefined
            yield* until("it ends or hangs", () => hung() || attempt.pollUnsafe() !== undefined)
            if (attempt.pollUnsafe() === undefined && hung()) {
              if (company !== "alone") {
                const main = `${namespace}.{${topic.topic}}`
                yield* until("the twin has joined", async () =>
                  (await xinfo(redis, "CONSUMERS", main, "billing")).some(({ name }) => name === "twin")
                )
              }
              yield* Fiber.interrupt(attempt)
            }
            const exit = yield* Effect.flatten(Fiber.await(attempt)).pipe(
              Effect.exit,
              Effect.map(
                Exit.match({
                  onFailure: () => "failed" as const,
                  onSuccess: (inner) => (Exit.isSuccess(inner) ? ("subscribed" as const) : ("failed" as const))
                })
              )
            )
            const reached = breaker.hit !== undefined
            const at = `command ${k} (${breaker.hit})`
            if (exit === "subscribed") {
              yield* Scope.close(scope, Exit.void)
              yield* Scope.close(otherScope, Exit.void)
              if (reached) continue
              assert.isAbove(k, 1, "no command was broken")
              return
            }
            assert.isTrue(reached, at)
            yield* until(`${at}: no fiber lives, but ${observer.live()}`, () => observer.live() === 0)
            if (company !== "alone") {
              // what remains is the twin's, and works
              const left = yield* Effect.promise(() =>
                xinfo(redis, "CONSUMERS", `${namespace}.{${topic.topic}}`, "billing")
              )
              assert.deepStrictEqual(
                left.map(({ name }) => name),
                ["twin"],
                at
              )
              const state = `${namespace}.{${topic.topic}}.billing.state`
              const fields = (yield* Effect.promise(() => redis.hkeys(state))).filter((field) => field.includes(":"))
              assert.deepStrictEqual(
                fields.filter((field) => !field.endsWith(":twin")),
                [],
                at
              )
              yield* others(Topic.publish(topic, "for the twin"))
              yield* until(`${at}: the twin works`, () => foreign.data().length === 1)
              yield* others(Subscription.awaitIdle(subscription))
            } else {
              assert.deepStrictEqual(yield* Effect.promise(() => snapshot(redis, namespace)), expected, at)
            }
            yield* until(
              `${at}: as many connections as before`,
              async () => (await clients(redis, name)).length === connections
            )
            breaker.arm(Number.POSITIVE_INFINITY, mode)
            yield* unwatched(run, breaker, topic.topic)
            yield* Scope.close(otherScope, Exit.void)
            const second = yield* Scope.make()
            yield* Scope.provide(run(Subscription.subscribe(subscription)), second)
            yield* run(Topic.publish(topic, "x"))
            yield* until(`${at}: the second try`, () => seen.data().length > 0)
            yield* run(Subscription.awaitIdle(subscription))
            assert.deepStrictEqual(seen.data(), ["x"], at)
            yield* Scope.close(second, Exit.void)
            yield* Effect.promise(async () => {
              const keys = (await keysOf(redis, namespace)).filter((key) => key.includes(topic.topic))
              if (keys.length > 0) await redis.del(keys)
            })
          }
        }))
    }
  }

  test("2. where the connection is cut at the k-th reply, for every k, nothing remains once it is back", () =>
    Effect.gen(function* () {
      const server = yield* privateServer()
      const redis = yield* admin(server.url)
      const proxy = yield* proxyTo(server.url)
      const namespace = fresh("cut")
      const warm = texts()
      const run = as(yield* worker({ url: proxy.url, namespace, connectionName: "cut" }))
      for (let k = 1; ; k++) {
        assert.isBelow(k, 30, "subscribing never succeeds")
        yield* Effect.promise(() => redis.script("FLUSH"))
        yield* until("it is connected", async () => (await clients(redis, "cut")).length === connectionsOf(redis))
        yield* run(Topic.publish(warm, "ready"))
        const topic = texts()
        const seen = recorder()
        const subscription = Subscription.make("billing", topic, seen.handler(), { ownConnection: true })
        let count = 0
        let cut = false
        void proxy
          .cutReply(
            (command) =>
              /EVALSHA|SCRIPT/i.test(command) &&
              (command.includes(topic.topic) || /SCRIPT/i.test(command)) &&
              ++count === k
          )
          .then(() => {
            cut = true
          })
        const scope = yield* Scope.make()
        const exit = yield* Effect.exit(Scope.provide(run(Subscription.subscribe(subscription)), scope))
        if (Exit.isSuccess(exit)) {
          yield* Scope.close(scope, Exit.void)
          if (cut) continue
          assert.isAbove(k, 1)
          return
        }
        assert.isTrue(cut, `reply ${k}: ${String(exit)}`)
        const left = (yield* Effect.promise(() => keysOf(redis, namespace))).filter((key) => key.includes(topic.topic))
        assert.deepStrictEqual(left, [], `reply ${k}`)
        yield* Effect.scoped(
          Effect.gen(function* () {
            yield* until(
              "it is connected again",
              async () => (await clients(redis, "cut")).length === connectionsOf(redis)
            )
            yield* run(Subscription.subscribe(subscription)).pipe(Effect.retry({ times: 20 }))
            yield* run(Topic.publish(topic, "x"))
            yield* until("the second try works", () => seen.data().length > 0)
            yield* run(Subscription.awaitIdle(subscription))
            assert.deepStrictEqual(seen.data(), ["x"])
          })
        )
      }
    }))
})
