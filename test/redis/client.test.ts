/**
 * The client: every connection is made of the same options, resends nothing, and is gone with its scope.
 */
import { assert, describe, it } from "@effect/vitest"
import { TransportError } from "@clutch/core/Errors"
import { type Options, RedisClient } from "@clutch/redis/RedisClient"
import * as Scripts from "@clutch/redis/Scripts"
import * as RedisKeys from "@clutch/redis/RedisKeys"
import * as Config from "effect/Config"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Scope from "effect/Scope"
import { Redis } from "ioredis"
import { randomUUID } from "node:crypto"
import { createServer } from "node:net"
import { inspect } from "node:util"
import { inject } from "vitest"
import { disconnected } from "../../packages/redis/src/internal/errors.ts"
import { startProxy } from "../support/proxy.ts"
import { freePort, startRedis } from "../support/redis.ts"
import * as S from "./support.ts"

const url = inject("redisUrl")

/** The names of the connections that the server has, of one client. */
const connections = (looker: Redis, name: string) =>
  Effect.promise(async () => {
    const list = String(await looker.client("LIST"))
    return list
      .split("\n")
      .flatMap((line) => / name=(\S+)/.exec(line)?.[1] ?? [])
      .filter((one) => one.startsWith(name))
      .toSorted()
  })

const proxied = (target: string) =>
  Effect.acquireRelease(
    Effect.promise(() => startProxy(target)),
    (proxy) => Effect.promise(() => proxy.close())
  )
const server = (args: ReadonlyArray<string> = []) =>
  Effect.acquireRelease(
    Effect.promise(() => startRedis({ args })),
    (redis) => Effect.promise(() => redis.stop())
  )
const client = (options: Options) => RedisClient.make(options)

/** The reason of a failed effect. */
const reason = <A, R>(effect: Effect.Effect<A, TransportError, R>) =>
  Effect.map(Effect.flip(effect), (error) => error.reason._tag)

