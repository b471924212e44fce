/**
 * What the tests of the Redis transport share: a transport over a server of one's own or the shared one, and a group.
 */
import type { TransportError } from "@clutch/core/Errors"
import type { Consumer, Entry, FetchLimit, Group, JoinOptions, Outcome } from "@clutch/core/Transport"
import { Transport } from "@clutch/core/Transport"
import { RedisClient, RedisTransport } from "@clutch/redis"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Result from "effect/Result"
import type * as Scope from "effect/Scope"
import { randomUUID } from "node:crypto"
import { startProxy } from "../support/proxy.ts"
import { startRedis } from "../support/redis.ts"
import { type Admin, admin as looker, connectionsOf, removeKeys, servers } from "../support/place.ts"

export { type Admin, calls, flush, keysOf, masters, own, servers, shared } from "../support/place.ts"
export { looker }

/** A namespace that nobody else has. */
export const freshNamespace = (): string => `test-${randomUUID().slice(0, 12)}`

/** A server of its own, and a proxy in front of it that can break what passes. */
export const behindProxy = (args: ReadonlyArray<string> = []) =>
  Effect.gen(function* () {
    const redis = yield* Effect.acquireRelease(
      Effect.promise(() => startRedis({ args })),
      (redis) => Effect.promise(() => redis.stop())
    )
    const proxy = yield* Effect.acquireRelease(
      Effect.promise(() => startProxy(redis.url)),
      (proxy) => Effect.promise(() => proxy.close())
    )
    return { proxy, redis }
  })

/** A transport of its own for the lifetime of the scope. */
export const transport = ({
  namespace,
  ...client
}: RedisTransport.Options): Effect.Effect<Transport["Service"], TransportError, Scope.Scope> =>
  Effect.map(
    Layer.build(RedisTransport.layerClient({ namespace }).pipe(Layer.provide(Layer.fresh(RedisClient.layer(client))))),
    Context.get(Transport)
  )

export const group = (topic = "orders", subscription = "billing"): Group => ({ topic, partition: 0, subscription })

export const joining = (options: Partial<JoinOptions> = {}): JoinOptions => ({
  group: group(),
  consumer: undefined,
  visibilityTimeout: Duration.seconds(30),
  from: "beginning",
  ownConnection: false,
  ...options
})

/** Joins, and stays. */
export const join = (
  self: Transport["Service"],
  options: Partial<JoinOptions> = {}
): Effect.Effect<Consumer, TransportError, Scope.Scope> =>
  Effect.map(self.join(joining(options)), (consumer) => {
    consumer.keep()
    return consumer
  })

export const millis = Duration.millis

export const limit = (options: Partial<FetchLimit> = {}): FetchLimit => ({
  count: 100,
  bytes: 16 * 1024 * 1024,
  alone: false,
  maxAttempts: 6,
  ...options
})

export const noRetention = { maxLength: undefined, maxAge: undefined }

export const publish = (self: Transport["Service"], ...data: readonly [string, ...ReadonlyArray<string>]) =>
  self.publish(group(), [outgoing(data[0]), ...data.slice(1).map(outgoing)], noRetention)

const outgoing = (text: string) => ({ data: JSON.stringify(text), attributes: undefined })

/** The text that an entry carries. */
export const text = (entry: Entry): string => {
  if (Result.isFailure(entry.content)) throw new Error(entry.content.failure)
  return String(JSON.parse(Buffer.from(entry.content.success.data).toString()))
}

/** Takes one and acks it; how long that took, in milliseconds. */
export const takeOne = (consumer: Consumer) =>
  Effect.gen(function* () {
    const begun = performance.now()
    const { entries } = yield* consumer.fetch(limit({ count: 1 }))
    const took = performance.now() - begun
    const [entry] = entries
    if (entry === undefined) return yield* Effect.die(new Error("nothing was fetched"))
    yield* consumer.settle([{ entry, outcome: { _tag: "Ack" }, repeated: false }])
    return { took, data: text(entry) }
  })

export const settle = (consumer: Consumer, entry: Entry, outcome: Outcome, repeated = false) =>
  Effect.map(consumer.settle([{ entry, outcome, repeated }]), ([settled]) => settled)
export const ack: Outcome = { _tag: "Ack" }

/** Fetches as the runtime does: faults are tried again. */
export const fetching = (consumer: Consumer, options?: Partial<FetchLimit>): Effect.Effect<ReadonlyArray<Entry>> =>
  consumer.fetch(limit(options)).pipe(
    Effect.map(({ entries }) => entries),
    Effect.catch(() => Effect.andThen(Effect.sleep(20), fetching(consumer, options))),
    Effect.timeoutOrElse({ duration: 10_000, orElse: () => Effect.die(new Error("nothing was fetched")) })
  )

/** How many connections transports have. */
export const connections = async (redis: Admin, name = "clutch-"): Promise<number> => {
  const lists = await Promise.all(servers(redis).map((server) => server.client("LIST")))
  return lists.flatMap((list) => String(list).split("\n")).filter((line) => line.includes(` name=${name}`)).length
}

/** Until a transport has the connections that it has by itself: nothing waits for the bell's and the seat's. */
export const connected = (redis: Admin): Effect.Effect<void> =>
  until("it is connected", async () => (await connections(redis)) === connectionsOf(redis))

/** Ids and texts of a stream, but for the first entry. */
export const stored = (redis: Admin, stream: string): Effect.Effect<ReadonlyArray<readonly [string, string]>> =>
  Effect.promise(async () => {
    const entries = await redis.xrange(stream, "-", "+")
    return entries.map(([id, fields]) => [id, String(JSON.parse(fields[1] ?? ""))] as const).slice(1)
  })

/** A fiber's value, or a failure where it takes ten seconds. */
export const joined = <A, E>(fiber: Fiber.Fiber<A, E>): Effect.Effect<A, E> =>
  Effect.timeoutOrElse(Fiber.join(fiber), { duration: 10_000, orElse: () => Effect.die(new Error("nothing happened")) })

/** Until it is so. */
export const until = (what: string, check: () => boolean | Promise<boolean>): Effect.Effect<void> =>
  Effect.promise(async () => {
    const end = performance.now() + 10_000
    while (!(await check())) {
      if (performance.now() > end) throw new Error(`never true: ${what}`)
      await new Promise((resolve) => setTimeout(resolve, 5))
    }
  })

/** Removes what tests wrote under a namespace. */
export const clean = (url: string, namespace: string): Effect.Effect<void> =>
  Effect.scoped(Effect.flatMap(looker(url), (redis) => Effect.promise(() => removeKeys(redis, `${namespace}.*`))))
