/**
 * Options: each one that is given has an effect, and one that cannot be meant is refused by its name.
 *
 * Where Sentinel, Cluster or TLS are asked for, the URL alone would lead to a server that answers: an option that is
 * dropped on the way connects, and the test fails.
 */
import { assert, describe, it } from "@effect/vitest"
import { Subscription, Topic } from "@clutch/core"
import type { TransportError } from "@clutch/core/Errors"
import { RedisClient, RedisTransport } from "@clutch/redis"
import * as Deferred from "effect/Deferred"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import { once } from "node:events"
import { readFileSync } from "node:fs"
import { connect as connectTcp, type Socket } from "node:net"
import { createServer } from "node:tls"
import { freePort, startRedis } from "../support/redis.ts"
import * as S from "./support.ts"

const fixture = (name: string): string => readFileSync(new URL(`../support/tls/${name}`, import.meta.url), "utf8")

const server = Effect.acquireRelease(
  Effect.promise(() => startRedis()),
  (redis) => Effect.promise(() => redis.stop())
)

/** A TLS listener in front of a server: its port, and how many handshakes it has seen end well. */
const tlsTo = (port: number) =>
  Effect.acquireRelease(
    Effect.promise(async () => {
      const sockets = new Set<Socket>()
      let secured = 0
      const listener = createServer({ key: fixture("server.key"), cert: fixture("server.crt") }, (client) => {
        secured += 1
        const upstream = connectTcp(port, "127.0.0.1")
        const close = () => {
          client.destroy()
          upstream.destroy()
        }
        for (const socket of [client, upstream]) {
          sockets.add(socket)
          socket.setNoDelay()
          socket.on("error", close).on("close", close)
        }
        client.pipe(upstream).pipe(client)
      })
      // a client that does not trust the certificate breaks off: that is the test
      listener.on("tlsClientError", () => {})
      listener.listen(0, "127.0.0.1")
      await once(listener, "listening")
      const address = listener.address()
      if (address === null || typeof address === "string") throw new Error("a TLS server has no port")
      return { listener, port: address.port, secured: () => secured, sockets }
    }),
    ({ listener, sockets }) =>
      Effect.promise(async () => {
        for (const socket of sockets) socket.destroy()
        listener.close()
        await once(listener, "close")
      })
  )

/** Why a transport cannot be made. */
const failure = (options: RedisTransport.Options): Effect.Effect<TransportError, unknown> =>
  Effect.flip(Effect.scoped(Layer.build(Layer.fresh(RedisTransport.layer(options)))))

/** The option that was refused. */
const refused = (options: RedisTransport.Options): Effect.Effect<string, unknown> =>
  Effect.map(failure(options), ({ operation, reason }) => {
    assert.strictEqual(operation, "connect")
    if (reason._tag !== "InvalidOption") return assert.fail(`${reason._tag}: ${reason.message}`)
    assert.include(reason.message, reason.option)
    return reason.option
  })

/** It is made of what a plain URL connects to, and fails as unavailable when its time is up. */
const unavailableInTime = (options: RedisTransport.Options, connectTimeout: number): Effect.Effect<void, unknown> =>
  Effect.gen(function* () {
    yield* Effect.scoped(Layer.build(Layer.fresh(RedisTransport.layer({ url: options.url }))))
    const begun = performance.now()
    const error = yield* failure({ ...options, connectTimeout })
    const took = performance.now() - begun
    assert.strictEqual(error._tag, "TransportError")
    assert.strictEqual(error.operation, "connect")
    assert.strictEqual(error.reason._tag, "Unavailable", error.reason.message)
    assert.isAtMost(took, connectTimeout + 1000)
  })

/** The lines of `CLIENT LIST` whose connection has a name that begins so. */
const connections = (url: string, name: string): Effect.Effect<ReadonlyArray<string>, never, Scope.Scope> =>
  Effect.flatMap(S.looker(url), (redis) =>
    Effect.promise(async () =>
      String(await redis.client("LIST"))
        .split("\n")
        .filter((line) => line.includes(` name=${name}-`))
    )
  )

