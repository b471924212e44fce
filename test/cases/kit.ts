/**
 * What the cases on Redis work with: servers of their own, names of their own, recorded handlers, and waiting that is bounded.
 *
 * A case waits for a signal or polls for a state; it never sleeps to get lucky.
 */
import { Delivery, type Message, type PublishError, type Reclaimer, Topic, type Transport } from "@clutch/core"
import { RedisTransport } from "@clutch/redis"
import { it as effectIt } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Metric from "effect/Metric"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import { randomUUID } from "node:crypto"
import { setTimeout as sleep } from "node:timers/promises"
import * as Place from "../support/place.ts"
import { type Proxy, startProxy } from "../support/proxy.ts"
import { type RedisServer, startRedis } from "../support/redis.ts"

export { admin, calls, connectionsOf, flush, limitMemory, masters, own, servers, shared } from "../support/place.ts"
export type Admin = Place.Admin

export type Worker = Context.Context<Transport | Reclaimer>

/** Registers a case, in real time. What it logs is dropped, unless it collects it. */
export const test = (
  name: string,
  body: () => Effect.Effect<unknown, unknown, Scope.Scope>,
  timeout = 60_000
): void => {
  const quiet = process.env["CLUTCH_LOG"] === undefined ? Logger.layer([]) : Layer.empty
  effectIt.live(name, () => Effect.provide(Effect.suspend(body), quiet), timeout)
}

export const fresh = (prefix: string): string => `${prefix}-${randomUUID().slice(0, 8)}`

/** A topic of texts that nobody else has. */
export const texts = (): Topic.Topic<string> => Topic.make(fresh("orders"), { schema: Schema.String })

// -----------------------------------------------------------------------------
// servers
// -----------------------------------------------------------------------------

/** A server that the case may stop, flush, fill or cut. */
export const privateServer = (...args: ReadonlyArray<string>): Effect.Effect<RedisServer, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.promise(() => startRedis({ args })),
    (server) => Effect.promise(() => server.stop())
  )

export const proxyTo = (url: string): Effect.Effect<Proxy, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.promise(() => startProxy(url)),
    (proxy) => Effect.promise(() => proxy.close())
  )

/** Every key of a namespace, sorted. */
export const keysOf = (redis: Admin, namespace: string): Promise<ReadonlyArray<string>> =>
  Place.keysOf(redis, `${namespace}.*`)

/** A transport and a reclaimer with connections of their own, as a process has them, for the lifetime of the scope. */
export const worker = (options: RedisTransport.Options): Effect.Effect<Worker, never, Scope.Scope> =>
  Effect.orDie(Layer.build(Layer.fresh(RedisTransport.layer(options))))

/** Runs something as that worker. */
export const as =
  (worker: Worker) =>
  <A, E, R>(self: Effect.Effect<A, E, R>): Effect.Effect<A, E, Exclude<R, Transport | Reclaimer>> =>
    Effect.provide(self, worker)

/** Name, value, name, value, … as a record of texts. */
const record_ = (row: ReadonlyArray<unknown>): Readonly<Record<string, string>> => {
  const record: Record<string, string> = {}
  for (let i = 0; i + 1 < row.length; i += 2) record[String(row[i])] = String(row[i + 1])
  return record
}

/** `XINFO GROUPS` or `CONSUMERS` as records; none where the key or the group is absent. */
export const xinfo = async (
  redis: Admin,
  kind: "GROUPS" | "CONSUMERS",
  ...args: ReadonlyArray<string>
): Promise<ReadonlyArray<Readonly<Record<string, string>>>> => {
  const rows: unknown = await redis.call("XINFO", kind, ...args).catch(() => [])
  return Array.isArray(rows) ? rows.map((row: ReadonlyArray<unknown>) => record_(row)) : []
}

/** A line of `INFO`, as a number; of a cluster, the sum of its masters'. */
export const info = async (redis: Admin, section: string, field: string): Promise<number> => {
  const texts = await Promise.all(Place.masters(redis).map((master) => master.info(section)))
  return texts
    .map((text) => Number(new RegExp(`^${field}:(\\d+)`, "m").exec(text)?.[1] ?? Number.NaN))
    .reduce((sum, value) => sum + value)
}

/** `CLIENT LIST` of every server, of connections whose name begins so. */
export const clients = async (redis: Admin, name: string): Promise<ReadonlyArray<Readonly<Record<string, string>>>> =>
  (await Promise.all(Place.servers(redis).map((server) => server.call("CLIENT", "LIST"))))
    .flatMap((list) => String(list).trim().split("\n"))
    .map((line) =>
      Object.fromEntries(
        line.split(" ").map((pair) => [pair.slice(0, pair.indexOf("=")), pair.slice(pair.indexOf("=") + 1)])
      )
    )
    .filter((client) => client["name"]?.startsWith(name) === true)