describe("RedisClient", () => {
  it.live("connection options reach every connection", () =>
    Effect.gen(function* () {
      const redis = yield* server()
      const admin = yield* S.looker(redis.url)
      yield* Effect.promise(() => admin.acl("SETUSER", "worker", "on", ">secret", "~*", "&*", "+@all"))
      yield* Effect.promise(() => admin.acl("SETUSER", "default", "resetpass", "off"))
      const one = yield* client({
        url: redis.url + "/3",
        username: "worker",
        password: Redacted.make("secret"),
        connectionName: "shop",
        keepAlive: "5 seconds"
      })
      const bell = yield* one.open("bell", { block: "1 second" })
      yield* Effect.promise(async () => {
        while (!bell.isReady()) await new Promise((resolve) => setTimeout(resolve, 5))
      })
      for (const connection of [one, bell]) {
        assert.strictEqual(String(yield* connection.command("ACL", ["WHOAMI"])), "worker")
        assert.include(String(yield* connection.command("CLIENT", ["INFO"])), " db=3 ")
      }
      assert.deepStrictEqual(yield* connections(admin, "shop"), ["shop-bell", "shop-commands"])
    }).pipe(Effect.scoped)
  )

  it.live("options of Config: the URL is a secret", () =>
    Effect.gen(function* () {
      const options = { url: Config.Redacted("REDIS_URL"), connectionName: Config.String("NAME") }
      const layer = RedisClient.layerConfig(options).pipe(
        Layer.provide(ConfigProvider.layer(ConfigProvider.fromEnvRecord({ REDIS_URL: url, NAME: "configured" })))
      )
      const context = yield* Layer.build(layer)
      const one = Context.get(context, RedisClient)
      assert.strictEqual(String(yield* one.command("CLIENT", ["GETNAME"])), "configured-commands")
    }).pipe(Effect.scoped)
  )

  it.live("a wrong password is refused at once, and is in no error", () =>
    Effect.gen(function* () {
      const redis = yield* server(["--requirepass", "right-one"])
      const error = yield* Effect.flip(client({ url: redis.url, password: "wrong-one" }))
      assert.strictEqual(error.reason._tag, "Refused")
      assert.include(error.reason.message, "check the options `username` and `password`")
      const without = yield* Effect.flip(client({ url: redis.url }))
      assert.strictEqual(without.reason._tag, "Refused")
      assert.include(without.reason.message, "give the option `password`")
      const malformed = yield* Effect.flip(client({ url: "redis//:wrong-one@" }))
      assert.strictEqual(malformed.reason._tag, "InvalidOption")
      for (const one of [error, malformed]) {
        for (const text of [String(one), inspect(one, { depth: 20, showHidden: true }), JSON.stringify(one)]) {
          assert.notInclude(text, "wrong-one")
        }
      }
    }).pipe(Effect.scoped)
  )

  it.live("a server that cannot be reached fails the layer within connectTimeout", () =>
    Effect.gen(function* () {
      const port = yield* Effect.promise(freePort)
      const begun = performance.now()
      const tag = yield* reason(client({ url: `redis://127.0.0.1:${port}`, connectTimeout: "300 millis" }))
      assert.strictEqual(tag, "Unavailable")
      assert.isBelow(performance.now() - begun, 1000)
    }).pipe(Effect.scoped)
  )

  it("what an unwritten command is told with speaks of no option that nobody can set", () => {
    const last = new Error("Stream isn't writeable and enableOfflineQueue options is false")
    const { reason } = disconnected("connect", last)
    assert.strictEqual(reason._tag, "Unavailable")
    assert.strictEqual(reason.message, "not connected")
    assert.strictEqual(
      disconnected("connect", new Error("connect ETIMEDOUT")).reason.message,
      "not connected (connect ETIMEDOUT)"
    )
  })

  it.live("no socket is left after the scope, nor after an interrupted or failed construction", () =>
    Effect.gen(function* () {
      const admin = yield* S.looker(url)
      const name = `left-${randomUUID().slice(0, 8)}`
      yield* Effect.scoped(
        Effect.gen(function* () {
          const one = yield* client({ url, connectionName: name })
          const bell = yield* one.open("bell", { block: "5 seconds" })
          const blocked = yield* Effect.forkChild(
            Effect.exit(bell.command("XREAD", ["BLOCK", "5000", "STREAMS", name, "$"]))
          )
          yield* Effect.sleep(50)
          assert.strictEqual((yield* connections(admin, name)).length, 2)
          yield* Fiber.interrupt(blocked)
        })
      )
      assert.deepStrictEqual(yield* connections(admin, name), [])

      // a listener that never answers: construction hangs until it is interrupted
      let open = 0
      const silent = createServer((socket) => {
        open += 1
        socket
          .on("error", () => {})
          .on("data", () => {})
          .on("close", () => {
            open -= 1
          })
      })
      yield* Effect.promise(() => new Promise<void>((resolve) => silent.listen(0, "127.0.0.1", resolve)))
      const address = silent.address()
      const port = typeof address === "object" && address !== null ? address.port : 0
      const fiber = yield* Effect.forkChild(
        Effect.scoped(Layer.build(Layer.fresh(RedisClient.layer({ url: `redis://127.0.0.1:${port}` }))))
      )
      yield* Effect.sleep(100)
      assert.strictEqual(open, 1)
      yield* Fiber.interrupt(fiber)
      yield* Effect.sleep(50)
      assert.strictEqual(open, 0)
      yield* Effect.promise(() => new Promise((resolve) => silent.close(resolve)))
    }).pipe(Effect.scoped)
  )

  it.live("a script is loaded again after SCRIPT FLUSH", () =>
    Effect.gen(function* () {
      const redis = yield* server()
      const one = yield* client({ url: redis.url })
      const keys = RedisKeys.log("n", { topic: "t", partition: 0 })
      const input = { keys, entries: [["data", "1"]] as const, retention: S.noRetention }
      yield* one.run(Scripts.publish, input)
      yield* one.command("SCRIPT", ["FLUSH"])
      const all = yield* Effect.all([one.run(Scripts.publish, input), one.run(Scripts.publish, input)], {
        concurrency: "unbounded"
      })
      assert.strictEqual(all.length, 2)
      assert.strictEqual(yield* one.command("XLEN", [keys.main]), 3)
    }).pipe(Effect.scoped)
  )

  it.live("a reply that is cut is Unknown, and the command was sent once", () =>
    Effect.gen(function* () {
      const redis = yield* server()
      const proxy = yield* proxied(redis.url)
      const one = yield* client({ url: proxy.url })
      const cut = proxy.cutReply((command) => command.toUpperCase().startsWith("INCR"))
      assert.strictEqual(yield* reason(one.command("INCR", ["n"])), "Unknown")
      yield* Effect.promise(() => cut)
      yield* Effect.promise(async () => {
        while (!one.isReady()) await new Promise((resolve) => setTimeout(resolve, 5))
      })
      yield* Effect.sleep(100)
      assert.strictEqual(String(yield* one.command("GET", ["n"])), "1")
      assert.strictEqual(one.epoch(), 2)
    }).pipe(Effect.scoped)
  )

  it.live("a server that is gone: Unavailable at once; when it is back, so is the client", () =>
    Effect.gen(function* () {
      const redis = yield* server()
      const one = yield* client({ url: redis.url })
      yield* Effect.promise(() => redis.kill())
      yield* Effect.sleep(50)
      const begun = performance.now()
      assert.strictEqual(yield* reason(one.command("PING", [])), "Unavailable")
      assert.isBelow(performance.now() - begun, 20)
      yield* Effect.promise(() => redis.restart())
      yield* Effect.promise(async () => {
        while (!one.isReady()) await new Promise((resolve) => setTimeout(resolve, 5))
      })
      assert.strictEqual(String(yield* one.command("PING", [])), "PONG")
    }).pipe(Effect.scoped)
  )

  it.live("a server that falls silent: Unknown after commandTimeout, on a new connection after it", () =>
    Effect.gen(function* () {
      const redis = yield* server()
      const one = yield* client({ url: redis.url, commandTimeout: "300 millis" })
      process.kill(redis.pid(), "SIGSTOP")
      const begun = performance.now()
      assert.strictEqual(yield* reason(one.command("PING", [])), "Unknown")
      assert.isBelow(performance.now() - begun, 1500)
      process.kill(redis.pid(), "SIGCONT")
      yield* Effect.promise(async () => {
        while (!one.isReady()) await new Promise((resolve) => setTimeout(resolve, 5))
      })
      assert.strictEqual(one.epoch(), 2)
    }).pipe(Effect.scoped)
  )

  it.live("timeouts that are longer than a timer can wait are no short ones", () =>
    Effect.gen(function* () {
      const warnings: Array<string> = []
      const listener = ({ name }: Error) => void warnings.push(name)
      yield* Effect.acquireRelease(
        Effect.sync(() => process.on("warning", listener)),
        () => Effect.sync(() => process.off("warning", listener))
      )
      const long = "30 days"
      const one = yield* client({ url, commandTimeout: long, connectTimeout: long, keepAlive: long })
      yield* one.command("BLPOP", [randomUUID(), "0.2"])
      assert.deepStrictEqual(warnings, [])
      assert.strictEqual(one.epoch(), 1)
    }).pipe(Effect.scoped)
  )

  it.live("a reply that came while the event loop was blocked is one, however long that took", () =>
    Effect.gen(function* () {
      const one = yield* client({ url, commandTimeout: "200 millis" })
      const reply = one.submit("PING", [])
      const until = performance.now() + 400
      while (performance.now() < until);
      assert.strictEqual(String(yield* Effect.promise(() => reply)), "PONG")
      assert.strictEqual(String(yield* one.command("PING", [])), "PONG")
      assert.strictEqual(one.epoch(), 1)
    }).pipe(Effect.scoped)
  )

  it.live("what is too long to be written: Refused, at once, and nothing is waited for", () =>
    Effect.gen(function* () {
      const one = yield* client({ url, commandTimeout: "100 millis" })
      const long = "x".repeat(2 ** 26)
      const tooLong = one.command(
        "ECHO",
        Array.from({ length: 9 }, () => long)
      )
      assert.strictEqual(yield* reason(tooLong), "Refused")
      yield* Effect.sleep(250)
      assert.strictEqual(String(yield* one.command("PING", [])), "PONG")
      assert.strictEqual(one.epoch(), 1)
    }).pipe(Effect.scoped)
  )

  it.live("a list that is published and is too long to be written fails, and the process lives", () =>
    Effect.gen(function* () {
      const { options } = yield* S.shared
      const transport = yield* S.transport(options)
      const message = { data: "x".repeat(2 ** 26), attributes: undefined }
      const publishing = transport.publish(
        { topic: "orders", partition: 0 },
        [message, ...Array.from({ length: 8 }, () => message)],
        S.noRetention
      )
      assert.strictEqual(yield* reason(publishing), "Refused")
      assert.strictEqual((yield* S.publish(transport, "short")).ids.length, 1)
    }).pipe(Effect.scoped)
  )

  it.live("what the server says: Unavailable where it may pass, Refused where somebody must act, else a defect", () =>
    Effect.gen(function* () {
      const redis = yield* server(["--maxmemory", "1kb", "--maxmemory-policy", "noeviction"])
      const admin = yield* S.looker(redis.url)
      const one = yield* client({ url: redis.url })
      assert.strictEqual(yield* reason(one.command("SET", ["k", "x".repeat(100)])), "Unavailable", "OOM")
      const keys = RedisKeys.log("n", { topic: "t", partition: 0 })
      const input = { keys, entries: [["data", "1"]] as const, retention: S.noRetention }
      assert.strictEqual(yield* reason(one.run(Scripts.publish, input)), "Unavailable", "OOM in a script")
      yield* Effect.promise(() => admin.config("SET", "maxmemory", "0"))
      yield* one.command("SET", [keys.main, "text"])
      assert.strictEqual(yield* reason(one.command("XLEN", [keys.main])), "Refused", "WRONGTYPE")
      assert.strictEqual(yield* reason(one.run(Scripts.publish, input)), "Refused", "WRONGTYPE in a script")
      yield* Effect.promise(() => admin.acl("SETUSER", "default", "-get"))
      assert.strictEqual(yield* reason(one.command("GET", ["k"])), "Refused", "NOPERM")
      yield* Effect.promise(() => admin.config("SET", "min-replicas-to-write", "1"))
      assert.strictEqual(yield* reason(one.command("SET", ["k", "v"])), "Unavailable", "NOREPLICAS")
      yield* Effect.promise(() => admin.config("SET", "min-replicas-to-write", "0"))
      yield* Effect.promise(() => admin.replicaof("127.0.0.1", "1"))
      assert.strictEqual(yield* reason(one.command("SET", ["k", "v"])), "Unavailable", "READONLY")
      const bug = yield* Effect.exit(client({ url: redis.url }).pipe(Effect.flatMap((c) => c.command("XLEN", []))))
      assert.isTrue(Exit.isFailure(bug) && bug.cause.reasons.some((one) => one._tag === "Die"))
    }).pipe(Effect.scoped)
  )

  it.live("commands behind which the server sends unasked are refused", () =>
    Effect.gen(function* () {
      const one = yield* client({ url })
      for (const command of ["SUBSCRIBE", "psubscribe", "MONITOR"]) {
        const error = yield* Effect.flip(one.command(command, ["news"]))
        assert.strictEqual(error.reason._tag, "Refused")
        assert.include(error.reason.message, "a client of your own")
      }
      assert.strictEqual(String(yield* one.command("PING", [])), "PONG")
    }).pipe(Effect.scoped)
  )

  it.live("another client of the same shape can be given", () =>
    Effect.gen(function* () {
      const roles: Array<string> = []
      const one = yield* RedisClient.fromFactory((role) => {
        roles.push(role)
        return new Redis(url, {
          lazyConnect: true,
          maxRetriesPerRequest: 0,
          enableOfflineQueue: false,
          autoResendUnfulfilledCommands: false
        })
      })
      assert.strictEqual(String(yield* one.command("PING", [])), "PONG")
      assert.deepStrictEqual(roles, ["commands"])
      const scope = yield* Scope.make()
      yield* Scope.provide(one.open("bell"), scope)
      yield* Scope.close(scope, Exit.void)
      assert.deepStrictEqual(roles, ["commands", "bell"])
    }).pipe(Effect.scoped)
  )
})