describe("Sentinel", () => {
  for (const [what, portOf] of [
    ["nobody listens", () => freePort()],
    ["a server answers that is no sentinel", (port: number) => Promise.resolve(port)]
  ] as const) {
    it.live(`where ${what}, the layer fails as Unavailable within connectTimeout`, () =>
      Effect.gen(function* () {
        const { port, url } = yield* server
        const sentinel = { host: "127.0.0.1", port: yield* Effect.promise(() => portOf(port)) }
        yield* unavailableInTime({ url, sentinel: { name: "primary", sentinels: [sentinel], password: "any" } }, 1000)
      }).pipe(Effect.scoped)
    )
  }
})

describe("Cluster", () => {
  for (const [what, portOf] of [
    ["nobody listens", () => freePort()],
    ["a server answers that is in no cluster", (port: number) => Promise.resolve(port)]
  ] as const) {
    it.live(`where ${what}, the layer fails as Unavailable within connectTimeout`, () =>
      Effect.gen(function* () {
        const { port, url } = yield* server
        const node = { host: "127.0.0.1", port: yield* Effect.promise(() => portOf(port)) }
        yield* unavailableInTime({ url, cluster: { nodes: [node] } }, 1000)
      }).pipe(Effect.scoped)
    )
  }
})

describe("TLS", () => {
  const ca = fixture("server.crt")

  it.live(
    "a server whose certificate is trusted serves publisher and subscriber; user and name reach every connection",
    () =>
      Effect.gen(function* () {
        const redis = yield* server
        const admin = yield* S.looker(redis.url)
        yield* Effect.promise(() => admin.acl("SETUSER", "worker", "on", ">secret", "~*", "&*", "+@all"))
        const proxy = yield* tlsTo(redis.port)
        const topic = Topic.make("orders", { schema: Schema.String })
        const handled = yield* Deferred.make<string>()
        const options = {
          url: `rediss://worker:secret@127.0.0.1:${proxy.port}`,
          tls: { ca },
          connectionName: "secured"
        }
        yield* Effect.gen(function* () {
          yield* Subscription.subscribe(
            Subscription.make("billing", topic, ({ data }) => Deferred.succeed(handled, data), { ownConnection: true })
          )
          yield* Topic.publish(topic, "over TLS")
          assert.strictEqual(yield* Deferred.await(handled), "over TLS")
          const list = yield* connections(redis.url, "secured")
          assert.deepStrictEqual(
            list.map((line) => /name=(\S+).* user=(\S+)/.exec(line)?.slice(1).join(" of ") ?? line).toSorted(),
            ["bell", "commands", "consumer", "consumer"].map((role) => `secured-${role} of worker`)
          )
          // none of them went past TLS
          assert.isAtLeast(proxy.secured(), list.length)
        }).pipe(Effect.provide(RedisTransport.layer(options)))
      }).pipe(Effect.scoped)
  )

  it.live("`tls` is what makes the connection secure, also where the URL says redis://", () =>
    Effect.gen(function* () {
      const redis = yield* server
      const proxy = yield* tlsTo(redis.port)
      const client = yield* RedisClient.make({ url: `redis://127.0.0.1:${proxy.port}`, tls: { ca } })
      assert.strictEqual(String(yield* client.command("PING", [])), "PONG")
      assert.strictEqual(proxy.secured(), 1)
    }).pipe(Effect.scoped)
  )

  for (const [what, tls] of [
    ["another certificate is trusted", { ca: fixture("other.crt") }],
    ["nothing but public authorities is trusted", true]
  ] as const) {
    it.live(`where ${what}, the layer fails as Unavailable within connectTimeout, and nothing was sent`, () =>
      Effect.gen(function* () {
        const redis = yield* server
        const proxy = yield* tlsTo(redis.port)
        const begun = performance.now()
        const url = `rediss://127.0.0.1:${proxy.port}`
        const error = yield* failure({ url, tls, connectTimeout: "1 second", connectionName: "wary" })
        assert.isAtMost(performance.now() - begun, 2000)
        assert.strictEqual(error._tag, "TransportError")
        assert.strictEqual(error.reason._tag, "Unavailable", error.reason.message)
        assert.lengthOf(yield* connections(redis.url, "wary"), 0)
      }).pipe(Effect.scoped)
    )
  }
})

