/**
 * Thousands of real records through seven subscriptions, three of which call a downstream that fails: `pnpm demo`.
 *
 * On the in-memory log by default; `--redis redis://…` is the same program with another Layer. Ctrl-C drains what is in
 * flight, gives back the rest, and reports what was done until then. The exit code is 1 when the accounts do not add up.
 */
import {
  Agent,
  MemoryTransport,
  type Reclaimer,
  Subscription,
  Topic,
  type Transport,
  type TransportError
} from "@clutch/core"
import { RedisTransport } from "@clutch/redis"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { Clock, Console, Data, Effect, Layer, Option, Redacted, Runtime, Stream } from "effect"
import { CliOutput, Command, Flag } from "effect/cli"
import { Datasets, Feeds, type Row } from "./data.ts"
import { Downstream } from "./downstream.ts"
import { Findings } from "./findings.ts"
import { Ledger } from "./ledger.ts"
import { quietly } from "./logs.ts"
import { deadLetterIds, progress, report } from "./report.ts"
import * as Subscriptions from "./subscriptions.ts"

// -----------------------------------------------------------------------------
// the program, whatever the log
// -----------------------------------------------------------------------------

/** Publishes a feed in batches, in order; between two of them others have their turn, as with a source that takes time. */
const feed = Effect.fnUntraced(function* (topic: Topic.Topic<Row>, rows: ReadonlyArray<Row>) {
  const ledger = yield* Ledger
  yield* Stream.fromIterable(rows).pipe(
    Stream.grouped(250),
    Stream.runForEach((batch) =>
      Topic.publishAll(topic, batch).pipe(
        Effect.andThen(ledger.published(topic.topic, batch.length)),
        Effect.andThen(Effect.yieldNow)
      )
    )
  )
})

/** Feeds everything, then waits until nothing is left to do: first for what publishes to others, then for all. */
const work = Effect.fnUntraced(function* (records: Option.Option<number>) {
  const datasets = yield* Datasets
  const some = (rows: ReadonlyArray<Row>) => rows.slice(0, Option.getOrUndefined(records))
  const feeds = [
    { topic: Feeds.flights, rows: some(datasets.flights) },
    { topic: Feeds.strikes, rows: some(datasets.strikes) },
    { topic: Feeds.quakes, rows: some(datasets.quakes) }
  ]
  yield* progress(Subscriptions.all, feeds)
  yield* Effect.forEach(feeds, ({ topic, rows }) => feed(topic, rows), { concurrency: "unbounded", discard: true })
  yield* Subscription.awaitIdle(Subscriptions.legs)
  yield* Effect.forEach(Subscriptions.all, (one) => Subscription.awaitIdle(one), {
    concurrency: "unbounded",
    discard: true
  })
}, Effect.scoped)

/** Runs the agent around the work; the report comes after it has closed, whether the work ended or was interrupted. */
const demo = Effect.fnUntraced(function* (records: Option.Option<number>) {
  const before = yield* Effect.forEach(Subscriptions.all, (one) => deadLetterIds(one))
  const known = new Set(before.flat())
  const started = yield* Clock.currentTimeMillis
  const told = Effect.gen(function* () {
    const took = (yield* Clock.currentTimeMillis) - started
    const { text, holds } = yield* report({ subscriptions: Subscriptions.all, known, took })
    yield* Console.log(`\n${text}`)
    return holds
  })
  yield* work(records).pipe(
    Effect.provide(Agent.layer("demo", Subscriptions.all)),
    Effect.onInterrupt(() =>
      Effect.andThen(
        Console.log("\ninterrupted: what was in flight is done or given back"),
        // a log that is gone must not keep the process alive
        told.pipe(Effect.timeoutOption("3 seconds"), Effect.ignore)
      )
    )
  )
  return yield* told
})

// -----------------------------------------------------------------------------
// the command line
// -----------------------------------------------------------------------------

/** Said already, in words for people: the exit code is all that is left. */
class Failed extends Data.TaggedError("Failed") {
  override readonly [Runtime.errorReported] = false
}