/** Commands a second that the server processed while `millis` passed, those inside scripts included; the asking is left out. */
export const rate = async (redis: Admin, millis: number): Promise<number> => {
  const begun = performance.now()
  const before = await info(redis, "stats", "total_commands_processed")
  await sleep(millis)
  const after = await info(redis, "stats", "total_commands_processed")
  return ((after - before - Place.masters(redis).length) * 1000) / (performance.now() - begun)
}

// -----------------------------------------------------------------------------
// waiting
// -----------------------------------------------------------------------------

/** Polls until it is so. */
export const until = (
  what: string | (() => string),
  check: () => boolean | Promise<boolean>,
  millis = 20_000
): Effect.Effect<void> =>
  Effect.promise(async () => {
    const end = performance.now() + millis
    while (!(await check())) {
      if (performance.now() > end)
        throw new Error(`not within ${millis} ms: ${typeof what === "string" ? what : what()}`)
      await sleep(10)
    }
  })

export const untilEffect = <E, R>(
  what: string,
  check: Effect.Effect<boolean, E, R>,
  millis = 20_000
): Effect.Effect<void, E, R> =>
  Effect.gen(function* () {
    const end = performance.now() + millis
    while (!(yield* check)) {
      if (performance.now() > end) return yield* Effect.die(new Error(`not within ${millis} ms: ${what}`))
      yield* Effect.sleep(10)
    }
  })

/** A number below which `share` of the samples lie. */
export const percentile = (samples: ReadonlyArray<number>, share: number): number =>
  [...samples].toSorted((a, b) => a - b)[Math.min(samples.length - 1, Math.ceil(samples.length * share) - 1)] ??
  Number.NaN

// -----------------------------------------------------------------------------
// observing
// -----------------------------------------------------------------------------

export interface Call {
  readonly data: string
  readonly attempt: number
  readonly stream: string
  readonly consumer: string
  readonly originalId: string
  /** Milliseconds since the epoch by the machine's clock, which is the server's too. */
  readonly at: number
  readonly firstDelivered: number
}

export interface Recorder {
  readonly calls: Array<Call>
  readonly data: () => ReadonlyArray<string>
  readonly of: (data: string) => ReadonlyArray<Call>
  /** A handler that records its call, then does as told. */
  readonly handler: <E = never, R = never>(
    then?: (call: Call) => Effect.Effect<unknown, E, R>
  ) => (message: Message<string>) => Effect.Effect<void, E, R | Delivery>
}

export const recorder = (): Recorder => {
  const calls: Array<Call> = []
  return {
    calls,
    data: () => calls.map(({ data }) => data),
    of: (data) => calls.filter((call) => call.data === data),
    handler: (then) =>
      Effect.fnUntraced(function* ({ data }: Message<string>) {
        const { attempt, consumer, firstDelivered, originalId, stream } = yield* Delivery
        const call = { data, attempt, stream, consumer, originalId, firstDelivered: firstDelivered.epochMilliseconds }
        calls.push({ ...call, at: Date.now() })
        if (then !== undefined) yield* then({ ...call, at: Date.now() })
      })
  }
}

/** Fails on the first attempt of each message. */
export const failsOnce = ({ attempt }: Call): Effect.Effect<void, string> =>
  attempt === 1 ? Effect.fail("not this time") : Effect.void

/** What became of a publish. */
export const outcome = <A>(exit: Exit.Exit<Message<A>, PublishError>): string =>
  Exit.isSuccess(exit)
    ? "stored"
    : Option.match(Exit.findErrorOption(exit), { onNone: () => "defect", onSome: ({ reason }) => reason._tag })

export interface Line {
  readonly level: string
  readonly text: string
}

/** Collects what is logged below it. */
export const collecting = (): { readonly lines: Array<Line>; readonly layer: Layer.Layer<never> } => {
  const lines: Array<Line> = []
  const logger = Logger.make<unknown, void>(({ logLevel, message }) => {
    lines.push({ level: logLevel, text: Array.isArray(message) ? message.map(String).join(" ") : String(message) })
  })
  return { lines, layer: Logger.layer([logger]) }
}

/** Counts fibers by an observer that every fork calls, so that an orphan is counted, not inferred. */
export const fibers = () => {
  let live = 0
  let started = 0
  const observer: Metric.FiberRuntimeMetricsService = {
    recordFiberStart: () => {
      live += 1
      started += 1
    },
    recordFiberEnd: () => {
      live -= 1
    }
  }
  return {
    live: () => live,
    started: () => started,
    observing: <A, E, R>(self: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
      Effect.provideService(self, Metric.FiberRuntimeMetrics, observer)
  }
}

/** Each of `expected` exactly once, in any order: what is missing, and what came more than once. */
export const unlike = (actual: ReadonlyArray<string>, expected: ReadonlyArray<string>) => ({
  missing: expected.filter((one) => !actual.includes(one)),
  doubled: [...new Set(actual.filter((one, at) => actual.indexOf(one) !== at))],
  unexpected: actual.filter((one) => !expected.includes(one))
})

export const eachOnce = { missing: [], doubled: [], unexpected: [] }

export const range = (count: number): ReadonlyArray<number> => Array.from({ length: count }, (_, i) => i)