describe("a URL that cannot be meant is refused before anything connects", () => {
  for (const url of [
    "localhost:6379",
    "127.0.0.1:6379",
    "http://127.0.0.1:6379",
    "redis://",
    "redis:///0",
    "redis://127.0.0.1:6379/abc",
    "redis://127.0.0.1:6379/1/2",
    "redis://127.0.0.1:6379/-1",
    "redis://us%er@127.0.0.1:6379",
    "redis://user:pass%zz@127.0.0.1:6379",
    "redis://127.0.0.1:70000",
    ""
  ]) {
    it.live(`"${url}"`, () =>
      Effect.gen(function* () {
        assert.strictEqual(yield* refused({ url }), "url")
      })
    )
  }

  it.live("a database that the server does not have", () =>
    Effect.gen(function* () {
      const { url } = yield* server
      assert.strictEqual(yield* refused({ url: `${url}/99` }), "url")
      const admin = yield* S.looker(url)
      // what is refused has not gone to database 0 instead
      assert.lengthOf(yield* Effect.promise(() => admin.keys("*")), 0)
      yield* Effect.scoped(Layer.build(Layer.fresh(RedisTransport.layer({ url: `${url}/15` }))))
    }).pipe(Effect.scoped)
  )
})

describe("a duration that cannot be meant is refused by its name", () => {
  for (const option of ["connectTimeout", "commandTimeout", "keepAlive"] as const) {
    for (const input of [-1, 0, Number.NaN, Infinity, "abc", "Infinity"]) {
      it.live(`${option}: ${JSON.stringify(input) === "null" ? String(input) : JSON.stringify(input)}`, () =>
        Effect.gen(function* () {
          // what a caller without types, or a variable of the environment, may give
          const duration = input as Duration.Input
          assert.strictEqual(yield* refused({ url: "redis://127.0.0.1:1", [option]: duration }), option)
        })
      )
    }
  }
})

it.live("a namespace that is no text is told as such", () =>
  Effect.gen(function* () {
    const { url } = yield* server
    const namespace = 3 as unknown as string // as from JavaScript
    const { reason } = yield* failure({ url, namespace })
    assert.isTrue(reason._tag === "InvalidName" && reason.kind === "namespace")
    assert.include(reason.message, "it is no text")
  }).pipe(Effect.scoped)
)

describe("what only an untyped caller can give is refused by its name, and not a defect", () => {
  const url = "redis://127.0.0.1:1"
  const cases: ReadonlyArray<readonly [string, unknown]> = [
    ["options", undefined],
    ["options", null],
    ["options", "redis://user:secret@127.0.0.1:1"],
    ["url", {}],
    ["url", { url: null }],
    ["tls", { url: "rediss://127.0.0.1:1", tls: null }],
    ["tls", { url, tls: "yes" }],
    ["sentinel", { url, sentinel: null }],
    ["sentinel", { url, sentinel: "main" }],
    ["sentinel.sentinels", { url, sentinel: { name: "main", sentinels: [null] } }],
    ["cluster", { url, cluster: null }],
    ["cluster", { url, cluster: ["a"] }],
    ["cluster.nodes", { url, cluster: { nodes: [null] } }],
    ["cluster.nodes", { url, cluster: { nodes: ["redis-1:6379"] } }]
  ]
  for (const [option, raw] of cases) {
    it.live(`${option}: ${JSON.stringify(raw)}`, () =>
      Effect.gen(function* () {
        const options = raw as RedisTransport.Options // as from JavaScript
        assert.strictEqual(yield* refused(options), option)
        const client = yield* Effect.flip(Effect.scoped(RedisClient.make(options)))
        assert.isTrue(client.reason._tag === "InvalidOption" && client.reason.option === option)
        assert.notInclude(client.message, "secret")
      })
    )
  }
})