const failed = (text: string) => Effect.andThen(Console.error(`demo: ${text}`), Effect.fail(new Failed()))

interface Log {
  readonly layer: Layer.Layer<Transport | Reclaimer, TransportError>
  readonly name: string
  readonly after: string
}

/** Host and port: a URL may hold a password. */
const place = (url: Redacted.Redacted): string => {
  const { host } = new URL(Redacted.value(url))
  return host
}

const logOf = (redis: Option.Option<Redacted.Redacted>, namespace: Option.Option<string>): Log => {
  if (Option.isNone(redis)) return { layer: MemoryTransport.layer, name: "the in-memory log", after: "" }
  const name = Option.getOrElse(namespace, () => `demo-${crypto.randomUUID().slice(0, 8)}`)
  return {
    // a demo that waits longer than people do looks broken
    layer: RedisTransport.layer({ url: redis.value, namespace: name, connectTimeout: "3 seconds" }),
    name: `Redis at ${place(redis.value)}, namespace ${name}`,
    after: `kept       everything is in Redis under ${name}.*: go on with --namespace ${name}, or delete these keys`
  }
}

const isRedisUrl = (url: Redacted.Redacted): boolean =>
  URL.canParse(Redacted.value(url)) && /^rediss?:$/.test(new URL(Redacted.value(url)).protocol)

const command = Command.make(
  "demo",
  {
    redis: Flag.Redacted("redis").pipe(
      Flag.filter(isRedisUrl, () => "redis://host:port or rediss://host:port"),
      Flag.withMetavar("url"),
      Flag.withDescription("Run on this Redis instead of in memory"),
      Flag.optional
    ),
    namespace: Flag.String("namespace").pipe(
      Flag.withMetavar("name"),
      Flag.withDescription("With --redis: prefix of every key. Default: a random one. The keys are kept"),
      Flag.optional
    ),
    records: Flag.Int("records").pipe(
      Flag.filter(
        (n) => n > 0,
        () => "at least 1"
      ),
      Flag.withMetavar("n"),
      Flag.withDescription("Use only the first n records of each of the three data sets"),
      Flag.optional
    ),
    verbose: Flag.Boolean("verbose").pipe(
      Flag.withDescription("Show the runtime's log line for every failure"),
      Flag.withDefault(false)
    )
  },
  Effect.fnUntraced(function* ({ redis, namespace, records, verbose }) {
    if (Option.isSome(namespace) && Option.isNone(redis)) return yield* failed("--namespace needs --redis")
    const log = logOf(redis, namespace)
    yield* Console.log(`flights, bird strikes and earthquakes on ${log.name}`)
    const holds = yield* demo(records).pipe(
      Effect.ensuring(log.after === "" ? Effect.void : Console.log(log.after)),
      Effect.provide([log.layer, Datasets.layer, Downstream.layerFlaky, Findings.layer, Ledger.layer]),
      Effect.provide(quietly(verbose)),
      Effect.catch((error) => failed(`${log.name}: ${error.message.split("\n", 1)[0]}`))
    )
    if (!holds) return yield* failed("the accounts do not add up, see above")
  })
).pipe(
  Command.withDescription("Streams real records through Clutch: retries, dead letters and isolation, with a report"),
  Command.withExamples([
    { command: "pnpm demo", description: "In memory" },
    { command: "pnpm demo --redis redis://127.0.0.1:6379", description: "The same on Redis" }
  ])
)

/** A mistake gets its sentence; the whole help would push it off the screen. */
const presenter = CliOutput.layerPresenter({
  present: (event) =>
    event._tag === "InvalidInvocation"
      ? Effect.andThen(
          Effect.forEach(event.errors, (error) =>
            Console.error(`demo: ${error.message.replaceAll(/\s*\n\n\s*/g, ". ").replaceAll(/\s*\n\s*/g, " ")}`)
          ),
          Console.error("demo: --help lists the flags")
        )
      : CliOutput.defaultPresenter.present(event)
})

NodeRuntime.runMain(Command.run(command, { version: "0.1.0" }).pipe(Effect.provide([NodeServices.layer, presenter])))
